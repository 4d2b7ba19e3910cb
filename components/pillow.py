"""Pillow's ``Image`` with its own limit of pixels lifted, one for all and fixed, and its own words silenced.

Ours is ``dataset.max_pixels``: ingestion checks it after each header, and what later stages open has passed
there. What is wrong with a file is said once, by whoever reads it, and with the file's name.
"""

import logging
import warnings

from PIL import Image

Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

__all__ = ["Image"]
