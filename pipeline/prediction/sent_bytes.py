"""What is sent of an image file: itself where a server reads it, else the PNG that ingestion makes of it."""

import sys

from components.image_mask_example_gen import jpeg, png
from components.image_mask_example_gen.pictures import as_png, open_picture

_NO_LIMIT = sys.maxsize
"""The model has its own, and says so."""


def sent_bytes(data: bytes) -> bytes:
    """Returns a file's bytes as a served model reads them, with the very pixels that training had.

    JPEG and PNG go as they are, damaged ones too: the server says what is wrong with them. So do GIFs of one
    frame. All else that ingestion takes (TIFF, WebP, JPEG 2000, Netpbm, BMP, whose palettes TensorFlow
    misreads, the first frame of an animation) goes as PNG. Ingestion also re-encodes the odd JPEG, PNG or
    GIF that TensorFlow does not read as Pillow does; without TensorFlow that cannot be known.

    Raises:
        InputRejectedError: no such picture, or a damaged one.
    """
    if jpeg.has_signature(data) or png.has_signature(data):
        return data
    picture = open_picture(data, _NO_LIMIT)
    if picture.format == "GIF" and getattr(picture, "n_frames", 1) == 1:
        return data
    return as_png(data, picture)
