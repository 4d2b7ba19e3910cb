"""The monitoring metric against an independent NumPy computation."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses.segmentation_loss import SegmentationLoss
from models.resized_mean_iou import ResizedMeanIoU
from models.unet import unet


def reference(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """Mean IoU from sets of pixels, class by class."""
    counted = truth != 255
    scores = []
    for class_id in range(num_classes):
        in_truth, in_prediction = (truth == class_id) & counted, (predicted == class_id) & counted
        if in_truth.any() or in_prediction.any():
            scores.append((in_truth & in_prediction).sum() / (in_truth | in_prediction).sum())
    return float(np.mean(scores)) if scores else math.nan


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_classes=st.integers(2, 5), labels=st.integers(1, 5))
def test_result_over_batches_equals_the_mean_iou_over_all_pixels(
    seed: int, num_classes: int, labels: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(min(labels, num_classes)), 255], size=(4, 3, 3)).astype(np.uint8)
    logits = rng.normal(size=(4, 3, 3, num_classes)).astype(np.float32)
    metric = ResizedMeanIoU(num_classes)
    metric.update_state(truth[:1], logits[:1])
    metric.update_state(truth[1:], logits[1:])
    assert float(metric.result()) == pytest.approx(
        reference(truth, logits.argmax(-1), num_classes), abs=1e-6, nan_ok=True
    )


def test_nothing_counted_is_no_number() -> None:
    metric = ResizedMeanIoU(3)
    assert math.isnan(metric.result())
    metric.update_state(np.full((1, 2, 2), 255, np.uint8), np.zeros((1, 2, 2, 3), np.float32))
    assert math.isnan(metric.result())


def test_reset_forgets() -> None:
    metric = ResizedMeanIoU(2)
    metric.update_state(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2, 2), np.float32))
    metric.reset_state()
    assert math.isnan(metric.result())


def test_counts_beyond_what_float32_counts_stay_exact() -> None:
    metric = ResizedMeanIoU(2)
    metric.confusion_matrix.assign(np.array([[2**24, 0], [0, 0]]))
    metric.update_state(np.zeros((1, 1, 1), np.uint8), np.array([[[[1.0, 0.0]]]], np.float32))
    assert int(metric.confusion_matrix[0][0]) == 2**24 + 1


def test_in_a_compiled_fit_it_is_the_mean_iou_of_the_validation_split() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 4, 4, 3)).astype(np.float32)
    masks = rng.choice([0, 1, 255], size=(6, 4, 4)).astype(np.uint8)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", SegmentationLoss({"cross_entropy": 1.0}), metrics=[ResizedMeanIoU(2)])
    history = model.fit(images, masks, batch_size=4, validation_data=(images, masks), verbose=0).history
    predicted = model.predict(images, verbose=0).argmax(-1)
    assert history["val_iou_at_input_size"] == [pytest.approx(reference(masks, predicted, 2), abs=1e-6)]


def test_logits_of_other_classes_and_sample_weights_are_refused() -> None:
    metric, truth = ResizedMeanIoU(3), np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(ValueError, match="logits for 2 classes; this metric was made for 3"):
        metric.update_state(truth, np.zeros((1, 1, 1, 2), np.float32))
    with pytest.raises(ValueError, match="ignore label"):
        metric.update_state(truth, np.zeros((1, 1, 1, 3), np.float32), np.ones(1))


def test_metric_survives_serialisation() -> None:
    metric = ResizedMeanIoU(4, ignore_label=9)
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(copy, ResizedMeanIoU)
    assert copy.get_config() == metric.get_config()


def test_a_training_step_with_loss_and_metric_compiles_with_xla() -> None:
    """What GPUs run; XLA refuses any shape that depends on the data."""
    model = unet((8, 8, 3), 3, filters=2, depth=2, dropout=0.1, normalization="batch")
    model.compile(
        "adam", SegmentationLoss({"cross_entropy": 1.0}), metrics=[ResizedMeanIoU(3)], jit_compile=True
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, 3), np.uint8)
    masks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (4, 8, 8))
    history = model.fit(images, masks, batch_size=2, validation_data=(images, masks), verbose=0).history
    assert 0 < history["val_iou_at_input_size"][0] < 1
