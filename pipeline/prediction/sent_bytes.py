"""What is sent of an image file: itself where a server reads it, else the PNG that ingestion makes of it."""

import sys

from components.image_mask_example_gen.files import JPEG_SIGNATURE, PNG_SIGNATURE, as_png, open_picture

_NO_LIMIT = sys.maxsize
"""The model has its own, and says so."""


def sent_bytes(data: bytes) -> bytes:
    """Returns a file's bytes as a served model reads them, with the very pixels that training had.

    JPEG and PNG go as they are, damaged ones too: the server says what is wrong with them. All else that
    ingestion takes (TIFF, WebP, JPEG 2000, Netpbm, the first frame of a GIF, BMP, whose palettes TensorFlow
    misreads) goes as PNG. Ingestion also re-encodes the odd JPEG or PNG that TensorFlow does not read as
    Pillow does; without TensorFlow that cannot be known.

    Raises:
        InputRejectedError: no such picture, or a damaged one.
    """
    if data.startswith((JPEG_SIGNATURE, PNG_SIGNATURE)):
        return data
    return as_png(data, open_picture(data, _NO_LIMIT))
