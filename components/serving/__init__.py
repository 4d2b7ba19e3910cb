"""Serving: a small server that speaks TensorFlow Serving's API, its client, and what both stand on."""
