"""Confidence intervals of the metrics: percentile bootstrap over the test images."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from components.metrics.confusion import Margins
from components.metrics.table import METRICS, Metric, class_iou
from components.report.data import Interval

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
_SEED: Final = 0
_AT_ONCE: Final = 100
"""Resamples in memory at the same time."""


class Intervals(NamedTuple):
    """None where there was nothing to measure, or one image alone shows the class."""

    metrics: dict[str, Interval | None]
    """Of each metric of the table, by its name."""
    iou: tuple[Interval | None, ...]
    """One a class."""


def bootstrap(per_image: Margins) -> Intervals | None:
    """Returns the intervals that hold the middle 95 % of the metrics of resampled test splits.

    A resample draws as many images as there are, with replacement, and sums their confusion matrices: the
    metrics are those of the sum, as everywhere. A resample in which a metric cannot be measured is left
    out of that metric's interval. In the means a class that a resample happens to miss keeps the value that
    it has on all images: were it left out, a mean would rise with every rare, and so mostly badly
    recognised, class that is missed, and its interval might not even hold the metric itself. So the means'
    intervals know nothing of how much a class differs that one image shows, which has no interval of its own:
    whatever is drawn, it is that image.
    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).

    Args:
        per_image: int64 [N, C] each, of N images.

    Returns:
        None for fewer than two images, which tell nothing about how much images differ.
    """
    images = len(per_image.truth)
    if images < 2:
        return None
    whole = Margins(*(margin.sum(axis=0) for margin in per_image))
    metrics: dict[str, list[np.ndarray]] = {metric.name: [] for metric in METRICS}
    iou = []
    for drawn in _resampled(per_image, images):
        iou.append(class_iou(drawn).ratio())
        for metric in METRICS:
            metrics[metric.name].append(_of_resamples(metric, drawn, whole))
    return Intervals(
        {name: _interval(np.concatenate(values)) for name, values in metrics.items()},
        tuple(
            _interval(values) if images_of_class > 1 else None
            for values, images_of_class in zip(
                np.concatenate(iou).T, (per_image.truth > 0).sum(axis=0), strict=True
            )
        ),
    )


def _resampled(per_image: Margins, images: int) -> Iterator[Margins]:
    rng = np.random.default_rng(_SEED)
    # float64 multiplies on all cores, integers do not; sums of pixels stay exact below 2^53.
    counts = [margin.astype(np.float64) for margin in per_image]
    for start in range(0, RESAMPLES, _AT_ONCE):
        # How often each image is drawn.
        draws = rng.multinomial(images, np.full(images, 1 / images), min(_AT_ONCE, RESAMPLES - start))
        yield Margins(*(draws.astype(np.float64) @ margin for margin in counts))


def _of_resamples(metric: Metric, drawn: Margins, whole: Margins) -> np.ndarray:
    """Computes a metric of each resample, float64 [resamples], with the classes that occur in any image."""
    if not metric.is_class_mean:
        return metric(drawn)
    values, of_all = metric.sums(drawn).ratio(), metric.sums(whole).ratio()
    occurs = ~np.isnan(of_all)
    if not occurs.any():
        return np.full(len(values), np.nan)
    return np.where(np.isnan(values), of_all, values)[:, occurs].mean(axis=1)


def _interval(values: np.ndarray) -> Interval | None:
    measured = values[~np.isnan(values)]
    if not measured.size:
        return None
    low, high = (float(np.quantile(measured, share)) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(low=low, high=high)
