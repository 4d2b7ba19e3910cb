"""Images: whatever passes here, TensorFlow decodes, in training and serving alike.

Pixels are taken as stored: an EXIF orientation is ignored, here as there.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_mask_example_gen.files import (
    InputRejectedError,
    as_png,
    decode,
    find_defect,
    read_picture,
)
from components.image_mask_example_gen.report import Reason


@dataclass(frozen=True)
class EncodedImage:
    """Bytes that TensorFlow decodes to ``uint8 [height, width, 3]``."""

    data: bytes
    format: str
    """``jpeg``, ``png`` or ``bmp``."""
    height: int
    width: int


def read_image(path: Path, max_pixels: int) -> EncodedImage:
    """Reads an image: its bytes unchanged if the model takes them, else as a lossless PNG.

    Raises:
      InputRejectedError: the file is damaged, no picture, or has more than ``max_pixels`` pixels.
    """
    data, picture = read_picture(path, max_pixels)
    if kept := _format_to_keep(data, picture):
        return EncodedImage(data, kept, picture.height, picture.width)
    data = as_png(data, picture)
    pixels = _decode(data)
    if pixels is None:
        raise InputRejectedError(
            Reason.NOT_DECODABLE, "TensorFlow does not decode it, not even re-encoded as PNG"
        )
    return EncodedImage(data, "png", pixels.shape[0], pixels.shape[1])


def _format_to_keep(data: bytes, picture: Image.Image) -> str | None:
    """The format that stays as it is, None where the bytes will not do.

    JPEGs, the bulk of most datasets, are not decoded: their structure is walked and one pixel asked for,
    which finds what libjpeg would refuse at a tenth of the cost.
    """
    match picture.format:
        case "JPEG" | "MPO":
            return "jpeg" if _is_whole_jpeg(data) or _decode(data) is not None else None
        case "PNG":
            pixels = _decode(data)
            fits = pixels is not None and pixels.shape[:2] == (picture.height, picture.width)
            return "png" if fits else None
        case "BMP":
            # TensorFlow misreads a palette.
            same = np.array_equal(_decode(data), np.asarray(decode(data, picture, "RGB")))
            return "bmp" if same else None
    return None


def _is_whole_jpeg(data: bytes) -> bool:
    if find_defect(data) is not None:
        return False
    try:
        tf.io.decode_and_crop_jpeg(data, _one_pixel(), channels=3)
    except tf.errors.OpError:
        return False
    return True


@functools.cache
def _one_pixel() -> tf.Tensor:
    # Made once: turning a list into a tensor would cost more than the decoding.
    return tf.constant([0, 0, 1, 1])


def _decode(data: bytes) -> np.ndarray | None:
    """uint8 [height, width, 3] as training and serving will see it, None if TensorFlow cannot."""
    try:
        return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.OpError:
        return None
