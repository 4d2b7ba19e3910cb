"""The TFMA metric that counts one confusion matrix, from which all metrics follow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

from components.dataset.features import IMAGE_FILENAME
from components.evaluator.gate import UNFOUND_CLASSES, UNMEASURED_CLASSES
from components.imaging.reading import InputSize
from components.metrics.ceiling import ceiling_confusion
from components.metrics.confusion import (
    MaskError,
    count_pixels,
    decode_mask,
    margins,
    unfound,
    unmeasured,
)
from components.metrics.table import CLASS_METRICS, METRICS, SHOWN_MEAN_IOU

EXAMPLES: Final = "examples"
CONFUSION_MATRIX: Final = "confusion_matrix"
"""int64 [C, C], rows true classes, columns predicted ones."""
CEILING_MATRIX: Final = "ceiling_matrix"
"""Likewise, of the masks that a network would give that reproduces its targets perfectly, at the candidate's
input size; not there where that is not known."""
INVALID_MASKS: Final = "invalid_masks"
"""Only there if masks could not be counted: how many, and the first one's story."""

_PREDICTIONS: Final = {
    tfma.CANDIDATE_KEY: "prediction of the candidate",
    tfma.BASELINE_KEY: "prediction of the served model",
}
"""What they are called where TFX evaluates two models, under these names."""


class SegmentationMetrics(tfma.metrics.Metric):
    """Mean IoU and its family, from one confusion matrix a model, summed over all examples of a slice.

    Labels and predictions are single-channel PNGs of class ids. With several models the same metrics
    come out for each, and the ground truth is decoded once.
    """

    def __init__(
        self,
        class_names: list[str],
        ignore_label: int,
        allowed_unmeasured: Sequence[str] = (),
        input_size: Sequence[Any] | None = None,
        name: str = "segmentation_metrics",
    ) -> None:
        """Creates the metric; TFMA does so from the evaluation config's JSON.

        Args:
            class_names: in the order of the class ids.
            ignore_label: pixels with this ground truth count nowhere.
            allowed_unmeasured: classes that `UNMEASURED_CLASSES` and `UNFOUND_CLASSES` leave out.
            input_size: an `InputSize`, JSON knows it as a list: how the candidate resizes pictures.
            name: TFMA's handle of the whole family.
        """
        super().__init__(
            _computations,
            class_names=class_names,
            ignore_label=ignore_label,
            allowed_unmeasured=list(allowed_unmeasured),
            input_size=input_size and list(input_size),
            name=name,
        )


def _computations(
    class_names: list[str],
    ignore_label: int,
    allowed_unmeasured: list[str],
    input_size: list[Any] | None,
    model_names: list[str],
    **_: Any,
) -> tfma.metrics.MetricComputations:
    class_names = list(class_names)
    size = InputSize(*input_size) if input_size else None
    return [
        tfma.metrics.MetricComputation(
            keys=[_key(EXAMPLES, model_name) for model_name in model_names],
            preprocessors=[_CountPixels(model_names, len(class_names), ignore_label, size)],
            combiner=_SumConfusion(model_names, class_names, allowed_unmeasured, size is not None),
        )
    ]


def _key(name: str, model_name: str) -> tfma.metrics.MetricKey:
    # TFMA looks thresholds by metric name up under keys whose example_weighted is None.
    return tfma.metrics.MetricKey(name=name, model_name=model_name, example_weighted=None)


@dataclass
class _Counts:
    """What has been counted, of one example or of many."""

    confusion: np.ndarray
    """int64 [models, C, C]."""
    ceiling: np.ndarray
    """int64 [C, C]; zeros where the candidate's input size is not known."""
    examples: int = 0
    invalid: int = 0
    first_invalid: str = ""
    """The first story in alphabetical order, whatever the order of the examples."""

    def add(self, other: "_Counts") -> None:
        self.confusion += other.confusion
        self.ceiling += other.ceiling
        self.examples += other.examples
        self.invalid += other.invalid
        self.first_invalid = min(filter(None, (self.first_invalid, other.first_invalid)), default="")


def _nothing(models: int, classes: int) -> _Counts:
    return _Counts(np.zeros((models, classes, classes), np.int64), np.zeros((classes, classes), np.int64))


class _CountPixels(tfma.metrics.Preprocessor):
    """One example's labels and predictions → its counts, before it is handed to each of its slices."""

    def __init__(
        self, model_names: list[str], num_classes: int, ignore_label: int, input_size: InputSize | None
    ) -> None:
        super().__init__(name="count_pixels")
        self._model_names = model_names
        self._num_classes = num_classes
        self._ignore_label = ignore_label
        self._input_size = input_size

    def process(self, extracts: tfma.Extracts) -> Iterator[_Counts]:
        counts = _nothing(len(self._model_names), self._num_classes)
        counts.examples = 1
        try:
            truth = self._decode(extracts, tfma.LABELS_KEY, self._model_names[0], "ground truth")
            for index, model_name in enumerate(self._model_names):
                what = _PREDICTIONS.get(model_name, "prediction")
                prediction = self._decode(extracts, tfma.PREDICTIONS_KEY, model_name, what)
                counts.confusion[index] = count_pixels(
                    truth, prediction, self._num_classes, self._ignore_label, what
                )
            if self._input_size and self._input_size.keeps_pixels:
                counts.ceiling += np.diag(counts.confusion[0].sum(axis=1))
            elif self._input_size:
                counts.ceiling += ceiling_confusion(truth, self._input_size, self._num_classes)
        except MaskError as error:
            # Raised here, people would see a worker's traceback; the executor raises it in plain words.
            counts.invalid = 1
            counts.first_invalid = f"{_filename(extracts)}: {error}"
        yield counts

    def _decode(self, extracts: tfma.Extracts, key: str, model_name: str, what: str) -> np.ndarray:
        value = extracts[key]
        if isinstance(value, Mapping):
            value = value[model_name]
        encoded = np.asarray(value, dtype=object).ravel()
        if encoded.size != 1 or not isinstance(encoded[0], bytes):
            raise MaskError(f"has no {what}")
        try:
            return decode_mask(encoded[0])
        except MaskError as error:
            raise MaskError(f"{what} {error}") from error


def _filename(extracts: tfma.Extracts) -> str:
    names = np.asarray(extracts[tfma.FEATURES_KEY].get(IMAGE_FILENAME, []), dtype=object).ravel()
    return names[0].decode("utf-8", "replace") if names.size else "an example without a file name"


class _SumConfusion(beam.CombineFn):
    """Counts of many examples → their metrics."""

    def __init__(
        self,
        model_names: list[str],
        class_names: list[str],
        allowed_unmeasured: Sequence[str],
        has_ceiling: bool,
    ) -> None:
        self._model_names = model_names
        self._class_names = class_names
        self._has_ceiling = has_ceiling
        self._required = np.array([name not in allowed_unmeasured for name in class_names])

    def create_accumulator(self) -> _Counts:
        return _nothing(len(self._model_names), len(self._class_names))

    def add_input(self, accumulator: _Counts, element: _Counts) -> _Counts:
        accumulator.add(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Counts]) -> _Counts:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.add(accumulator)
        return merged

    def extract_output(self, accumulator: _Counts) -> dict[tfma.metrics.MetricKey, Any]:
        metrics: dict[tfma.metrics.MetricKey, Any] = {}
        for model_name, confusion in zip(self._model_names, accumulator.confusion, strict=True):
            counts = margins(confusion)
            values: dict[str, Any] = {
                EXAMPLES: accumulator.examples,
                CONFUSION_MATRIX: confusion,
                UNMEASURED_CLASSES: float(np.count_nonzero(unmeasured(counts) & self._required)),
                UNFOUND_CLASSES: float(np.count_nonzero(unfound(counts) & self._required)),
            }
            if self._has_ceiling:
                values[CEILING_MATRIX] = accumulator.ceiling
            values |= {metric.name: float(metric(counts)) for metric in (*METRICS, SHOWN_MEAN_IOU)}
            for name, class_sums in CLASS_METRICS.items():
                of_classes = zip(self._class_names, class_sums(counts).ratio(), strict=True)
                values |= {f"{name}/{class_name}": float(value) for class_name, value in of_classes}
            if accumulator.invalid:
                share = f"{accumulator.invalid} of {accumulator.examples} examples"
                values[INVALID_MASKS] = f"{share}, first {accumulator.first_invalid}"
            metrics.update({_key(name, model_name): value for name, value in values.items()})
        return metrics
