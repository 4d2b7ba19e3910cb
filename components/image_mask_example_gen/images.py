"""Images: whatever passes here, ``tf.io.decode_image`` will read.

Pixels are taken as stored: an EXIF orientation is ignored, here as in training and serving.
"""

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_mask_example_gen import jpeg
from components.image_mask_example_gen.pictures import as_png, open_picture, rejecting_damage
from components.image_mask_example_gen.rejections import InputRejectedError, Reason


@dataclass(frozen=True)
class EncodedImage:
    """Bytes that TensorFlow decodes to ``uint8 [height, width, 3]``."""

    data: bytes
    format: str
    """``jpeg``, ``png``, ``gif`` or ``bmp``."""
    height: int
    width: int


def check_image(data: bytes, max_pixels: int) -> EncodedImage:
    """Returns the image, its bytes unchanged if TensorFlow decodes them, else as a lossless PNG.

    JPEGs, the bulk of most datasets, are not decoded: their structure is walked and one pixel asked for,
    which finds what libjpeg would refuse at a tenth of the cost.

    Raises:
      InputRejectedError: the file is damaged, no picture, or has more than ``max_pixels`` pixels.
    """
    picture = open_picture(data, max_pixels)
    if picture.format in ("JPEG", "MPO"):
        if _is_whole_jpeg(data) or _decode(data) is not None:
            return _unchanged(data, "jpeg", picture)
    elif picture.format == "PNG":
        pixels = _decode(data)
        if pixels is not None and pixels.shape[:2] == (picture.height, picture.width):
            return _unchanged(data, "png", picture)
    elif picture.format in ("GIF", "BMP"):
        with rejecting_damage(data):
            frames, expected = getattr(picture, "n_frames", 1), np.asarray(picture.convert("RGB"))
        # TensorFlow misreads a BMP's palette and would decode all frames of a GIF.
        if frames == 1 and np.array_equal(_decode(data), expected):
            return _unchanged(data, picture.format.lower(), picture)
    return _reencoded(data, picture)


def _unchanged(data: bytes, image_format: str, picture: Image.Image) -> EncodedImage:
    return EncodedImage(data, image_format, picture.height, picture.width)


def _is_whole_jpeg(data: bytes) -> bool:
    if jpeg.find_defect(data) is not None:
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


def _reencoded(data: bytes, picture: Image.Image) -> EncodedImage:
    encoded = as_png(data, picture)
    pixels = _decode(encoded)
    if pixels is None:
        raise InputRejectedError(
            Reason.NOT_DECODABLE, "TensorFlow does not decode it, not even re-encoded as PNG"
        )
    return EncodedImage(encoded, "png", pixels.shape[0], pixels.shape[1])
