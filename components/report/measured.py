"""What the Evaluator found, put together with the page's own look at the test split."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from components.dataset.labels import LabelSet
from components.evaluation.confusion import Margins
from components.evaluation.results import EvaluationResult
from components.imaging.palette import told_apart
from components.report.bootstrap import RESAMPLES, Intervals, bootstrap
from components.report.collect import gate_checks
from components.report.data import Baseline, ClassResult, Evaluation, Metric, Slice
from components.report.predictions import Predictions

METRICS: Final = ("mean_iou", "mean_dice", "pixel_accuracy", "frequency_weighted_iou")
"""Keys of the headline metrics, the first one first."""


@dataclass(frozen=True)
class Measured:
    """What the Evaluator found and what the page's own look at the test split adds."""

    result: EvaluationResult
    baseline: Baseline | None
    predictions: Predictions
    labels: LabelSet

    def evaluation(self) -> Evaluation:
        """Returns the numbers of the whole split and of its slices."""
        result, intervals = self.result, self._intervals
        own: Mapping[str, Any] = result.metrics
        other: Mapping[str, Any] = result.baseline_metrics or {}
        return Evaluation(
            metrics=tuple(
                Metric(
                    key=key,
                    value=own[key],
                    baseline=other.get(key),
                    interval=getattr(intervals, key) if intervals else None,
                )
                for key in METRICS
            ),
            examples=result.metrics["examples"],
            baseline=self.baseline,
            checks=gate_checks(result),
            confusion=tuple(map(tuple, result.confusion_matrix.tolist())),
            slices=tuple(self._slice(name, value) for name, value in result.slices.items()),
            resamples=RESAMPLES if intervals else 0,
            # A pixel that moved is missing in one cell and too many in another.
            moved_pixels=int(np.abs(self.predictions.confusion - result.confusion_matrix).sum()) // 2,
        )

    def classes(self) -> tuple[ClassResult, ...]:
        """Returns the classes in the order of their ids."""
        intervals = self._intervals
        baseline = self.result.baseline_metrics
        images = (self.predictions.margins.truth > 0).sum(axis=0).tolist()
        return tuple(
            ClassResult(
                name=name,
                color=color,
                iou=self.result.metrics["iou"][name],
                baseline=baseline["iou"][name] if baseline else None,
                interval=intervals.iou[class_id] if intervals else None,
                images=images[class_id],
            )
            for class_id, (name, color) in enumerate(
                zip(self.labels.names, told_apart(self.labels.palette), strict=True)
            )
        )

    @cached_property
    def _intervals(self) -> Intervals | None:
        return bootstrap(self.predictions.margins)

    def _slice(self, name: str, mean_iou: float | None) -> Slice:
        attribute, _, value = name.partition("=")
        members = np.array(
            [image.attributes.get(attribute) == value for image in self.predictions.images], bool
        )
        intervals = bootstrap(Margins(*(counts[members] for counts in self.predictions.margins)))
        return Slice(
            name=name,
            mean_iou=mean_iou,
            images=int(members.sum()),
            interval=intervals.mean_iou if intervals else None,
        )
