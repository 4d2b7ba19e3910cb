"""The loss as training uses it: a sum of terms, compiled, saved, and strict about its arguments."""

from typing import Any, get_args

import keras
import numpy as np
import pytest

from models.losses import SegmentationLoss
from models.options import LossName

Batch = tuple[np.ndarray, np.ndarray]

ALL_TERMS: dict[LossName, float] = dict.fromkeys(get_args(LossName), 0.5)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(3)
    class_ids = rng.choice([0, 1, 2, 255], size=(3, 4, 5)).astype(np.uint8)
    return class_ids, rng.normal(0, 3, (3, 4, 5, 3)).astype(np.float32)


def test_loss_is_the_sum_of_its_terms_times_their_factors(batch: Batch) -> None:
    factors: dict[LossName, float] = {
        "cross_entropy": 1.0,
        "dice": 0.5,
        "focal": 2.0,
        "tversky": 0.0,
        "lovasz": 3.0,
    }
    expected = sum(factor * float(SegmentationLoss({term: 1.0})(*batch)) for term, factor in factors.items())
    assert float(SegmentationLoss(factors)(*batch)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_class_ids_may_be_any_integers(batch: Batch, dtype: type[np.integer]) -> None:
    class_ids, logits = batch
    loss = SegmentationLoss(ALL_TERMS)
    assert float(loss(class_ids.astype(dtype), logits)) == float(loss(class_ids, logits))


def test_half_precision_logits_are_judged_in_float32(batch: Batch) -> None:
    class_ids, logits = batch
    logits = logits.astype(np.float16)
    loss = SegmentationLoss(ALL_TERMS)
    assert keras.backend.standardize_dtype(loss(class_ids, logits).dtype) == "float32"
    assert float(loss(class_ids, logits)) == float(loss(class_ids, logits.astype(np.float32)))


@pytest.mark.parametrize("ignore_label", [7, 1])
def test_another_ignore_label_can_be_chosen_even_one_of_the_classes(batch: Batch, ignore_label: int) -> None:
    class_ids, logits = batch
    class_ids = np.where(class_ids == 1, 255, class_ids)
    renamed = np.where(class_ids == 255, ignore_label, class_ids)
    assert float(SegmentationLoss(ALL_TERMS, ignore_label=ignore_label)(renamed, logits)) == float(
        SegmentationLoss(ALL_TERMS)(class_ids, logits)
    )


@pytest.mark.parametrize(("jit_compile", "policy"), [(False, "float32"), (True, "mixed_bfloat16")])
def test_keras_trains_with_every_term_at_once(jit_compile: bool, policy: str) -> None:
    rng = np.random.default_rng(0)
    class_ids = rng.integers(0, 3, (5, 4, 4)).astype(np.uint8)
    images = np.eye(3, dtype=np.float32)[class_ids]
    class_ids[:, 0] = 255
    keras.utils.set_random_seed(0)
    logits = keras.layers.Conv2D(3, 1, dtype=policy)
    model = keras.Sequential([keras.Input((4, 4, 3)), logits])
    loss = SegmentationLoss(ALL_TERMS, class_weights=[1, 2, 3], label_smoothing=0.01)
    model.compile(keras.optimizers.Adam(0.1), loss, jit_compile=jit_compile)
    # Two in a batch: the last one is smaller.
    losses = model.fit(images, class_ids, batch_size=2, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    expected = float(loss(class_ids, model(images)))
    assert model.evaluate(images, class_ids, batch_size=5, verbose=0) == pytest.approx(expected, rel=2e-2)


def test_loss_survives_serialisation(batch: Batch) -> None:
    loss = SegmentationLoss(
        {"focal": 1, "tversky": 0.5, "cross_entropy": 2},
        class_weights=[1.0, 2.0, 3.0],
        ignore_label=254,
        label_smoothing=0.1,
        focal_gamma=1.5,
        tversky_alpha=0.2,
        tversky_beta=0.9,
        name="mixture",
    )
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, SegmentationLoss)
    assert copy.get_config() == loss.get_config()
    class_ids, logits = batch
    class_ids = np.where(class_ids == 255, 254, class_ids)
    assert float(copy(class_ids, logits)) == float(loss(class_ids, logits))


@pytest.mark.parametrize(
    ("terms", "options", "message"),
    [
        ({"cross_entropy": 1, "jaccard": 1}, {}, r"terms names \['jaccard'\]; there are cross_entropy, dice"),
        ({}, {}, "terms is .*; give factors of 0 or more, not all 0"),
        ({"dice": 0}, {}, "terms is .*; give factors of 0 or more, not all 0"),
        ({"dice": 2, "focal": -1}, {}, "terms is .*; give factors of 0 or more, not all 0"),
        ({"dice": float("nan")}, {}, "terms is .*; give factors of 0 or more, not all 0"),
        ({"dice": 1}, {"class_weights": [1.0, -1.0]}, "class_weights is .*; give factors of 0 or more"),
        ({"dice": 1}, {"class_weights": [0.0, 0.0]}, "class_weights is .*; give factors of 0 or more"),
        ({"dice": 1}, {"label_smoothing": 1.0}, "label_smoothing is 1.0; give 0 … 1, 1 excluded"),
        ({"dice": 1}, {"focal_gamma": -0.1}, "focal_gamma is -0.1; give 0 or more"),
        ({"dice": 1}, {"tversky_alpha": -1}, "tversky_alpha is -1; give 0 or more"),
        ({"dice": 1}, {"tversky_beta": 0}, "tversky_beta is 0; give more than 0"),
    ],
)
def test_impossible_arguments_are_refused(
    terms: dict[LossName, float], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(terms, **options)


def test_weights_must_match_the_classes(batch: Batch) -> None:
    with pytest.raises(ValueError, match="2 class_weights for 3 classes"):
        SegmentationLoss({"dice": 1.0}, class_weights=[1.0, 1.0])(*batch)
