"""One page a run: what came out, how good it is, and what it was made from."""
