"""Ingestion: pairs of image and mask files become tf.Examples, or are set aside with a reason."""
