"""The input pipeline: from the splits' TFRecords to batches of uint8 pixels, cached after the first epoch."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.v1.components import FnArgs

from components.dataset import features, transformed
from components.errors import StageError
from components.imaging.reading import InputSize
from components.trainer.config import Constants, TrainerSettings
from components.trainer.distribution import full_batches, replica_batches
from components.trainer.training_config import AugmentationConfig
from models.augmentation import RandomAugmentation

logger = logging.getLogger(__name__)

Pair = tuple[tf.Tensor, tf.Tensor]
"""An image and its class ids, or a batch of both."""
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]

_DECODE_BATCH = 4
"""Examples a call of the transform graph: enough to hide the call, few enough to fill every core."""
_SHUFFLE_BYTES = 2**27
"""Decoded pixels that the shuffle buffer may hold; ingestion has dealt the examples out at random already."""
_SHOWN = 4
"""Pairs that are drawn after each epoch."""


class Examples:
    """The splits ``train`` and ``val``, decoded once and cached for all epochs.

    Args:
        fn_args: says where the splits' files are.
        settings: the recipe's part for the Trainer.
        graph: the Transform component's output.
        devices: how many share each batch, on all machines together.
        cache_directory: where pixels are kept that take too much memory.

    Raises:
        StageError: there is nothing to train on, or the batches do not suit the devices.
    """

    def __init__(
        self,
        fn_args: FnArgs,
        settings: TrainerSettings,
        graph: tft.TFTransformOutput,
        devices: int,
        cache_directory: Path,
    ):
        training = settings.training
        files = {
            "train": sorted(tf.io.gfile.glob(fn_args.train_files)),
            "val": sorted(tf.io.gfile.glob(fn_args.eval_files)),
        }
        compression = "GZIP" if settings.materialized else ""
        counts = {split: count_examples(paths, compression) for split, paths in files.items()}
        self.count = counts["train"]
        """Training examples an epoch."""
        _check(self.count, training.batch_size, devices)
        # A smaller last batch could leave a device with nothing, and batch normalisation without a mean.
        self._drop_remainder = devices > 1
        self.steps_per_epoch = self.count // training.batch_size
        if self.count % training.batch_size and not self._drop_remainder:
            self.steps_per_epoch += 1

        size = settings.input_size
        pair_bytes = decoded_bytes(1, size, settings.channels)
        in_memory = pair_bytes * sum(counts.values()) <= training.cache_bytes
        if not in_memory:
            logger.info("more decoded pixels than training.cache_bytes: they are cached on disk")

        def decoded(split: str) -> tf.data.Dataset:
            if settings.materialized:
                return materialized_pairs(files[split], size, settings.channels)
            return raw_pairs(files[split], graph, size, settings.channels)

        def kept(split: str) -> tf.data.Dataset:
            return cached(decoded(split), counts[split], None if in_memory else cache_directory / split)

        self._batch_size = training.batch_size
        self._seed = training.seed
        self._train = kept("train")
        self._shuffle_buffer = min(self.count, _SHUFFLE_BYTES // pair_bytes)
        self._augment = augmentation(settings.augmentation)
        self.val: tf.data.Dataset | None = None
        """Batches of the val split, or None without one."""
        if counts["val"]:
            pairs = kept("val")
            # Filling up changes the mean loss a little; one device needs no full batches.
            val = (
                full_batches(pairs, counts["val"], training.batch_size)
                if devices > 1
                else pairs.batch(training.batch_size)
            )
            self.val = replica_batches(val.prefetch(tf.data.AUTOTUNE))
        # Not from the cache: it would take the first few for the whole.
        shown = decoded("val" if counts["val"] else "train").take(_SHOWN)
        self.shown: Sequence[tuple[np.ndarray, np.ndarray]] = list(shown.as_numpy_iterator())
        """A few pairs of image and class ids, of val where there is one, to look at after each epoch."""

    def train(self, epochs: range) -> tf.data.Dataset:
        """Returns the batches of some epochs, ``steps_per_epoch`` each."""
        batches = training_batches(
            self._train,
            epochs,
            buffer=self._shuffle_buffer,
            batch_size=self._batch_size,
            drop_remainder=self._drop_remainder,
            seed=self._seed,
            augment=self._augment,
        )
        return replica_batches(batches)


def augmentation(config: AugmentationConfig) -> RandomAugmentation | None:
    """Returns what changes batches at random, or None where nothing does."""
    augment = RandomAugmentation(**config.model_dump(), ignore_label=features.IGNORE_LABEL)
    return None if augment.is_identity else augment


def _check(count: int, batch_size: int, devices: int) -> None:
    if not count:
        raise StageError(
            "the train split has no examples; give the dataset more pairs or lower dataset.splits"
        )
    if devices > 1 and (batch_size % devices or count < batch_size):
        raise StageError(
            f"training.batch_size {batch_size} does not suit {devices} devices and {count} "
            f"training examples; take a multiple of {devices}, at most the number of examples"
        )


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
