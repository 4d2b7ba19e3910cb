"""Pixels: decoding, resizing to the network's input and back, encoding; TensorFlow graph code."""
