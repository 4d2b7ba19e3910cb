"""Encoded images and masks to pixels, and class ids back to PNG."""

import tensorflow as tf

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_image(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes one JPEG, PNG or BMP, whatever its file was called.

    Pixels come as they are stored: an EXIF orientation is not applied.

    Args:
        encoded: string [].
        channels: 1 is luma (ITU-R BT.601, as ``tf.image.rgb_to_grayscale`` weighs it), the same for every
            format; 3 is RGB without alpha; 4 is RGBA, opaque (255) where the file has no alpha. Of these
            formats only PNG has one: a BMP's fourth byte is unused.

    Returns:
        uint8 [height, width, channels].
    """
    # Asked for 1 or 4 channels itself, TensorFlow refuses some formats.
    if channels == 4:
        return _decode_rgba(encoded)
    image = _decode_rgb(encoded)
    return tf.image.rgb_to_grayscale(image) if channels == 1 else image


def _decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(encoded, channels=3, dtype=tf.uint8, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_rgba(encoded: tf.Tensor) -> tf.Tensor:
    def opaque() -> tf.Tensor:
        return tf.pad(
            _decode_rgb(encoded), [[0, 0], [0, 0], [0, 1]], constant_values=tf.constant(255, tf.uint8)
        )

    is_png = tf.strings.substr(encoded, 0, len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
    return tf.cond(is_png, lambda: tf.io.decode_png(encoded, channels=4), opaque)


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
