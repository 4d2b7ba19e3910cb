"""The numbers, against an oracle that thinks in sets of pixels."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from components.metrics.confusion import MaskError, count_pixels, decode_mask, margins
from components.metrics.table import CLASS_METRICS, MEAN_IOU, METRICS, class_dice, class_iou

CLASSES = 4
IGNORE = 255

ids = st.integers(0, CLASSES - 1)
pair = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=ids | st.just(IGNORE)), hnp.arrays(np.uint8, shape, elements=ids)
    )
)


def count(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return count_pixels(truth, prediction, CLASSES, IGNORE)


def oracle(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """The same metrics from sets of pixels, one class at a time, with Python numbers."""
    counted = [
        (int(t), int(p))
        for truth, prediction in pairs
        for t, p in zip(truth.flat, prediction.flat, strict=True)
        if t != IGNORE
    ]
    iou, dice = {}, {}
    weighted = 0.0
    for class_id in range(CLASSES):
        true = {i for i, (t, _) in enumerate(counted) if t == class_id}
        predicted = {i for i, (_, p) in enumerate(counted) if p == class_id}
        if true | predicted:
            iou[class_id] = len(true & predicted) / len(true | predicted)
            dice[class_id] = 2 * len(true & predicted) / (len(true) + len(predicted))
            weighted += len(true) * iou[class_id]
    return {
        "iou": iou,
        "dice": dice,
        "mean_iou": sum(iou.values()) / len(iou) if iou else math.nan,
        "mean_dice": sum(dice.values()) / len(dice) if dice else math.nan,
        "pixel_accuracy": sum(t == p for t, p in counted) / len(counted) if counted else math.nan,
        "frequency_weighted_iou": weighted / len(counted) if counted else math.nan,
    }


@given(st.lists(pair, min_size=1, max_size=4))
def test_all_metrics_equal_the_oracle(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    counts = margins(np.sum([count(*each) for each in pairs], axis=0))
    expected = oracle(pairs)
    for metric in METRICS:
        assert metric(counts) == pytest.approx(expected[metric.name], nan_ok=True, abs=1e-12)
    for name, class_sums in CLASS_METRICS.items():
        values = [expected[name].get(class_id, math.nan) for class_id in range(CLASSES)]
        assert class_sums(counts).ratio() == pytest.approx(values, nan_ok=True, abs=1e-12)


@given(pair, st.data())
def test_what_is_predicted_on_ignored_pixels_never_matters(
    masks: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    truth, prediction = masks
    other = data.draw(hnp.arrays(np.uint8, truth.shape))
    changed = np.where(truth == IGNORE, other, prediction)
    np.testing.assert_array_equal(count(truth, changed), count(truth, prediction))


@given(pair, st.permutations(range(CLASSES)))
def test_renaming_the_classes_renames_the_matrix(
    masks: tuple[np.ndarray, np.ndarray], order: list[int]
) -> None:
    rename = np.append(order, [0] * (256 - CLASSES)).astype(np.uint8)
    rename[IGNORE] = IGNORE
    renamed = count(rename[masks[0]], rename[masks[1]])
    np.testing.assert_array_equal(renamed[np.ix_(order, order)], count(*masks))


def test_a_class_that_occurs_nowhere_is_nan_and_not_in_the_mean() -> None:
    truth = np.array([[0, 1]], np.uint8)
    counts = margins(count(truth, truth))
    assert MEAN_IOU(counts) == 1.0
    assert math.isnan(class_iou(counts).ratio()[2])
    assert math.isnan(class_dice(counts).ratio()[3])


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    counts = margins(count(np.array([[0, 0]], np.uint8), np.array([[0, 2]], np.uint8)))
    assert class_iou(counts).ratio()[2] == 0.0
    assert MEAN_IOU(counts) == pytest.approx((0.5 + 0.0) / 2)


def test_nothing_to_measure_is_nan_throughout() -> None:
    truth = np.full((2, 2), IGNORE, np.uint8)
    counts = margins(count(truth, np.zeros_like(truth)))
    assert all(math.isnan(metric(counts)) for metric in METRICS)


def test_an_ignore_label_among_the_class_ids_is_ignored_too() -> None:
    truth = np.array([[0, 1, 2]], np.uint8)
    matrix = count_pixels(truth, truth, num_classes=3, ignore_label=1)
    np.testing.assert_array_equal(matrix, np.diag([1, 0, 1]))


def test_different_sizes_are_an_error_that_names_both() -> None:
    with pytest.raises(MaskError, match=r"2 × 3 pixels, the ground truth 3 × 2"):
        count(np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(("truth", "prediction", "what"), [(4, 0, "ground truth"), (0, 4, "prediction")])
def test_an_id_that_is_no_class_is_an_error_that_names_it(truth: int, prediction: int, what: str) -> None:
    with pytest.raises(MaskError, match=rf"{what} has pixels of class id 4; the classes are 0 … 3"):
        count(np.full((2, 2), truth, np.uint8), np.full((2, 2), prediction, np.uint8))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


@settings(max_examples=20)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_mask_survives_png(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_mask(png(Image.fromarray(mask))), mask)


def test_a_mask_that_pillow_alone_would_refuse_for_its_size_is_read() -> None:
    assert decode_mask(png(Image.new("L", (180_000, 1_000)))).shape == (1_000, 180_000)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"not a PNG",
        png(Image.effect_noise((32, 32), 64))[:500],
        png(Image.new("RGB", (2, 2))),
        png(Image.new("P", (2, 2))),
        jpeg(Image.new("L", (2, 2))),
    ],
    ids=["empty", "text", "truncated", "RGB", "palette", "JPEG"],
)
def test_bytes_that_are_no_mask_are_an_error(encoded: bytes) -> None:
    with pytest.raises(MaskError, match="PNG"):
        decode_mask(encoded)
