"""A second look at a pushed model: which one, on which pairs, and what the gate would say."""
