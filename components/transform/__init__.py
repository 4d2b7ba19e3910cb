"""The Transform stage: one graph from an Example's bytes to pixels, for training, evaluation and serving."""
