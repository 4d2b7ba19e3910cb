"""The loss as training uses it: a sum of terms, compiled, saved, and strict about its arguments."""

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest

from models.losses import LOSSES
from models.losses.segmentation_loss import SegmentationLoss

Batch = tuple[np.ndarray, np.ndarray]

ALL = dict.fromkeys(LOSSES, 0.5)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(3)
    class_ids = rng.choice([0, 1, 2, 255], size=(3, 4, 5)).astype(np.uint8)
    return class_ids, rng.normal(0, 3, (3, 4, 5, 3)).astype(np.float32)


def test_losses_are_added_up_times_their_weights(batch: Batch) -> None:
    weights = {"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0, "lovasz": 3.0}
    expected = sum(weight * float(SegmentationLoss({name: 1.0})(*batch)) for name, weight in weights.items())
    assert float(SegmentationLoss(weights)(*batch)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_class_ids_may_be_any_integers(batch: Batch, dtype: type[np.integer]) -> None:
    class_ids, logits = batch
    loss = SegmentationLoss(ALL)
    assert float(loss(class_ids.astype(dtype), logits)) == float(loss(class_ids, logits))


def test_half_precision_logits_are_judged_in_float32(batch: Batch) -> None:
    class_ids, logits = batch
    logits = logits.astype(np.float16)
    loss = SegmentationLoss(ALL)
    assert keras.backend.standardize_dtype(loss(class_ids, logits).dtype) == "float32"
    assert float(loss(class_ids, logits)) == float(loss(class_ids, logits.astype(np.float32)))


@pytest.mark.parametrize("ignore_label", [7, 1])
def test_another_ignore_label_can_be_chosen_even_one_of_the_classes(batch: Batch, ignore_label: int) -> None:
    class_ids, logits = batch
    class_ids = np.where(class_ids == 1, 255, class_ids)
    renamed = np.where(class_ids == 255, ignore_label, class_ids)
    assert float(SegmentationLoss(ALL, ignore_label=ignore_label)(renamed, logits)) == float(
        SegmentationLoss(ALL)(class_ids, logits)
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
    loss = SegmentationLoss(ALL, class_weights=[1, 2, 3])
    model.compile(keras.optimizers.Adam(0.1), loss, jit_compile=jit_compile)
    # Two in a batch: the last one is smaller.
    losses = model.fit(images, class_ids, batch_size=2, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    expected = float(loss(class_ids, model(images)))
    assert model.evaluate(images, class_ids, batch_size=5, verbose=0) == pytest.approx(expected, rel=2e-2)


def test_loss_survives_serialisation(batch: Batch) -> None:
    loss = SegmentationLoss(
        {
            "focal": {"gamma": 1.5, "label_smoothing": 0.1},
            "tversky": {"weight": 0.5, "alpha": 0.2, "beta": 0.9},
            "cross_entropy": 2,
        },
        class_weights=[1.0, 2.0, 3.0],
        ignore_label=254,
        name="mixture",
    )
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, SegmentationLoss)
    assert copy.get_config() == loss.get_config()
    class_ids, logits = batch
    class_ids = np.where(class_ids == 255, 254, class_ids)
    assert float(copy(class_ids, logits)) == float(loss(class_ids, logits))


@pytest.mark.parametrize(
    ("losses", "class_weights", "message"),
    [
        (
            {"cross_entropy": 1, "jaccard": 1},
            None,
            "there is no loss 'jaccard'; choose from cross_entropy, dice",
        ),
        ({}, None, "there are no losses; choose from cross_entropy"),
        ({"dice": 0}, None, "dice.weight is 0.0; give a number > 0"),
        ({"dice": 2, "focal": -1}, None, "focal.weight is -1.0; give a number > 0"),
        ({"dice": float("nan")}, None, "dice.weight is nan; give a number > 0"),
        ({"dice": 1}, [1.0, -1.0], "class_weights is .*; give factors of 0 or more"),
        ({"dice": 1}, [0.0, 0.0], "class_weights is .*; give factors of 0 or more"),
        ({"dice": {"gamma": 1}}, None, "dice has no parameter 'gamma'; there is weight"),
        ({"focal": {"label_smoothing": 1}}, None, "focal.label_smoothing is 1.0; give a number ≥ 0, < 1"),
        ({"focal": {"gamma": -0.1}}, None, "focal.gamma is -0.1; give a number ≥ 0"),
        ({"tversky": {"beta": 0}}, None, "tversky.beta is 0.0; give a number > 0"),
        ({"tversky": {"alpha": float("inf")}}, None, "tversky.alpha is inf; give a number ≥ 0"),
    ],
)
def test_impossible_arguments_are_refused(
    losses: dict[str, Any], class_weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(losses, class_weights=class_weights)


@pytest.mark.parametrize("name", LOSSES)
def test_a_registered_loss_is_a_function_that_takes_its_parameters(name: str) -> None:
    function = getattr(import_module(f"models.losses.{LOSSES[name].module}"), name)
    _, *parameters = inspect.signature(function).parameters
    assert parameters == list(LOSSES[name].parameters)


def test_the_registry_needs_no_keras() -> None:
    code = "import sys, models.losses; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_must_match_the_classes(batch: Batch) -> None:
    with pytest.raises(ValueError, match="2 class_weights for 3 classes"):
        SegmentationLoss({"dice": 1.0}, class_weights=[1.0, 1.0])(*batch)
