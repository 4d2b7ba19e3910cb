"""From TFRecords to pairs of uint8 pixels, by the transform graph or as Transform has written them."""

import os
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_transform as tft

from components.dataset import features, transformed
from components.imaging.reading import InputSize
from components.trainer.config import Constants

Pair = tuple[tf.Tensor, tf.Tensor]
"""An image and its class ids, or a batch of both."""

_DECODE_BATCH = 4
"""Examples a call of the transform graph: enough to hide the call, few enough to fill every core."""


def count_examples(files: Sequence[str], compression: str = "") -> int:
    """Counts the records of some TFRecord files."""
    records = tf.data.TFRecordDataset(list(files), compression_type=compression)
    return int(records.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))


def read_constants(graph: tft.TFTransformOutput) -> Constants:
    """Reads the constants of the transform graph; they are the same for whichever example is fed to it."""
    layer = graph.transform_features_layer()
    pixel = tf.io.encode_png(tf.zeros([1, 1, 1], tf.uint8))[tf.newaxis]

    @tf.function(autograph=False)
    def constants() -> list[tf.Tensor]:
        outputs = layer({features.IMAGE_ENCODED: pixel, features.MASK_ENCODED: pixel})
        wanted = (transformed.PIXEL_SCALE, transformed.PIXEL_OFFSET, transformed.CLASS_PIXELS)
        return [outputs[name][0] for name in wanted]

    scale, offset, pixels = (value.numpy().tolist() for value in constants())
    return Constants(tuple(scale), tuple(offset), tuple(pixels))


def raw_pairs(
    files: Sequence[str], graph: tft.TFTransformOutput, size: InputSize, channels: int
) -> tf.data.Dataset:
    """Applies the transform graph to the examples of ``files``, on every core.

    Returns:
        Pairs of uint8 [height, width, channels] pixels and uint8 [height, width] class ids, in the files'
        order; of each picture's own height and width with ``native``.
    """
    layer = graph.transform_features_layer()

    # AutoGraph would rewrite all that the layer calls, though nothing branches on a tensor in Python.
    @tf.autograph.experimental.do_not_convert
    def transform(examples: tf.Tensor) -> Pair:
        return _unpack(layer(_parse_raw(examples)), size, channels)

    return _on_every_core(tf.data.TFRecordDataset(list(files)), transform, size)


def materialized_pairs(files: Sequence[str], size: InputSize, channels: int) -> tf.data.Dataset:
    """Reads what Transform wrote (``transform.materialize: true``); returns the same as ``raw_pairs``."""
    specification = {
        name: tf.io.FixedLenFeature([], tf.string) for name in (transformed.IMAGE, transformed.MASK)
    }

    def parse(examples: tf.Tensor) -> Pair:
        return _unpack(tf.io.parse_example(examples, specification), size, channels)

    return _on_every_core(tf.data.TFRecordDataset(list(files), compression_type="GZIP"), parse, size)


def _on_every_core(
    records: tf.data.Dataset, decode: Callable[[tf.Tensor], Pair], size: InputSize
) -> tf.data.Dataset:
    """Decodes serialised examples, several a call, in their order."""
    # Pictures of their own sizes make no batch.
    batches = records.batch(1 if size.method == "native" else _DECODE_BATCH)
    options = tf.data.Options()
    # On one core what tunes tf.data often sleeps while nothing runs, as long again as all of the decoding.
    options.autotune.enabled = False
    # Where a resize is divided among threads, the one that waits for them does nothing else.
    cores = len(os.sched_getaffinity(0))
    at_once = 2 * cores if cores > 1 else 1
    options.threading.private_threadpool_size = at_once
    return batches.map(decode, at_once).unbatch().with_options(options)


def _parse_raw(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    wanted = (features.IMAGE_ENCODED, features.MASK_ENCODED)
    return tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.string) for name in wanted})


def _unpack(outputs: dict[str, tf.Tensor], size: InputSize, channels: int) -> Pair:
    shape = (None, None) if size.method == "native" else (size.height, size.width)
    return (
        unpack_pixels(outputs[transformed.IMAGE], (*shape, channels)),
        unpack_pixels(outputs[transformed.MASK], shape),
    )


def unpack_pixels(serialized: tf.Tensor, shape: tuple[int | None, ...]) -> tf.Tensor:
    """Turns the transform graph's serialised pixels, string [N], into uint8 [N, *shape]."""
    return tf.map_fn(
        lambda value: tf.ensure_shape(tf.io.parse_tensor(value, tf.uint8), shape),
        serialized,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )
