"""User code of tfx Transform: the graph from an Example's bytes to the pixels that the network sees.

Everything that needs the whole training split (channel moments, pixel counts a class) is an analyzer
here; its result becomes a constant of the graph. The float normalisation itself is the network's first
layer, so that pixels travel as uint8 until they are on the device.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter

from components.dataset import features, transformed
from components.imaging.decode import decode_mask
from components.imaging.network_input import read_content, read_input
from components.imaging.reading import InputSize, Reading
from components.imaging.resize import resize_mask
from components.transform.config import Normalization, TransformConfig

# Per-channel moments of ImageNet's training images on the 0…1 scale, as the pretrained networks of
# torchvision and keras.applications ("torch" mode) use them.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def preprocessing_fn(
    inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Builds the transform graph.

    Args:
        inputs: the Example's features, each [N] or, the pixels of its classes, [N, C]; of these, the encoded
            image, the encoded mask and those pixels are used.
        custom_config: ``transform``, a ``TransformConfig`` as JSON, and ``reading``, a ``Reading`` as JSON.
            What the normalisation must be for a pretrained encoder is not known here, so null is ``unit``.

    Returns:
        The features named in ``components.dataset.transformed``.
    """
    config = TransformConfig.model_validate_json(custom_config["transform"])
    reading = TypeAdapter(Reading).validate_json(custom_config["reading"])
    size = config.input_size

    images = inputs[features.IMAGE_ENCODED]
    masks = inputs[features.MASK_ENCODED]

    def image_and_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels, *sides = read_input(encoded, reading, size)
        return tf.io.serialize_tensor(pixels), *(tf.cast(side, tf.int64) for side in sides)

    pixels, heights, widths = tf.map_fn(
        image_and_size, images, fn_output_signature=(tf.string, tf.int64, tf.int64)
    )
    class_ids = tf.map_fn(
        lambda encoded: tf.io.serialize_tensor(resize_mask(decode_mask(encoded), size)),
        masks,
        fn_output_signature=tf.string,
    )
    class_pixels = tft.sum(inputs[features.CLASS_PIXELS], reduce_instance_dims=False)
    outputs = {
        transformed.IMAGE: pixels,
        transformed.IMAGE_HEIGHT: heights,
        transformed.IMAGE_WIDTH: widths,
        transformed.MASK: class_ids,
        transformed.CLASS_PIXELS: _repeat(class_pixels, images),
    }
    scale, offset = _normalization(config.normalization, images, size, reading)
    outputs[transformed.PIXEL_SCALE] = _repeat(scale, images)
    outputs[transformed.PIXEL_OFFSET] = _repeat(offset, images)
    return outputs


def _normalization(
    normalization: Normalization | None, images: tf.Tensor, size: InputSize, reading: Reading
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and offset, float32 [channels] each: a network sees ``pixels * scale + offset``."""
    match normalization:
        case "unit" | None:
            mean, deviation = tf.zeros(reading.channels), tf.fill([reading.channels], 255.0)
        case "signed":
            mean = deviation = tf.fill([reading.channels], 127.5)
        case "imagenet":
            mean, deviation = 255.0 * tf.constant(_IMAGENET_MEAN), 255.0 * tf.constant(_IMAGENET_DEVIATION)
        case "dataset":
            mean, deviation = _channel_moments(images, size, reading)
            # A channel without any contrast (alpha, mostly) must not divide by zero.
            deviation = tf.maximum(deviation, 1.0)
    return 1.0 / deviation, -mean / deviation


def _channel_moments(images: tf.Tensor, size: InputSize, reading: Reading) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation over all resized training pixels, 0…255: float32 [channels] each.

    Padding is no pixel of any image and stays out of both.
    """
    channels = reading.channels

    def histogram(encoded: tf.Tensor) -> tf.Tensor:
        content = read_content(encoded, reading, size).pixels
        values = tf.cast(tf.reshape(content, [-1, channels]), tf.int32) + 256 * tf.range(channels)
        return tf.math.bincount(
            tf.reshape(values, [-1]),
            minlength=256 * channels,
            maxlength=256 * channels,
            dtype=tf.int64,
        )

    counts = tf.map_fn(histogram, images, fn_output_signature=tf.TensorSpec([256 * channels], tf.int64))
    # Counts, not averages: they add up exactly over batches and workers, whatever the size of the pictures.
    counts = tf.reshape(tft.sum(counts, reduce_instance_dims=False), [channels, 256])
    counts, values = tf.cast(counts, tf.float64), tf.range(256, dtype=tf.float64)
    total = tf.reduce_sum(counts, axis=1)
    mean = tf.reduce_sum(counts * values, axis=1) / total
    squares = tf.reduce_sum(counts * (values - mean[:, tf.newaxis]) ** 2, axis=1)
    return tf.cast(mean, tf.float32), tf.cast(tf.sqrt(squares / total), tf.float32)


def _repeat(constant: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Gives every row of a batch the same constant: [K] to [N, K]."""
    return tf.repeat(constant[tf.newaxis], tf.shape(batch)[0], axis=0)
