"""The input pipeline: from the splits' TFRecords to batches of uint8 pixels, decoded once for all epochs."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components.dataset import features, transformed
from components.errors import StageError
from components.imaging.reading import InputSize, Reading
from components.trainer.config import Constants, TrainerSettings
from components.trainer.distribution import full_batches, replica_batches
from components.trainer.pictures import KEPT_ON_DISK, EqualPictures, Picture, keep, pair_bytes
from components.trainer.training_config import AugmentationConfig
from components.trainer.windows import RandomWindows, cut_of_grid, grid
from models.augmentation import RandomAugmentation

logger = logging.getLogger(__name__)

Pair = tuple[tf.Tensor, tf.Tensor]
"""An image and its class ids, or a batch of both."""
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]
"""Changes images [N, H, W, channels] and masks [N, H, W] by a seed, int64 []."""

_DECODE_BATCH = 4
"""Examples a call of the transform graph: enough to hide the call, few enough to fill every core."""
_KEPT_AT_ONCE = 16
"""Decoded pictures that are put where all are kept: enough to hide the call."""
_SHOWN = 4
"""Pairs that are drawn after each epoch."""
_FOR_STATISTICS = 64
"""Training images that batch normalisation's statistics are taken over: docs/training.md says why so many."""


class Examples:
    """The splits ``train`` and ``val``, decoded once for all epochs, when the first of these begins.

    With ``native`` they are decoded at once, as their sizes say how many windows an epoch has.

    With ``transform.resize: native`` an example is a window: of training at a random place of a picture, of
    validation one of those that cover the pictures side by side.

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
        if not counts["train"]:
            raise StageError(
                "the train split has no examples; give the dataset more pairs or lower dataset.splits"
            )

        def decoded(split: str) -> tf.data.Dataset:
            if settings.materialized:
                return materialized_pairs(files[split], settings.input_size, settings.channels)
            return raw_pairs(files[split], graph, settings.input_size, settings.channels)

        self._source: _Pictures | _Windows
        if settings.input_size.method == "native":
            self._source = _Windows(settings, decoded, counts, cache_directory)
        else:
            self._source = _Pictures(settings, decoded, counts, cache_directory)
        self.count = self._source.count
        """Training examples."""
        _check(self.count, training.batch_size, devices)
        # A smaller last batch could leave a device with nothing, and batch normalisation without a mean.
        self._drop_remainder = devices > 1
        self.steps_per_epoch = self.count // training.batch_size
        if self.count % training.batch_size and not self._drop_remainder:
            self.steps_per_epoch += 1
        self.count_an_epoch = min(self.count, self.steps_per_epoch * training.batch_size)
        """Those that an epoch trains on: all, but for what fills no batch of several devices."""

        self.val: tf.data.Dataset | None = None
        """Batches of the val split, of several devices those of `full_batches`; None without one."""
        if self._source.val is not None:
            pairs = self._source.val
            # One device needs no full batches.
            val = (
                full_batches(pairs, int(pairs.cardinality()), training.batch_size)
                if devices > 1
                else pairs.batch(training.batch_size)
            )
            self.val = replica_batches(val.prefetch(tf.data.AUTOTUNE))
        self.shown: Sequence[tuple[np.ndarray, np.ndarray]] = list(self._source.shown.as_numpy_iterator())
        """A few pairs of image and class ids, of val where there is one, to look at after each epoch."""
        self.for_statistics = statistics_batches(self._source.for_statistics, training.batch_size // devices)
        """Batches of some training images, not augmented, for batch normalisation's statistics."""

    def train(self, epochs: range) -> tf.data.Dataset:
        """Returns the batches of some epochs, ``steps_per_epoch`` each."""
        return replica_batches(self._source.batches(epochs, self._drop_remainder))


Decoded = Callable[[str], tf.data.Dataset]
"""Decodes a split anew, as pairs in the files' order."""


class _Pictures:
    """Whole pictures at the network's input size.

    Attributes:
        count: training examples an epoch.
        val: pairs of image and class ids, their number known; None where the split is empty.
        shown: likewise, a few of val, or else of train.
        for_statistics: likewise, some of train, their number known.
    """

    def __init__(
        self, settings: TrainerSettings, decoded: Decoded, counts: Mapping[str, int], directory: Path
    ):
        training = settings.training
        shape = (settings.input_size.height, settings.input_size.width, settings.channels)
        in_memory = pair_bytes(*shape) * sum(counts.values()) <= training.cache_bytes

        if not in_memory:
            logger.info(KEPT_ON_DISK)

        def kept(split: str) -> EqualPictures:
            def batches() -> Iterator[Any]:
                return decoded(split).batch(_KEPT_AT_ONCE).as_numpy_iterator()

            return EqualPictures(batches, counts[split], shape, None if in_memory else directory / split)

        self._training = training
        self._train, self._val = kept("train"), kept("val")
        self._augment = augmentation(settings.augmentation, settings.reading)
        self.count = len(self._train)
        train = whole_pairs(self._train)
        self.val = whole_pairs(self._val) if counts["val"] else None
        # Decoded a second time: where nothing is left to train, they are all that is wanted.
        self.shown = decoded("val" if counts["val"] else "train").take(_SHOWN)
        self.for_statistics = train.take(_FOR_STATISTICS)

    def batches(self, epochs: range, drop_remainder: bool) -> tf.data.Dataset:
        self._train.fill()
        self._val.fill()
        return training_batches(
            self._train,
            epochs,
            batch_size=self._training.batch_size,
            drop_remainder=drop_remainder,
            seed=self._training.seed,
            augment=self._augment,
        )


class _Windows:
    """Windows of pictures; an epoch is a number of whole batches of them. Attributes as of ``_Pictures``."""

    def __init__(
        self, settings: TrainerSettings, decoded: Decoded, counts: Mapping[str, int], directory: Path
    ):
        training, size = settings.training, settings.input_size
        train = keep(decoded("train").as_numpy_iterator(), training.cache_bytes, directory / "train")
        left = training.cache_bytes - sum(
            picture.image.nbytes + picture.class_ids.nbytes for picture in train
        )
        val = keep(decoded("val").as_numpy_iterator(), left, directory / "val") if counts["val"] else []
        self._windows = RandomWindows(
            train,
            size.height,
            size.width,
            num_classes=settings.labels.num_classes,
            foreground=training.foreground_windows,
            seed=training.seed,
        )
        self._batch_size = training.batch_size
        self._augment = augmentation(settings.augmentation, settings.reading)
        wanted = training.windows_per_epoch or self._windows.covering
        self.count = -(-wanted // self._batch_size) * self._batch_size
        logger.info("%d windows an epoch, of %d training pictures", self.count, len(train))
        self.val = grid_pairs(val, size, self.count) if val else None
        self.shown = grid_pairs(val or train, size, _SHOWN)
        # Neighbours are alike, and a batch of them is unlike those of training.
        self.for_statistics = grid_pairs(train, size, _FOR_STATISTICS).shuffle(
            _FOR_STATISTICS, seed=0, reshuffle_each_iteration=False
        )

    def batches(self, epochs: range, drop_remainder: bool) -> tf.data.Dataset:
        """There is no remainder to drop."""
        return window_batches(
            self._windows,
            epochs,
            steps_per_epoch=self.count // self._batch_size,
            batch_size=self._batch_size,
            augment=self._augment,
        )


def augmentation(config: AugmentationConfig, reading: Reading) -> RandomAugmentation | None:
    """Returns what changes batches at random, of pictures that are read so, or None where nothing does."""
    augment = RandomAugmentation(
        **config.model_dump(), has_alpha=reading.has_alpha, ignore_label=features.IGNORE_LABEL
    )
    return None if augment.is_identity else augment


def _check(count: int, batch_size: int, devices: int) -> None:
    if devices > 1 and (batch_size % devices or count < batch_size):
        raise StageError(
            f"training.batch_size {batch_size} does not suit {devices} devices and {count} "
            f"training examples; take a multiple of {devices}, at most the number of examples"
        )


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


def training_batches(
    pictures: EqualPictures,
    epochs: range,
    *,
    batch_size: int,
    drop_remainder: bool,
    seed: int,
    augment: Augment | None = None,
) -> tf.data.Dataset:
    """Returns the batches of ``epochs`` one after the other: all pictures in a new order each, augmented.

    What is in a batch follows from ``seed``, the epoch's number and the batch's place in the epoch alone, so
    a training that goes on after some epochs sees what it would have seen without the interruption.

    Args:
        pictures: at least one.
        epochs: the numbers of the epochs, in order.
        batch_size: pictures a batch.
        drop_remainder: leave out what does not fill a batch.
        seed: of the order and of ``augment``.
        augment: changes a batch.
    """
    # Two, as batches are read ahead into the next epoch.
    order = lru_cache(maxsize=2)(
        lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(pictures))
    )

    def read(epoch: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        return pictures.read(order(epoch)[place * batch_size : (place + 1) * batch_size])

    steps = len(pictures) // batch_size if drop_remainder else -(-len(pictures) // batch_size)
    shape = (batch_size if drop_remainder else None, *pictures.shape)
    return _batches(read, shape, epochs, steps_per_epoch=steps, seed=seed, augment=augment)


def window_batches(
    windows: RandomWindows,
    epochs: range,
    *,
    steps_per_epoch: int,
    batch_size: int,
    augment: RandomAugmentation | None,
) -> tf.data.Dataset:
    """Returns the batches of ``epochs`` one after the other: windows, augmented.

    What is in a batch follows from the windows' seed, the epoch's number and the batch's place in it alone.

    Raises:
        StageError: what augmentation needs to see around a batch's windows is more than can be numbered.
    """
    window = (windows.height, windows.width)
    frame = window if augment is None else augment.frame(*window)
    if batch_size * frame[0] * frame[1] >= 2**31:
        raise StageError(
            f"augmentation.scale_crop and rotate see {frame[0]} x {frame[1]} pixels around each of "
            f"{batch_size} windows, 2**31 or more in all; take a smaller training.batch_size or "
            "transform.height and width"
        )

    def cut(epoch: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        step = epoch * steps_per_epoch + place
        return windows.cut(range(step * batch_size, (step + 1) * batch_size), frame)

    return _batches(
        cut,
        (batch_size, *frame, windows.channels),
        epochs,
        steps_per_epoch=steps_per_epoch,
        seed=windows.seed,
        augment=None if augment is None else partial(augment, window=window),
    )


def _batches(
    read: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    shape: tuple[int | None, ...],
    epochs: range,
    *,
    steps_per_epoch: int,
    seed: int,
    augment: Augment | None,
) -> tf.data.Dataset:
    """Returns the batches that ``read`` makes of an epoch's number and a place in it, several at a time.

    ``shape`` is that of their images.
    """

    # AutoGraph would rewrite the augmentation, though nothing branches on a tensor in Python.
    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> Pair:
        epoch, place = step // steps_per_epoch, step % steps_per_epoch
        images, masks = _numpy_pair(read, [epoch, place], shape)
        if augment is None:
            return images, masks
        return augment(images, masks, _random_word(seed, epoch, 1 + place))

    steps = tf.data.Dataset.range(epochs.start * steps_per_epoch, epochs.stop * steps_per_epoch)
    return steps.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def whole_pairs(pictures: EqualPictures) -> tf.data.Dataset:
    """Returns pictures as pairs, in their order."""

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        images, class_ids = pictures.read(np.array([number]))
        return images[0], class_ids[0]

    numbers = tf.data.Dataset.range(len(pictures))
    return numbers.map(lambda number: _numpy_pair(read, [number], pictures.shape), tf.data.AUTOTUNE)


def grid_pairs(pictures: Sequence[Picture], size: InputSize, at_most: int) -> tf.data.Dataset:
    """Returns the windows that cover pictures side by side, one picture's after the other's.

    Of more than ``at_most`` of each picture in proportion to its windows, at places drawn once and for all:
    those at one distance in the order of the grid may all lie in the same corner.
    """
    random = np.random.default_rng(0)
    in_order = grid(pictures, size.height, size.width)
    places = sorted(in_order, key=lambda place: (place.picture, random.random()))
    number = min(len(places), at_most)

    def cut(index: int) -> tuple[np.ndarray, np.ndarray]:
        place = places[index * len(places) // number]
        return cut_of_grid(pictures[place.picture], place, size.height, size.width)

    shape = (size.height, size.width, pictures[0].image.shape[-1])
    numbers = tf.data.Dataset.range(number)
    return numbers.map(lambda index: _numpy_pair(cut, [index], shape), tf.data.AUTOTUNE)


def statistics_batches(pairs: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Returns the images of pairs, their number known, in batches of one size, ``batch_size`` at most.

    The few at the end that no batch takes are left out.
    """
    count = int(pairs.cardinality())
    number = -(-count // batch_size)
    return pairs.map(lambda image, class_ids: image).batch(count // number, drop_remainder=True)


def _numpy_pair(
    read: Callable[..., tuple[np.ndarray, np.ndarray]],
    numbers: list[tf.Tensor],
    shape: tuple[int | None, ...],
) -> Pair:
    """Returns what ``read`` makes of ``numbers`` outside of TensorFlow; ``shape`` is that of images."""
    image, class_ids = tf.numpy_function(read, numbers, (tf.uint8, tf.uint8), stateful=False)
    return tf.ensure_shape(image, shape), tf.ensure_shape(class_ids, shape[:-1])


def _random_word(seed: int, epoch: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
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
