"""The stages of the pipeline, and what they share."""

from PIL import Image

# Pillow's own limit is one for all and fixed. Ours is dataset.max_pixels: ingestion checks it after each
# header, and what later stages open has passed there.
Image.MAX_IMAGE_PIXELS = None
