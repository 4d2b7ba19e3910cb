"""Pixels: decode and guard in TensorFlow's graph, resizing; and pictures for people, without TensorFlow."""
