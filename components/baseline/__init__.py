"""The Baseline stage: the model that is being served now, as an artifact to compare a candidate with."""
