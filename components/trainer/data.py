"""The input pipeline: from the splits' TFRecords to batches of uint8 pixels, cached after the first epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft

from components.dataset import features, transformed
from components.imaging.resize import InputSize
from components.trainer.config import Constants

Pair = tuple[tf.Tensor, tf.Tensor]
"""An image and its class ids, or a batch of both."""
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]

_DECODE_BATCH = 4
"""Examples a call of the transform graph: enough to hide the call, few enough to fill every core."""


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


def raw_pairs(
    files: Sequence[str], graph: tft.TFTransformOutput, size: InputSize, channels: int
) -> tf.data.Dataset:
    """Applies the transform graph to the examples of ``files``, on every core.

    Returns:
        Pairs of uint8 [height, width, channels] pixels and uint8 [height, width] class ids, in the files'
        order.
    """
    layer = graph.transform_features_layer()

    def transform(examples: tf.Tensor) -> Pair:
        return _unpack(layer(_parse_raw(examples)), size, channels)

    records = tf.data.TFRecordDataset(list(files))
    return records.batch(_DECODE_BATCH).map(transform, tf.data.AUTOTUNE).unbatch()


def materialized_pairs(files: Sequence[str], size: InputSize, channels: int) -> tf.data.Dataset:
    """Reads what Transform wrote (``transform.materialize: true``); returns the same as ``raw_pairs``."""
    specification = {
        name: tf.io.FixedLenFeature([], tf.string) for name in (transformed.IMAGE, transformed.MASK)
    }

    def parse(examples: tf.Tensor) -> Pair:
        return _unpack(tf.io.parse_example(examples, specification), size, channels)

    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    return records.batch(_DECODE_BATCH).map(parse, tf.data.AUTOTUNE).unbatch()


def decoded_bytes(count: int, size: InputSize, channels: int) -> int:
    """Returns what the pixels and class ids of ``count`` examples take."""
    return count * size.height * size.width * (channels + 1)


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
    epochs: range,
    *,
    buffer: int,
    batch_size: int,
    drop_remainder: bool,
    seed: int,
    augment: Augment | None = None,
) -> tf.data.Dataset:
    """Returns the batches of ``epochs`` one after the other: shuffled, augmented.

    What is in a batch follows from ``seed``, the epoch's number and the batch's place in the epoch alone, so
    a training that goes on after some epochs sees what it would have seen without the interruption.

    Args:
        pairs: cached pairs of image and mask.
        epochs: the numbers of the epochs, in order.
        buffer: pairs that may be held for shuffling.
        batch_size: pairs a batch.
        drop_remainder: leave out what does not fill a batch.
        seed: of the order and of ``augment``.
        augment: called with images [N, H, W, channels], masks [N, H, W] and a seed, int64 [].
    """

    def batches(epoch: tf.Tensor) -> tf.data.Dataset:
        # Of this function's graph alone: shuffling cannot combine a global seed with one that is a tensor.
        tf.random.set_seed(None)
        order = pairs.shuffle(
            max(1, buffer), seed=_random_word(seed, epoch, 0), reshuffle_each_iteration=False
        )
        batched = order.batch(batch_size, drop_remainder, tf.data.AUTOTUNE)
        if augment is None:
            return batched
        return tf.data.Dataset.zip(batched, tf.data.Dataset.counter(1)).map(
            lambda pair, batch: augment(pair[0], pair[1], _random_word(seed, epoch, batch)), tf.data.AUTOTUNE
        )

    # The cache lies outside of the function, so it is filled once and not anew in each epoch.
    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return numbers.flat_map(batches).prefetch(tf.data.AUTOTUNE)


def _random_word(seed: int, epoch: tf.Tensor, position: tf.Tensor | int) -> tf.Tensor:
    """Returns an int64 [] that looks random and is a function of its arguments."""
    key = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), epoch]), position)
    return tf.random.stateless_uniform([], key, minval=None, maxval=None, dtype=tf.int64)


def count_examples(files: Sequence[str], compression: str = "") -> int:
    """Counts the records of some TFRecord files."""
    records = tf.data.TFRecordDataset(list(files), compression_type=compression)
    return int(records.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))


def _parse_raw(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    wanted = (features.IMAGE_ENCODED, features.MASK_ENCODED)
    return tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.string) for name in wanted})


def _unpack(outputs: dict[str, tf.Tensor], size: InputSize, channels: int) -> Pair:
    return (
        unpack_pixels(outputs[transformed.IMAGE], (size.height, size.width, channels)),
        unpack_pixels(outputs[transformed.MASK], (size.height, size.width)),
    )


def unpack_pixels(serialized: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Turns the transform graph's serialised pixels, string [N], into uint8 [N, *shape]."""
    return tf.map_fn(
        lambda value: tf.ensure_shape(tf.io.parse_tensor(value, tf.uint8), shape),
        serialized,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )
