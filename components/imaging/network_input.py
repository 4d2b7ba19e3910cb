"""From an image's bytes to the pixels that the network sees: of training, evaluation and serving alike."""

from typing import NamedTuple

import tensorflow as tf

from components.imaging.decode import decode_image, decode_reduced, exif_orientation, turned
from components.imaging.reading import InputSize, Reading
from components.imaging.resize import content_area, pad_image, resize_content


class NetworkInput(NamedTuple):
    """A picture as the network sees it, and its own size."""

    pixels: tf.Tensor
    """uint8 [h, w, channels]"""
    height: tf.Tensor
    """int32 []: of the stored picture, or of the upright one."""
    width: tf.Tensor
    """int32 []"""


def read_input(encoded: tf.Tensor, reading: Reading, size: InputSize) -> NetworkInput:
    """Decodes one image and brings it to the network's input size.

    The same as `decode_image` and then `resize_image`, but that a JPEG far larger than the network's input is
    decoded at a fraction of its size, and that a picture is turned upright when it has become small: pixels
    differ by the roundings, and of such a JPEG by what its reduction leaves of them.

    Args:
        encoded: string [].
        reading: how, as for `decode_image`.
        size: the network's input.

    Returns:
        Its pixels are [size.height, size.width, channels]; with ``native`` as large as scaling makes them.
    """
    content = read_content(encoded, reading, size)
    if size.keeps_pixels:
        return content
    area = content_area(size, content.height, content.width)
    return content._replace(pixels=pad_image(content.pixels, area, size))


def read_content(encoded: tf.Tensor, reading: Reading, size: InputSize) -> NetworkInput:
    """The same without what a letterbox pads."""
    if size.keeps_pixels:
        image = decode_image(encoded, reading)
        return NetworkInput(image, tf.shape(image)[0], tf.shape(image)[1])
    orientation = exif_orientation(encoded) if reading.upright else None

    def upright(sides: tf.Tensor) -> tf.Tensor:
        """Of a stored picture's height and width those of the upright one, and the other way round."""
        return sides if orientation is None else tf.where(orientation >= 5, tf.reverse(sides, [0]), sides)

    def wanted(sides: tf.Tensor) -> tf.Tensor:
        return upright(content_area(size, *tf.unstack(upright(sides))).sides)

    stored = decode_reduced(encoded, reading, wanted)
    covered = tf.cast(stored.sides, tf.float32) / tf.cast(stored.reduction, tf.float32)
    content = resize_content(stored.pixels, wanted(stored.sides), covered)
    height, width = tf.unstack(upright(stored.sides))
    return NetworkInput(content if orientation is None else turned(content, orientation), height, width)
