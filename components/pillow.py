"""Pillow's ``Image`` with its own limit of pixels raised, one for all and fixed, and its own words silenced.

Ours is ``dataset.max_pixels``: ingestion checks it after each header, and what later stages open has passed
there. Pillow's is for what has no pixels to check yet: a GIF of 200 bytes takes memory for the sizes of its
frames as it is opened. What is wrong with a file is said once, by whoever reads it, and with the file's name.
"""

import logging
import warnings

from PIL import Image

from components.imaging.reading import MOST_PIXELS

# More than twice as many are an error.
Image.MAX_IMAGE_PIXELS = (MOST_PIXELS + 1) // 2
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

__all__ = ["Image"]
