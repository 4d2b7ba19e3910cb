"""The intervals against reasoning and against a bootstrap that shares no code with ours."""

import random

import numpy as np
import pytest

from components.metrics.confusion import Margins, margins
from components.metrics.table import MEAN_IOU, METRICS
from components.report.bootstrap import bootstrap
from components.report.data import Interval


def confusions(images: int, classes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (images, classes, classes))
    counts[:, np.arange(classes), np.arange(classes)] += rng.integers(0, 900, (images, classes))
    return counts


def independent_interval(images: np.ndarray, resamples: int) -> tuple[float, float]:
    """Of mean IoU, by loops and the standard library."""
    draw = random.Random(1)
    found = []
    for _ in range(resamples):
        total = np.sum([images[draw.randrange(len(images))] for _ in images], axis=0)
        classes = range(len(total))
        ious = [
            total[c][c] / (sum(total[c]) + sum(row[c] for row in total) - total[c][c])
            for c in classes
            if sum(total[c]) + sum(row[c] for row in total)
        ]
        found.append(sum(ious) / len(ious))
    found.sort()
    return found[int(0.025 * resamples)], found[int(0.975 * resamples)]


def interval_of(images: np.ndarray, name: str = "mean_iou") -> Interval:
    intervals = bootstrap(margins(images))
    interval = intervals and intervals.metrics[name]
    assert interval
    return interval


def test_the_interval_of_mean_iou_is_that_of_an_independent_bootstrap() -> None:
    images = confusions(30, 3, seed=5)
    found = interval_of(images)
    low, high = independent_interval(images, 2000)
    tolerance = 0.1 * (high - low)
    assert found.low == pytest.approx(low, abs=tolerance)
    assert found.high == pytest.approx(high, abs=tolerance)
    assert found.low < float(MEAN_IOU(margins(images.sum(axis=0)))) < found.high


def test_of_two_images_the_interval_reaches_from_one_alone_to_the_other_alone() -> None:
    """A quarter of all resamples is one of them twice, another quarter the other twice."""
    images = np.array([[[8, 2], [0, 10]], [[1, 9], [5, 5]]])
    for metric in METRICS:
        worse, better = sorted(float(metric(margins(image))) for image in images)
        found = interval_of(images, metric.name)
        assert (found.low, found.high) == pytest.approx((worse, better))


def test_the_interval_holds_the_middle_95_percent() -> None:
    """Half of 400 images are right, half are wrong: the standard error of their share is 0.5 / sqrt(400)."""
    right, wrong = np.diag([50, 0]), np.array([[0, 50], [0, 0]])
    found = interval_of(np.array([right, wrong] * 200), "pixel_accuracy")
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.025, rel=0.06)


def test_a_class_that_a_resample_misses_keeps_its_value() -> None:
    """One image of ten has the second class, and all are right: so is every resample."""
    found = interval_of(np.array([np.diag([50, 0])] * 9 + [np.diag([50, 5])]))
    assert (found.low, found.high) == (1.0, 1.0)


def test_one_image_has_no_interval() -> None:
    assert bootstrap(margins(confusions(1, 2, seed=0))) is None


def test_a_class_that_one_image_alone_shows_has_no_interval() -> None:
    images = confusions(20, 3, seed=4)
    images[1:, 2] = images[1:, :, 2] = 0
    intervals = bootstrap(margins(images))
    assert intervals and intervals.iou[0] and intervals.iou[2] is None
    # Predicted elsewhere, it is still shown by one image.
    images[5:, 0, 2] = 10
    intervals = bootstrap(margins(images))
    assert intervals and intervals.iou[2] is None
    images[1, 2, 2] = 10
    intervals = bootstrap(margins(images))
    assert intervals and intervals.iou[2]


def test_a_class_that_occurs_nowhere_has_no_interval_and_spoils_no_other() -> None:
    images = confusions(10, 3, seed=2)
    images[:, 2] = images[:, :, 2] = 0
    intervals, without = bootstrap(margins(images)), bootstrap(margins(images[:, :2, :2]))
    assert intervals and without
    assert intervals.iou[2] is None
    assert intervals.metrics == without.metrics


def test_rare_classes_that_resamples_miss_do_not_move_the_interval_away_from_the_metric() -> None:
    images = np.zeros((20, 20, 20), np.int64)
    images[:, 0, 0] = 90 + np.arange(20)
    for class_id in range(1, 20):
        # In one image each, and never recognised.
        images[class_id, class_id, 0] = 1
    for metric in METRICS:
        if metric.is_class_mean:
            found = interval_of(images, metric.name)
            assert found.low < float(metric(margins(images.sum(axis=0)))) < found.high


def test_images_without_a_pixel_that_counts_have_no_interval_of_anything() -> None:
    intervals = bootstrap(margins(np.zeros((5, 2, 2), np.int64)))
    assert intervals == (dict.fromkeys((metric.name for metric in METRICS), None), (None, None))


def test_the_same_images_give_the_same_interval() -> None:
    images = margins(confusions(12, 2, seed=3))
    assert bootstrap(images) == bootstrap(Margins(*(margin.copy() for margin in images)))
