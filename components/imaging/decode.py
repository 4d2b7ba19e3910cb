"""Encoded images and masks to pixels, and class ids back to PNG."""

import tensorflow as tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF or BMP, whatever its file was called.

    Pixels come as they are stored: an EXIF orientation is not applied, alpha is dropped, of an animated
    GIF the first frame is taken.

    Args:
        encoded: string [].

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.io.decode_image(encoded, channels=3, dtype=tf.uint8, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def decode_mask(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one mask of an Example.

    Args:
        encoded: string [], a single-channel 8-bit PNG.

    Returns:
        uint8 [height, width] class ids.
    """
    return tf.io.decode_png(encoded, channels=1, dtype=tf.uint8)[:, :, 0]


def encode_mask(class_ids: tf.Tensor) -> tf.Tensor:
    """Encodes class ids, uint8 [height, width], as a single-channel PNG, string []."""
    # Large areas of one value compress well at any level; the fastest one keeps the server answering.
    return tf.io.encode_png(class_ids[:, :, tf.newaxis], compression=1)
