"""Decode, resize and normalise: defined once for training, evaluation and serving."""
