"""The TFMA metric without a pipeline: what it counts, in whatever order and grouping."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from conftest import png_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.evaluator.gate import UNFOUND_CLASSES, UNMEASURED_CLASSES
from components.evaluator.tfma_metrics import (
    CEILING_MATRIX,
    CONFUSION_MATRIX,
    EXAMPLES,
    INVALID_MASKS,
    SegmentationMetrics,
)
from components.imaging.reading import InputSize
from components.metrics.ceiling import restored_target

NAMES = ["sky", "road", "car"]
IGNORE = 255

ids = st.integers(0, len(NAMES) - 1)
example = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=ids | st.just(IGNORE)), hnp.arrays(np.uint8, shape, elements=ids)
    )
)
examples = st.lists(example, min_size=1, max_size=6)
Pairs = list[tuple[np.ndarray, np.ndarray]]


def png(mask: np.ndarray) -> np.ndarray:
    return np.array([png_bytes(mask)], dtype=object)


def extracts(truth: np.ndarray, prediction: np.ndarray, name: str = "a.jpg") -> dict[str, Any]:
    return {
        tfma.LABELS_KEY: png(truth),
        tfma.PREDICTIONS_KEY: png(prediction),
        tfma.FEATURES_KEY: {"image/filename": np.array([name.encode()], dtype=object)},
    }


def evaluate(
    groups: list[list[dict[str, Any]]],
    model_names: tuple[str, ...] = ("",),
    allowed: Collection[str] = (),
    input_size: InputSize | None = None,
) -> dict[str, Any]:
    """Runs the metric with one accumulator a group; the result by ``model:metric``."""
    metric = SegmentationMetrics(NAMES, IGNORE, list(allowed), input_size)
    (computation,) = metric.computations(model_names=list(model_names))
    (preprocessor,) = computation.preprocessors
    accumulators = []
    for group in groups:
        accumulator = computation.combiner.create_accumulator()
        for each in group:
            for counts in preprocessor.process(each):
                accumulator = computation.combiner.add_input(accumulator, counts)
        accumulators.append(accumulator)
    merged = computation.combiner.merge_accumulators(accumulators)
    return {
        f"{key.model_name}:{key.name}": value
        for key, value in computation.combiner.extract_output(merged).items()
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, str):
            assert value == other[name]
        else:
            np.testing.assert_array_equal(value, other[name], err_msg=name)


@settings(max_examples=40, deadline=None)
@given(examples, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_never_matters(pairs: Pairs, random: Any) -> None:
    ordered = [extracts(*pair) for pair in pairs]
    shuffled = random.sample(ordered, len(ordered))
    assert_same(evaluate([ordered]), evaluate([shuffled]))


@settings(max_examples=40, deadline=None)
@given(examples, st.integers(0, 6), st.integers(0, 6))
def test_how_the_examples_are_grouped_never_matters(pairs: Pairs, first: int, second: int) -> None:
    each = [extracts(*pair) for pair in pairs]
    first, second = sorted((first, second))
    assert_same(evaluate([each]), evaluate([each[:first], each[first:second], each[second:]]))


@settings(max_examples=60, deadline=None)
@given(examples, st.sets(st.sampled_from(NAMES)))
def test_classes_without_a_pixel_or_never_found_are_counted_unless_allowed(
    pairs: Pairs, allowed: set[str]
) -> None:
    shown = {class_id for truth, _ in pairs for class_id in truth.ravel().tolist()}
    found = {class_id for truth, prediction in pairs for class_id in truth[truth == prediction].tolist()}
    required = {class_id for class_id, name in enumerate(NAMES) if name not in allowed}
    result = evaluate([[extracts(*pair) for pair in pairs]], allowed=allowed)
    assert result[f":{UNMEASURED_CLASSES}"] == len(required - shown)
    assert result[f":{UNFOUND_CLASSES}"] == len(required & shown - found)


@settings(max_examples=60, deadline=None)
@given(examples, st.integers(0, 6), st.integers(1, 4), st.integers(1, 4))
def test_the_ceiling_counts_what_each_truth_is_after_the_resize_whatever_is_predicted(
    pairs: Pairs, cut: int, height: int, width: int
) -> None:
    size = InputSize(height, width, "letterbox")
    expected = np.zeros((len(NAMES), len(NAMES)), np.int64)
    for truth, _ in pairs:
        counted = truth != IGNORE
        np.add.at(expected, (truth[counted], restored_target(truth, size)[counted]), 1)
    each = [extracts(*pair) for pair in pairs]
    result = evaluate([each[:cut], each[cut:]], input_size=size)
    np.testing.assert_array_equal(result[f":{CEILING_MATRIX}"], expected)
    # Of the same pixels as the confusion matrix, class by class.
    np.testing.assert_array_equal(expected.sum(axis=1), result[f":{CONFUSION_MATRIX}"].sum(axis=1))


def test_windows_at_a_pictures_own_size_lose_nothing() -> None:
    truth = np.random.default_rng(4).integers(0, len(NAMES), (9, 7)).astype(np.uint8)
    result = evaluate([[extracts(truth, truth)]], input_size=InputSize(4, 4, "native"))
    np.testing.assert_array_equal(result[f":{CEILING_MATRIX}"], np.diag(np.bincount(truth.ravel())))


def test_without_an_input_size_nothing_is_said_of_a_ceiling() -> None:
    mask = np.zeros((2, 2), np.uint8)
    assert f":{CEILING_MATRIX}" not in evaluate([[extracts(mask, mask)]])


def test_each_of_two_models_gets_its_own_numbers() -> None:
    truth = np.array([[0, 1, 2]], np.uint8)
    worse = np.array([[0, 1, 1]], np.uint8)
    both = {
        tfma.LABELS_KEY: {"candidate": png(truth), "baseline": png(truth)},
        tfma.PREDICTIONS_KEY: {"candidate": png(truth), "baseline": png(worse)},
        tfma.FEATURES_KEY: {},
    }
    result = evaluate([[both]], ("candidate", "baseline"))
    assert result["candidate:mean_iou"] == 1.0
    assert result["baseline:mean_iou"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert result[f"baseline:{EXAMPLES}"] == 1
    np.testing.assert_array_equal(result[f"baseline:{CONFUSION_MATRIX}"], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_masks_that_cannot_be_compared_are_counted_and_the_first_name_is_told() -> None:
    mask = np.zeros((2, 2), np.uint8)
    broken = [extracts(mask, np.zeros((2, 3), np.uint8), name) for name in ("b.jpg", "a.jpg")]
    unreadable = {**extracts(mask, mask, "c.jpg"), tfma.LABELS_KEY: np.array([b"?"], dtype=object)}
    missing = {**extracts(mask, mask, "d.jpg"), tfma.LABELS_KEY: np.array([], dtype=object)}
    result = evaluate([[broken[0], extracts(mask, mask)], [broken[1], unreadable, missing]])
    assert result[f":{INVALID_MASKS}"].startswith("4 of 5 examples, first a.jpg: prediction is 2 × 3 pixels")
    assert "ground truth is not a readable PNG" in evaluate([[unreadable]])[f":{INVALID_MASKS}"]
    assert "has no ground truth" in evaluate([[missing]])[f":{INVALID_MASKS}"]
    other = evaluate([[extracts(mask, np.full((2, 2), 4, np.uint8))]])[f":{INVALID_MASKS}"]
    assert "prediction has pixels of class id 4; the classes are 0 … 2" in other


@pytest.mark.parametrize(
    ("faulty", "named"), [("candidate", "the candidate"), ("baseline", "the served model")]
)
def test_of_two_models_the_one_whose_masks_cannot_be_compared_is_named(faulty: str, named: str) -> None:
    mask = np.zeros((2, 2), np.uint8)

    def story(wrong: np.ndarray) -> str:
        predictions = {"candidate": png(mask), "baseline": png(mask), faulty: wrong}
        both = {**extracts(mask, mask), tfma.PREDICTIONS_KEY: predictions}
        return str(evaluate([[both]], ("candidate", "baseline"))[f"candidate:{INVALID_MASKS}"])

    assert f"first a.jpg: prediction of {named} is 2 × 3 pixels" in story(png(np.zeros((2, 3), np.uint8)))
    assert f"prediction of {named} has pixels of class id 4" in story(png(np.full((2, 2), 4, np.uint8)))
    assert f"prediction of {named} is not a readable PNG" in story(np.array([b"?"], dtype=object))
    assert f"has no prediction of {named}" in story(np.array([], dtype=object))


def test_the_metric_is_rebuilt_from_its_config() -> None:
    metric = SegmentationMetrics(NAMES, IGNORE, ["cat"], InputSize(8, 9, "native", 0.5))
    config = json.loads(json.dumps(metric.get_config()))
    assert SegmentationMetrics.from_config(config).get_config() == metric.get_config()
