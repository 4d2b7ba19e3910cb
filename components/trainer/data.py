"""The input pipeline: from the splits' TFRecords to batches of uint8 pixels, cached after the first epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from components.dataset import features, transformed
from components.imaging.resize import InputSize

Pair = tuple[tf.Tensor, tf.Tensor]

_DECODE_BATCH = 4
"""Examples a call of the transform graph: enough to hide the call, few enough to fill every core."""
_SHUFFLE_BYTES = 2**27
"""Decoded pixels that the shuffle buffer may hold; ingestion has dealt the examples out at random already."""


class Constants(NamedTuple):
    """What the transform graph learnt from the training split."""

    pixel_scale: tuple[float, ...]
    pixel_offset: tuple[float, ...]
    class_pixels: tuple[int, ...]


def read_constants(graph: tft.TFTransformOutput) -> Constants:
    """Reads the constants of the transform graph; they are the same for whichever example is fed to it."""
    layer = graph.transform_features_layer()
    pixel = tf.io.encode_png(tf.zeros([1, 1, 1], tf.uint8))[tf.newaxis]

    @tf.function
    def constants() -> list[tf.Tensor]:
        outputs = layer({features.IMAGE_ENCODED: pixel, features.MASK_ENCODED: pixel})
        wanted = (transformed.PIXEL_SCALE, transformed.PIXEL_OFFSET, transformed.CLASS_PIXELS)
        return [outputs[name][0] for name in wanted]

    scale, offset, pixels = (value.numpy().tolist() for value in constants())
    return Constants(tuple(scale), tuple(offset), tuple(pixels))


def raw_pairs(files: Sequence[str], graph: tft.TFTransformOutput, size: InputSize) -> tf.data.Dataset:
    """Applies the transform graph to the examples of ``files``, on every core.

    Returns:
        Pairs of uint8 [height, width, 3] pixels and uint8 [height, width] class ids, in the files' order.
    """
    layer = graph.transform_features_layer()

    def transform(examples: tf.Tensor) -> Pair:
        return _unpack(layer(_parse_raw(examples)), size)

    records = tf.data.TFRecordDataset(list(files))
    return records.batch(_DECODE_BATCH).map(transform, tf.data.AUTOTUNE).unbatch()


def materialized_pairs(files: Sequence[str], size: InputSize) -> tf.data.Dataset:
    """Reads what Transform wrote (``transform.materialize: true``); returns the same as ``raw_pairs``."""
    specification = {
        name: tf.io.FixedLenFeature([], tf.string) for name in (transformed.IMAGE, transformed.MASK)
    }

    def parse(examples: tf.Tensor) -> Pair:
        return _unpack(tf.io.parse_example(examples, specification), size)

    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    return records.batch(_DECODE_BATCH).map(parse, tf.data.AUTOTUNE).unbatch()


def decoded_bytes(count: int, size: InputSize) -> int:
    """Returns what the pixels and class ids of ``count`` examples take."""
    return count * size.height * size.width * 4


def cached(pairs: tf.data.Dataset, count: int, directory: Path | None) -> tf.data.Dataset:
    """Keeps ``count`` decoded pairs after the first epoch: in ``directory``, or in memory without one."""
    # Unbatching has lost the number of examples; Keras wants to know how long an epoch is.
    pairs = pairs.apply(tf.data.experimental.assert_cardinality(count))
    if directory is None:
        return pairs.cache()
    directory.mkdir(parents=True)
    return pairs.cache(str(directory / "cache"))


def training_batches(
    pairs: tf.data.Dataset,
    count: int,
    size: InputSize,
    batch_size: int,
    drop_remainder: bool,
    seed: int,
    augment: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair] | None,
) -> tf.data.Dataset:
    """Shuffles anew each epoch, batches, and applies ``augment(images, masks, seed)`` to each batch."""
    buffer = max(1, min(count, _SHUFFLE_BYTES // decoded_bytes(1, size)))
    batches = pairs.shuffle(buffer, seed=seed).batch(batch_size, drop_remainder, tf.data.AUTOTUNE)
    if augment is not None:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
        batches = tf.data.Dataset.zip(batches, seeds).map(
            lambda pair, batch_seed: augment(pair[0], pair[1], batch_seed), tf.data.AUTOTUNE
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def count_examples(files: Sequence[str], compression: str = "") -> int:
    """Counts the records of some TFRecord files."""
    records = tf.data.TFRecordDataset(list(files), compression_type=compression)
    return int(records.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))


def _parse_raw(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    wanted = (features.IMAGE_ENCODED, features.MASK_ENCODED)
    return tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.string) for name in wanted})


def _unpack(outputs: dict[str, tf.Tensor], size: InputSize) -> Pair:
    return (
        unpack_pixels(outputs[transformed.IMAGE], (size.height, size.width, 3)),
        unpack_pixels(outputs[transformed.MASK], (size.height, size.width)),
    )


def unpack_pixels(serialized: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Turns the transform graph's serialised pixels, string [N], into uint8 [N, *shape]."""
    return tf.map_fn(
        lambda value: tf.ensure_shape(tf.io.parse_tensor(value, tf.uint8), shape),
        serialized,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )
