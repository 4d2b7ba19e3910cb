"""A small model server for development and tests, which speaks TensorFlow Serving's API on this machine."""
