"""The input pipeline: from the splits' TFRecords to batches of uint8 pixels, decoded once for all epochs."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components.errors import StageError
from components.trainer.batches import (
    augmentation,
    grid_pairs,
    statistics_batches,
    training_batches,
    whole_pairs,
    window_batches,
)
from components.trainer.config import TrainerSettings
from components.trainer.decoding import count_examples, materialized_pairs, raw_pairs
from components.trainer.distribution import full_batches, replica_batches
from components.trainer.pictures import KEPT_ON_DISK, EqualPictures, keep, pair_bytes
from components.trainer.windows import RandomWindows

logger = logging.getLogger(__name__)

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


def _check(count: int, batch_size: int, devices: int) -> None:
    if devices > 1 and (batch_size % devices or count < batch_size):
        raise StageError(
            f"training.batch_size {batch_size} does not suit {devices} devices and {count} "
            f"training examples; take a multiple of {devices}, at most the number of examples"
        )
