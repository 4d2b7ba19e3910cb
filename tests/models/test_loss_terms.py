"""Every term of the loss against an independent computation, and what must hold for all batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import LOSSES
from models.losses.segmentation_loss import SegmentationLoss

IGNORED = 255
REGION_TERMS = ["dice", "tversky", "lovasz"]

Batch = tuple[np.ndarray, np.ndarray]
Oracle = Callable[..., float]


def rows(class_ids: np.ndarray, logits: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """True class and probabilities of each counted pixel, in float64."""
    pixels = []
    for truth, values in zip(class_ids.ravel(), logits.reshape(-1, logits.shape[-1]), strict=True):
        if truth != IGNORED:
            powers = np.exp(values.astype(np.float64) - values.max())
            pixels.append((int(truth), powers / powers.sum()))
    return pixels


def focal_oracle(
    batch: Batch, weights: list[float], *, gamma: float = 2.0, label_smoothing: float = 0.0
) -> float:
    """Pixel by pixel and class by class: target, times how wrong, times cross-entropy."""
    total = weight_sum = 0.0
    for truth, probabilities in rows(*batch):
        for class_id, p in enumerate(probabilities):
            target = label_smoothing / len(weights) + (1 - label_smoothing) * (class_id == truth)
            total -= weights[truth] * target * (1 - p) ** gamma * np.log(p)
        weight_sum += weights[truth]
    return total / weight_sum


def cross_entropy_oracle(batch: Batch, weights: list[float], *, label_smoothing: float = 0.0) -> float:
    return focal_oracle(batch, weights, gamma=0.0, label_smoothing=label_smoothing)


def over_present_classes(batch: Batch, weights: list[float], loss_of_class: Callable[[int], float]) -> float:
    present = sorted({truth for truth, _ in rows(*batch)})
    total = sum(weights[class_id] * loss_of_class(class_id) for class_id in present)
    return total / sum(weights[class_id] for class_id in present)


def tversky_oracle(batch: Batch, weights: list[float], *, alpha: float = 0.3, beta: float = 0.7) -> float:
    def of_class(class_id: int) -> float:
        hits = false_alarms = misses = 0.0
        for truth, probabilities in rows(*batch):
            if truth == class_id:
                hits += probabilities[class_id]
                misses += 1 - probabilities[class_id]
            else:
                false_alarms += probabilities[class_id]
        return 1 - hits / (hits + alpha * false_alarms + beta * misses)

    return over_present_classes(batch, weights, of_class)


def dice_oracle(batch: Batch, weights: list[float]) -> float:
    def of_class(class_id: int) -> float:
        intersection = sum(
            probabilities[class_id] for truth, probabilities in rows(*batch) if truth == class_id
        )
        predicted = sum(probabilities[class_id] for _, probabilities in rows(*batch))
        true = sum(truth == class_id for truth, _ in rows(*batch))
        return 1 - 2 * intersection / (predicted + true)

    return over_present_classes(batch, weights, of_class)


def lovasz_oracle(batch: Batch, weights: list[float]) -> float:
    """The Lovász extension by its definition: a set function's differences along the sorted errors."""

    def of_class(class_id: int) -> float:
        members = {index for index, (truth, _) in enumerate(rows(*batch)) if truth == class_id}
        errors = [
            1 - probabilities[class_id] if truth == class_id else probabilities[class_id]
            for truth, probabilities in rows(*batch)
        ]

        def jaccard_loss(wrong: set[int]) -> float:
            return len(wrong) / len(members | wrong)

        order = sorted(range(len(errors)), key=lambda index: -errors[index])
        return sum(
            errors[index] * (jaccard_loss(set(order[: rank + 1])) - jaccard_loss(set(order[:rank])))
            for rank, index in enumerate(order)
        )

    return over_present_classes(batch, weights, of_class)


ORACLES: dict[str, Oracle] = {
    "cross_entropy": cross_entropy_oracle,
    "dice": dice_oracle,
    "focal": focal_oracle,
    "tversky": tversky_oracle,
    "lovasz": lovasz_oracle,
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("cross_entropy", {}),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("dice", {}),
    ("focal", {}),
    ("focal", {"gamma": 0.5}),
    ("focal", {"gamma": 3.0, "label_smoothing": 0.2}),
    ("tversky", {}),
    ("tversky", {"alpha": 0.0, "beta": 1.5}),
    ("lovasz", {}),
]
every_option = pytest.mark.parametrize(
    ("term", "options"), OPTIONS, ids=[" ".join(map(str, (term, *given.values()))) for term, given in OPTIONS]
)
every_term = pytest.mark.parametrize("term", LOSSES)


def value(term: str, batch: Batch, class_weights: Sequence[float] | None = None, **options: float) -> float:
    return float(SegmentationLoss({term: options}, class_weights=class_weights)(*batch))


def value_and_gradient(
    term: str, batch: Batch, class_weights: Sequence[float] | None = None, **options: float
) -> tuple[float, np.ndarray]:
    class_ids, logits = batch
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = SegmentationLoss({term: options}, class_weights=class_weights)(class_ids, logits)
    return float(loss), tape.gradient(loss, logits).numpy()


def random_batch(shape: tuple[int, int, int], seed: int = 3, num_classes: int = 3) -> Batch:
    """Logits and truth of any class, ignored ones among them; the last class never occurs."""
    rng = np.random.default_rng(seed)
    class_ids = rng.choice([*range(num_classes - 1), IGNORED], size=shape).astype(np.uint8)
    class_ids.flat[0] = 0
    return class_ids, rng.normal(0, 2, (*shape, num_classes)).astype(np.float32)


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (1, 4, 4), (2, 1, 7), (1, 1, 1)], ids=["batch", "one image", "one row", "one pixel"]
)
@pytest.mark.parametrize(
    "weights", [None, [1.0, 2.5, 0.25], [3.0, 0.0, 0.0]], ids=["alike", "weighted", "first class only"]
)
@every_option
def test_value_is_that_of_the_independent_computation(
    term: str, options: dict[str, Any], shape: tuple[int, int, int], weights: list[float] | None
) -> None:
    batch = random_batch(shape)
    expected = ORACLES[term](batch, weights or [1.0] * 3, **options)
    assert value(term, batch, class_weights=weights, **options) == pytest.approx(expected, rel=1e-5)


@every_option
def test_gradient_is_the_slope_of_the_independent_computation(term: str, options: dict[str, Any]) -> None:
    class_ids, logits = random_batch((2, 2, 3))
    weights = [0.5, 2.0, 1.0]
    logits = logits.astype(np.float64)
    expected = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        above = ORACLES[term]((class_ids, logits + step), weights, **options)
        below = ORACLES[term]((class_ids, logits - step), weights, **options)
        expected[index] = (above - below) / 2e-5
    _, gradient = value_and_gradient(term, (class_ids, logits), class_weights=weights, **options)
    np.testing.assert_allclose(gradient, expected, atol=2e-6)
    assert np.abs(expected).max() > 1e-3


@every_option
def test_ignored_pixels_get_no_gradient_at_all(term: str, options: dict[str, Any]) -> None:
    class_ids, logits = random_batch((2, 4, 4))
    _, gradient = value_and_gradient(term, (class_ids, logits), **options)
    assert (gradient[class_ids == IGNORED] == 0).all()
    assert (gradient[class_ids != IGNORED] != 0).any()


@pytest.mark.parametrize("scale", [0.0, 1e4], ids=["undecided", "saturated"])
@pytest.mark.parametrize(
    ("class_ids", "weights"),
    [(np.full((2, 2, 2), IGNORED), None), (np.zeros((2, 2, 2), int), [0.0, 1.0, 1.0])],
    ids=["everything ignored", "only a class of weight 0"],
)
@every_option
def test_where_nothing_counts_loss_and_gradient_are_zero(
    term: str, options: dict[str, Any], class_ids: np.ndarray, weights: list[float] | None, scale: float
) -> None:
    logits = scale * np.random.default_rng(0).normal(size=(2, 2, 2, 3))
    loss, gradient = value_and_gradient(term, (class_ids, logits), class_weights=weights, **options)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@every_option
def test_probabilities_of_exactly_0_and_1_leave_loss_and_gradient_finite(
    term: str, options: dict[str, Any]
) -> None:
    class_ids = np.array([[[0, 0, 1, IGNORED]]])
    for predicted in ([0, 0, 1, 2], [1, 1, 0, 0], [2, 2, 2, 2]):
        logits = 1e4 * np.eye(3)[predicted][None, None]
        loss, gradient = value_and_gradient(term, (class_ids, logits), **options)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("term", REGION_TERMS)
def test_a_class_that_the_truth_does_not_show_is_not_averaged(term: str) -> None:
    class_ids, logits = random_batch((2, 3, 3))
    with_class, without_weight = (
        value(term, (class_ids, logits), class_weights=weights) for weights in ([1, 1, 1], [1, 1, 0])
    )
    assert with_class == without_weight
    _, gradient = value_and_gradient(term, (class_ids, logits))
    # A logit's gradient over its probability is, up to a constant, the gradient of that probability.
    slopes = (gradient / tf.nn.softmax(logits))[class_ids != IGNORED].numpy()
    of_true_class = slopes[np.arange(len(slopes)), class_ids[class_ids != IGNORED]]
    assert (slopes[:, 2] > of_true_class).all(), "giving it what is another's is punished all the same"


def test_dice_keeps_its_digits_over_many_pixels() -> None:
    rng = np.random.default_rng(6)
    truth = (rng.random((1, 2048, 2048)) < 0.02).astype(int)
    logits = rng.normal(3, 0.5, truth.shape).astype(np.float32)
    found = 1 / (1 + np.exp(logits.astype(np.float64)))
    index = [
        2 * probability[members].sum() / (probability.sum() + members.sum())
        for probability, members in ((1 - found, truth == 0), (found, truth == 1))
    ]
    batch = truth, np.stack([logits, np.zeros_like(logits)], axis=-1)
    assert value("dice", batch) == pytest.approx(1 - np.mean(index), abs=2e-6)


def test_lovasz_gradient_keeps_its_digits_over_many_pixels() -> None:
    rng = np.random.default_rng(5)
    truth = (rng.random(512 * 512) < 0.3).astype(int)
    logits = rng.normal(0, 1, (truth.size, 2)).astype(np.float32)
    _, gradient = value_and_gradient("lovasz", (truth.reshape(1, 512, 512), logits.reshape(1, 512, 512, 2)))
    certainty = 1 / (1 + np.exp(np.diff(logits.astype(np.float64))[:, 0] * (1 - 2 * truth)))
    order = np.argsort(certainty)
    expected = np.zeros(truth.size)
    for class_id in (0, 1):
        members = truth[order] == class_id
        intersection = members.sum() - np.cumsum(members)
        union = members.sum() + np.cumsum(~members)
        expected[order] -= np.diff(1 - intersection / union, prepend=0) / 2
    expected *= certainty * (1 - certainty)
    actual = gradient.reshape(-1, 2)[np.arange(truth.size), truth]
    np.testing.assert_allclose(actual, expected, rtol=1e-3)


def test_lovasz_of_decided_pixels_is_one_minus_mean_iou() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2, 2, 2, IGNORED])
    predicted = np.array([0, 0, 1, 1, 2, 2, 2, 0, 1])
    iou = [2 / 4, 1 / 3, 2 / 4]
    batch = truth.reshape(1, 3, 3), 1e4 * np.eye(3)[predicted].reshape(1, 3, 3, 3)
    assert value("lovasz", batch) == pytest.approx(1 - np.mean(iou), rel=1e-6)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """One shape, so that what TensorFlow compiles for it is compiled once."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    shown = draw(st.sets(st.sampled_from([0, 1, 2, IGNORED]), min_size=1))
    class_ids = rng.choice(sorted(shown), size=(2, 3, 4))
    return class_ids, rng.normal(0, draw(st.sampled_from([0.1, 2.0, 30.0])), (2, 3, 4, 3)).astype(np.float32)


@every_term
@settings(max_examples=20, deadline=None)
@given(batch=batches(), seed=st.integers(0, 1000))
def test_the_order_of_pixels_does_not_matter(term: str, batch: Batch, seed: int) -> None:
    class_ids, logits = batch
    order = np.random.default_rng(seed).permutation(class_ids.size)
    shuffled = class_ids.ravel()[order].reshape(1, 6, 4), logits.reshape(-1, 3)[order].reshape(1, 6, 4, 3)
    assert value(term, shuffled) == pytest.approx(value(term, batch), rel=1e-5, abs=1e-7)


@every_term
@settings(max_examples=20, deadline=None)
@given(batch=batches(), order=st.permutations(range(3)))
def test_the_order_of_classes_does_not_matter(term: str, batch: Batch, order: list[int]) -> None:
    class_ids, logits = batch
    weights = np.array([0.5, 1.0, 4.0])
    renumbered = np.append(np.argsort(order), np.full(IGNORED - 2, IGNORED))[class_ids]
    assert value(
        term, (renumbered, logits[..., order]), class_weights=weights[order].tolist()
    ) == pytest.approx(value(term, batch, class_weights=weights.tolist()), rel=1e-5, abs=1e-7)


@every_term
@settings(max_examples=20, deadline=None)
@given(batch=batches())
def test_perfect_predictions_cost_nothing_and_no_prediction_less(term: str, batch: Batch) -> None:
    class_ids = batch[0]
    perfect = 50 * np.eye(256)[class_ids][..., :3]
    assert value(term, (class_ids, perfect)) == pytest.approx(0, abs=1e-6)
    assert value(term, batch) >= -1e-6


@every_term
@settings(max_examples=20, deadline=None)
@given(batch=batches(), seed=st.integers(0, 1000))
def test_ignored_pixels_might_as_well_not_be_there(term: str, batch: Batch, seed: int) -> None:
    class_ids, logits = batch
    more = np.random.default_rng(seed).normal(0, 50, logits.shape)
    padded = np.append(class_ids, np.full_like(class_ids, IGNORED), axis=1), np.append(logits, more, axis=1)
    assert value(term, padded) == pytest.approx(value(term, batch), rel=1e-5, abs=1e-7)


@settings(max_examples=20, deadline=None)
@given(batch=batches(), smoothing=st.floats(0, 0.5))
def test_dice_and_cross_entropy_are_cases_of_tversky_and_focal(batch: Batch, smoothing: float) -> None:
    halves = value("tversky", batch, alpha=0.5, beta=0.5)
    assert value("dice", batch) == pytest.approx(halves, rel=1e-6)
    unfaded = value("focal", batch, gamma=0.0, label_smoothing=smoothing)
    assert value("cross_entropy", batch, label_smoothing=smoothing) == pytest.approx(unfaded, rel=1e-6)
