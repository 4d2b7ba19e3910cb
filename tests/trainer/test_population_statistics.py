"""Batch normalisation's statistics after each epoch: of the weights that are measured, kept and exported."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.trainer.batch_statistics import PopulationStatistics
from components.trainer.batches import statistics_batches
from components.trainer.checkpoints import IOU, Checkpoints
from components.trainer.optimizers import ValidateAveragedWeights, build_optimizer, phases
from components.trainer.training_config import TrainingConfig
from models.batch_statistics import batch_moments, set_population_statistics
from models.losses.segmentation_loss import SegmentationLoss
from models.options import Normalization
from models.resized_mean_iou import ResizedMeanIoU
from models.unet import unet

_RANDOM = np.random.default_rng(0)
IMAGES = _RANDOM.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
CLASS_IDS = (IMAGES[..., 0] > 128).astype(np.uint8)
VAL = (IMAGES[8:], CLASS_IDS[8:])


def network(
    normalization: Normalization = "batch", policy: str = "float32", ema_momentum: float | None = None
) -> keras.Model:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = unet((8, 8, 3), 2, filters=4, depth=1, normalization=normalization, dropout=0.2)
    finally:
        keras.config.set_dtype_policy("float32")
    config = TrainingConfig(epochs=2, learning_rate=0.02, ema_momentum=ema_momentum)
    model.compile(
        build_optimizer(config, phases(config)[0], 2),
        SegmentationLoss({"cross_entropy": 1.0}),
        metrics=[ResizedMeanIoU(2)],
        jit_compile=False,
    )
    return model


def fit(model: keras.Model, checkpoints: Checkpoints, *, validate: bool) -> None:
    model.fit(
        IMAGES[:8],
        CLASS_IDS[:8],
        4,
        epochs=2,
        validation_data=VAL if validate else None,
        callbacks=[
            ValidateAveragedWeights(),
            PopulationStatistics(tf.data.Dataset.from_tensor_slices(IMAGES[:8]).batch(4)),
            checkpoints,
        ],
        shuffle=False,
        verbose=0,
    )


@pytest.mark.parametrize(
    ("policy", "ema_momentum", "validate"),
    [("float32", None, True), ("float32", 0.6, False), ("mixed_bfloat16", 0.6, True)],
)
def test_what_is_kept_has_the_statistics_of_its_own_weights_and_is_what_was_measured(
    policy: str, ema_momentum: float | None, validate: bool, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    fit(network(policy=policy, ema_momentum=ema_momentum), checkpoints, validate=validate)
    kept = network(policy=policy)
    checkpoints.load_best(kept)
    weights = kept.get_weights()
    set_population_statistics(kept, [batch_moments(kept, IMAGES[:4]), batch_moments(kept, IMAGES[4:8])])
    tolerance = 1e-4 if policy == "float32" else 0.02
    for now, before in zip(kept.get_weights(), weights, strict=True):
        np.testing.assert_allclose(before, now, rtol=tolerance, atol=tolerance)
    if validate:
        kept.set_weights(weights)
        measured = kept.evaluate(*VAL, batch_size=4, return_dict=True, verbose=0)
        best = checkpoints.history.epochs[checkpoints.history.best_epoch]
        assert measured[IOU] == pytest.approx(best[f"val_{IOU}"], abs=1e-6)
        assert measured["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_a_network_without_batch_normalisation_reads_no_image_for_it(tmp_path: Path) -> None:
    def fail(image: tf.Tensor) -> tf.Tensor:
        raise AssertionError("read")

    images = tf.data.Dataset.from_tensors(IMAGES[0])
    unread = images.map(lambda image: tf.py_function(fail, [image], tf.uint8)).batch(1)
    callbacks = [PopulationStatistics(unread)]
    network("group").fit(IMAGES[:4], CLASS_IDS[:4], validation_data=VAL, callbacks=callbacks, verbose=0)
    with pytest.raises(tf.errors.OpError, match="read"):
        network().fit(IMAGES[:4], CLASS_IDS[:4], validation_data=VAL, callbacks=callbacks, verbose=0)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(1, 16, [1]), (5, 16, [5]), (20, 16, [10, 10]), (17, 16, [8, 8]), (64, 16, [16] * 4), (3, 1, [1] * 3)],
)
def test_the_images_come_in_batches_of_one_size_and_in_every_epoch_the_same(
    count: int, batch_size: int, sizes: list[int]
) -> None:
    numbers = tf.data.Dataset.range(count)
    batches = statistics_batches(tf.data.Dataset.zip(numbers, numbers), batch_size)
    for _ in range(2):
        seen = [batch.tolist() for batch in batches.as_numpy_iterator()]
        assert [len(batch) for batch in seen] == sizes
        assert [number for batch in seen for number in batch] == list(range(sum(sizes)))
