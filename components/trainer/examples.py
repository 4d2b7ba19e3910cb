"""The examples of a training: its splits as the recipe and the devices want them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.v1.components import FnArgs

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.imaging.resize import InputSize
from components.trainer import data
from components.trainer.config import TrainerSettings
from components.trainer.distribution import full_batches, replica_batches
from components.trainer.training_config import AugmentationConfig
from models.augmentation import RandomAugmentation

logger = logging.getLogger(__name__)

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
        counts = {split: data.count_examples(paths, compression) for split, paths in files.items()}
        self.count = counts["train"]
        """Training examples an epoch."""
        _check(self.count, training.batch_size, devices)
        # A smaller last batch could leave a device with nothing, and batch normalisation without a mean.
        self._drop_remainder = devices > 1
        self.steps_per_epoch = self.count // training.batch_size
        if self.count % training.batch_size and not self._drop_remainder:
            self.steps_per_epoch += 1

        size = InputSize(settings.height, settings.width, settings.resize)
        pair_bytes = data.decoded_bytes(1, size, settings.channels)
        in_memory = pair_bytes * sum(counts.values()) <= training.cache_bytes
        if not in_memory:
            logger.info("more decoded pixels than training.cache_bytes: they are cached on disk")

        def decoded(split: str) -> tf.data.Dataset:
            if settings.materialized:
                return data.materialized_pairs(files[split], size, settings.channels)
            return data.raw_pairs(files[split], graph, size, settings.channels)

        def cached(split: str) -> tf.data.Dataset:
            return data.cached(decoded(split), counts[split], None if in_memory else cache_directory / split)

        self._batch_size = training.batch_size
        self._seed = training.seed
        self._train = cached("train")
        self._shuffle_buffer = min(self.count, _SHUFFLE_BYTES // pair_bytes)
        self._augment = augmentation(settings.augmentation)
        self.val: tf.data.Dataset | None = None
        """Batches of the val split, or None without one."""
        if counts["val"]:
            pairs = cached("val")
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
        batches = data.training_batches(
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
    augment = RandomAugmentation(**config.model_dump(), ignore_label=IGNORE_LABEL)
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
