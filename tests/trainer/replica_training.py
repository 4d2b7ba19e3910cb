"""Two small trainings on however many replicas there are; as a program, what one of several processes runs.

python replica_training.py FILE [virtual]

writes the outcomes, without and with batch normalisation, into FILE; with ``virtual``, two CPUs of this
process stand in for GPUs.
"""

import pickle
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.trainer.batch_statistics import PopulationStatistics
from components.trainer.checkpoints import Checkpoints
from components.trainer.distribution import (
    check_same_start,
    full_batches,
    is_chief,
    replica_batches,
    replicated,
    training_strategy,
)
from models.losses.segmentation_loss import SegmentationLoss
from models.resized_mean_iou import ResizedMeanIoU
from models.unet import unet

BATCH_SIZE = 4
TRAIN, VAL = 8, 6


def images() -> np.ndarray:
    """Those of training, then those of validation."""
    return np.random.default_rng(0).integers(0, 256, (TRAIN + VAL, 8, 8, 3), dtype=np.uint8)


class Outcome(NamedTuple):
    """What a training left behind."""

    replicas: int
    chief: bool
    history: dict[str, list[float]]
    weights: list[np.ndarray]
    restored: list[np.ndarray]
    """The weights after they were saved, changed and loaded."""
    refusals: list[str]
    """What is said of starts that are the same, of other trainings, and of other checkpoints; or nothing."""


def train(
    strategy: tf.distribute.Strategy, normalization: Literal["none", "batch"], directory: Path
) -> Outcome:
    """Fits a network for two epochs; what it sees does not depend on the strategy."""
    keras.utils.set_random_seed(0)
    kept, nothing = (directory / f"{normalization}-{name}" for name in ("kept", "nothing"))
    kept.mkdir()
    nothing.mkdir()
    pixels = images()
    class_ids = (pixels[..., 0] > 128).astype(np.uint8)
    class_ids[-1] = IGNORE_LABEL
    train_pairs = tf.data.Dataset.from_tensor_slices((pixels[:TRAIN], class_ids[:TRAIN]))
    val_pairs = tf.data.Dataset.from_tensor_slices((pixels[TRAIN:], class_ids[TRAIN:]))
    with strategy.scope():
        network = unet((8, 8, 3), 2, filters=4, depth=2, normalization=normalization)
    network = replicated(network, strategy)
    with strategy.scope():
        network.compile(
            keras.optimizers.Adam(1e-2),
            SegmentationLoss({"cross_entropy": 1.0}),
            metrics=[ResizedMeanIoU(2)],
            jit_compile=False,
        )
        network.optimizer.build(network.trainable_variables)
        alone = strategy.num_replicas_in_sync == 1
        val = val_pairs.batch(BATCH_SIZE) if alone else full_batches(val_pairs, VAL, BATCH_SIZE)
        fitted = network.fit(
            replica_batches(train_pairs.batch(BATCH_SIZE)),
            validation_data=replica_batches(val),
            epochs=2,
            callbacks=[
                PopulationStatistics(tf.data.Dataset.from_tensor_slices(pixels[:TRAIN]).batch(2)),
                Checkpoints(kept),
            ],
            shuffle=False,
            verbose=0,
        )
        weights = network.get_weights()
        checkpoint = directory / f"{normalization}.weights.h5"
        network.save_weights(checkpoint)
        network.set_weights([np.zeros_like(weight) for weight in weights])
        network.load_weights(checkpoint)
    starts = [
        ("training-0", nothing),
        (f"training-{int(is_chief())}", nothing),
        # As on a machine that does not see where the chief keeps what it has trained.
        ("training-0", kept if is_chief() else nothing),
    ]
    refusals = [refusal(strategy, name, Checkpoints(place).digest) for name, place in starts]
    return Outcome(
        strategy.num_replicas_in_sync, is_chief(), fitted.history, weights, network.get_weights(), refusals
    )


def refusal(strategy: tf.distribute.Strategy, training: str, checkpoint: str) -> str:
    try:
        check_same_start(strategy, training, checkpoint, "/claim")
    except StageError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    if sys.argv[2:] == ["virtual"]:
        [cpu] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        tf.config.list_logical_devices = lambda kind: ["CPU:0", "CPU:1"] if kind == "GPU" else []
    file = Path(sys.argv[1])
    shared = training_strategy()
    # As plain tuples: the class is another one where this file is imported rather than run.
    outcomes = {
        "none": tuple(train(shared, "none", file.parent)),
        "batch": tuple(train(shared, "batch", file.parent)),
    }
    file.write_bytes(pickle.dumps(outcomes))
