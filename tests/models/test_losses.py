"""The loss against an independent NumPy computation, and at its edges."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.losses import SparseCrossEntropy, median_frequency_weights

Batch = tuple[np.ndarray, np.ndarray]


def reference(class_ids: np.ndarray, logits: np.ndarray, class_weights: list[float] | None = None) -> float:
    """Cross-entropy pixel by pixel, in float64."""
    total = weight_sum = 0.0
    for truth, values in zip(
        class_ids.ravel(), logits.reshape(-1, logits.shape[-1]).astype(float), strict=True
    ):
        if truth == 255:
            continue
        weight = 1.0 if class_weights is None else class_weights[truth]
        total += weight * (np.log(np.exp(values - values.max()).sum()) + values.max() - values[truth])
        weight_sum += weight
    return total / weight_sum if weight_sum else 0.0


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(3)
    class_ids = rng.choice([0, 1, 2, 255], size=(3, 4, 5)).astype(np.uint8)
    class_ids[1] = 255
    class_ids[1, 0, 0] = 2
    return class_ids, rng.normal(0, 3, (3, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.5, 0.25], [0, 1, 0]])
def test_loss_is_the_weighted_mean_over_counted_pixels_of_the_batch(
    batch: Batch, class_weights: list[float] | None
) -> None:
    loss = SparseCrossEntropy(class_weights=class_weights)(*batch)
    assert float(loss) == pytest.approx(reference(*batch, class_weights), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_class_ids_may_be_any_integers(batch: Batch, dtype: type[np.integer]) -> None:
    class_ids, logits = batch
    assert float(SparseCrossEntropy()(class_ids.astype(dtype), logits)) == pytest.approx(
        reference(class_ids, logits), rel=1e-5
    )


def gradient(loss: SparseCrossEntropy, class_ids: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(class_ids, logits)
    return float(value), tape.gradient(value, logits).numpy()


@pytest.mark.parametrize(
    ("class_ids", "class_weights"),
    [(np.full((2, 2, 2), 255, np.uint8), None), (np.zeros((2, 2, 2), np.uint8), [0.0, 1.0, 1.0])],
    ids=["everything ignored", "only a class of weight 0"],
)
def test_where_nothing_counts_loss_and_gradients_are_zero(
    class_ids: np.ndarray, class_weights: list[float] | None
) -> None:
    logits = np.full((2, 2, 2, 3), 1e4, np.float32)
    value, slope = gradient(SparseCrossEntropy(class_weights=class_weights), class_ids, logits)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


def test_ignored_pixels_get_no_gradient_and_counted_ones_the_softmax_error(batch: Batch) -> None:
    class_ids, logits = batch
    _, slope = gradient(SparseCrossEntropy(), class_ids, logits)
    counted = class_ids != 255
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = (softmax - np.eye(3)[np.where(counted, class_ids, 0)]) * counted[..., None] / counted.sum()
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    assert (slope[~counted] == 0).all()


def test_huge_logits_stay_finite() -> None:
    value, slope = gradient(SparseCrossEntropy(), np.ones((1, 1, 1)), np.array([[[[1e4, -1e4]]]], np.float32))
    assert value == pytest.approx(2e4)
    assert np.isfinite(slope).all()


def test_another_ignore_label_can_be_chosen(batch: Batch) -> None:
    class_ids, logits = batch
    renamed = np.where(class_ids == 255, 7, class_ids)
    assert float(SparseCrossEntropy(ignore_label=7)(renamed, logits)) == pytest.approx(
        reference(class_ids, logits), rel=1e-5
    )


def test_loss_survives_serialisation(batch: Batch) -> None:
    loss = SparseCrossEntropy(class_weights=[1.0, 2.0, 3.0], ignore_label=254)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, SparseCrossEntropy)
    assert copy.get_config() == loss.get_config()


@pytest.mark.parametrize("class_weights", [[1.0, -1.0], [0.0, 0.0]])
def test_impossible_weights_are_refused(class_weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match="factors of 0 or more, not all 0"):
        SparseCrossEntropy(class_weights=class_weights)


def test_weights_must_match_the_classes(batch: Batch) -> None:
    with pytest.raises(ValueError, match="2 class_weights for 3 classes"):
        SparseCrossEntropy(class_weights=[1.0, 1.0])(*batch)


def test_median_frequency_weights_are_the_median_over_the_frequency() -> None:
    assert median_frequency_weights([100, 200, 400]) == [2.0, 1.0, 0.5]
    assert median_frequency_weights([100, 300]) == pytest.approx([2.0, 2 / 3])


def test_a_class_without_pixels_weighs_nothing_and_leaves_the_others_alone() -> None:
    assert median_frequency_weights([100, 0, 200, 400]) == [2.0, 0.0, 1.0, 0.5]


def test_weights_of_no_pixels_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="no class has a pixel"):
        median_frequency_weights([0, 0])
