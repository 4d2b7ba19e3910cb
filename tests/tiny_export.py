"""A model that the Trainer's export writes in a second: two classes by brightness, no training."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from components.dataset import features, transformed
from components.dataset.labels import LabelSet
from components.imaging.network_input import read_input
from components.imaging.reading import RGB, InputSize, Reading
from components.serving.config import ServingLimits
from components.trainer.export import export

LABELS = LabelSet(names=("dark", "bright · heiß"), colors=((0, 0, 0), (250, 200, 10)), raw_values=(0, 255))
SIZE = InputSize(8, 8, "stretch")


class _Graph:
    """As much of a ``TFTransformOutput`` as the export asks for."""

    def __init__(self, size: InputSize, reading: Reading) -> None:
        self._size = size
        self._reading = reading

    def transform_features_layer(self) -> keras.Layer:
        def image_and_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            pixels, *sides = read_input(encoded, self._reading, self._size)
            return tf.io.serialize_tensor(pixels), *(tf.cast(side, tf.int64) for side in sides)

        def transform(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            pixels, heights, widths = tf.map_fn(
                image_and_size,
                inputs[features.IMAGE_ENCODED],
                fn_output_signature=(tf.string, tf.int64, tf.int64),
            )
            return {
                transformed.IMAGE: pixels,
                transformed.IMAGE_HEIGHT: heights,
                transformed.IMAGE_WIDTH: widths,
            }

        return transform


def _by_brightness(input_shape: tuple[int | None, int | None, int]) -> keras.Model:
    channels = input_shape[-1]
    classify = keras.layers.Conv2D(2, 1)
    network = keras.Sequential(
        [keras.Input(input_shape, dtype="uint8"), keras.layers.Rescaling(1 / 255), classify]
    )
    weights = np.stack([np.full(channels, -1.0), np.full(channels, 1.0)], axis=-1)
    classify.set_weights([weights.reshape(1, 1, channels, 2), np.array([channels / 2, -channels / 2])])
    return network


def export_tiny_model(
    directory: Path,
    limits: ServingLimits,
    reading: Reading = RGB,
    size: InputSize = SIZE,
    stride: int | None = None,
    network: keras.Model | None = None,
) -> Path:
    """Writes a SavedModel; returns its directory.

    Without a network it calls a pixel bright where it is, in pictures of any size where there is a stride.
    """
    if network is None:
        sides = (size.height, size.width) if stride is None else (None, None)
        network = _by_brightness((*sides, reading.channels))
    graph, recipe = _Graph(size, reading), {"name": "tiny"}
    export(network, graph, size, LABELS, limits, reading, recipe, directory, stride=stride)
    return directory
