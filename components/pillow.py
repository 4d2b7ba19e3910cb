"""Pillow without a limit of its own, which is one for all and fixed.

Ours is ``dataset.max_pixels``: ingestion checks it after each header, and what later stages open has passed
there.
"""

from PIL import Image

Image.MAX_IMAGE_PIXELS = None

__all__ = ["Image"]
