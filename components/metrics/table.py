"""The one table of metrics: names, how they follow from the confusion matrix, and how people read them.

A metric is a sum and what it is divided by, both of which add up over images; the Evaluator, the intervals,
the summary, the terminal and the pages take all that is in the table. NumPy only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from components.metrics.confusion import Margins


class Sums(NamedTuple):
    """A metric before the division; [...] each, or [..., C] of classes."""

    value: np.ndarray
    normalizer: np.ndarray

    def ratio(self) -> np.ndarray:
        """Divides; 0 / 0, where there was nothing to measure, is NaN."""
        with np.errstate(invalid="ignore"):
            return np.true_divide(self.value, self.normalizer)


def class_iou(counts: Margins) -> Sums:
    """Jaccard's index of each class, TP / (TP + FP + FN)."""
    return Sums(counts.hits, counts.truth + counts.predicted - counts.hits)


def _shown_class_iou(counts: Margins) -> Sums:
    iou = class_iou(counts)
    return Sums(iou.value, np.where(counts.truth > 0, iou.normalizer, 0))


def class_dice(counts: Margins) -> Sums:
    """Dice's coefficient of each class, 2 TP / (2 TP + FP + FN)."""
    return Sums(2 * counts.hits, counts.truth + counts.predicted)


def _pixel_accuracy(counts: Margins) -> Sums:
    return Sums(counts.hits.sum(axis=-1), counts.truth.sum(axis=-1))


def _frequency_weighted_iou(counts: Margins) -> Sums:
    iou = class_iou(counts).ratio()
    weighted = np.where(counts.truth > 0, counts.truth * iou, 0.0)
    return Sums(weighted.sum(axis=-1), counts.truth.sum(axis=-1))


@dataclass(frozen=True)
class Metric:
    """A metric of the whole split."""

    name: str
    """In TFMA's output, ``summary.json`` and ``report.json``."""
    label: str
    """As it stands within a sentence."""
    sums: Callable[[Margins], Sums]
    is_class_mean: bool = False
    """``sums`` is of each class; the metric is the mean over those with something to divide by."""
    on_terminal: bool = True
    """Whether it stands in the few lines that end a run."""

    def __call__(self, counts: Margins) -> np.ndarray:
        """Computes it of one confusion matrix or of many: float64 [...], NaN where nothing was measured."""
        sums = self.sums(counts)
        if not self.is_class_mean:
            return sums.ratio()
        occurs = sums.normalizer > 0
        return Sums(np.where(occurs, sums.ratio(), 0.0).sum(axis=-1), occurs.sum(axis=-1)).ratio()


MEAN_IOU: Final = Metric("mean_iou", "mean IoU", class_iou, is_class_mean=True)
"""What the gate's thresholds on the whole split and on slices are about, but for that on a change."""
SHOWN_MEAN_IOU: Final = Metric(
    "mean_iou_of_test_classes", "mean IoU of the test split's classes", _shown_class_iou, is_class_mean=True
)
"""What two models are compared by: the mean over the classes that the truth shows, the same for both. In
`MEAN_IOU` a single pixel wrongly predicted as another class adds a 0 to the mean of that model alone."""
METRICS: Final = (
    MEAN_IOU,
    Metric("mean_dice", "mean Dice", class_dice, is_class_mean=True),
    Metric("pixel_accuracy", "pixel accuracy", _pixel_accuracy),
    Metric("frequency_weighted_iou", "frequency-weighted IoU", _frequency_weighted_iou, on_terminal=False),
)
"""In the order they are shown. Source: Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic
Segmentation", 2015, section 5 (pixel accuracy, mean IU, frequency weighted IU)."""
CLASS_METRICS: Final = {"iou": class_iou, "dice": class_dice}
"""Of each class, named ``iou/cat`` in TFMA's output."""
