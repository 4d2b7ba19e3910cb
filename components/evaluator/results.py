"""Reads what TFMA wrote: the metrics, the slices, and why the gate decided as it did."""

import json
import math
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2, validation_result_pb2

from components.dataset.contracts import Baseline, Ceiling, Evaluation, GateCheck, Metrics
from components.dataset.features import ATTRIBUTE_PREFIX
from components.errors import StageError
from components.evaluator.eval_config import bound_of
from components.evaluator.gate import (
    IOU_PREFIX,
    UNFOUND_CLASSES,
    UNMEASURED_CLASSES,
    Threshold,
    explain,
    explain_classes,
)
from components.evaluator.tfma_metrics import CEILING_MATRIX, CONFUSION_MATRIX, EXAMPLES, INVALID_MASKS
from components.imaging.reading import InputSize
from components.metrics.confusion import margins, unfound, unmeasured
from components.metrics.table import MEAN_IOU, METRICS, SHOWN_MEAN_IOU, class_iou

_WHOLE_SPLIT = ""
"""Label of the slice that is everything."""

_Values = dict[str, Any]
"""One model's metrics on one slice, by name: float, int64 array or text."""


def read_evaluation(evaluation_uri: str, baseline_version: str = "") -> Evaluation:
    """Puts together what TFMA wrote in several files.

    Args:
        evaluation_uri: of the artifact ``evaluation``.
        baseline_version: of the served model, if the candidate was compared with one.

    Raises:
        StageError: masks could not be compared, so that nothing was measured; or TFMA's verdict is not that
            of the thresholds one by one, so that none is to be relied on.
    """
    config = tfma.load_eval_result(evaluation_uri).config
    validation = tfma.load_validation_result(evaluation_uri)
    settings = json.loads(config.metrics_specs[0].metrics[0].config)
    class_names = tuple(settings["class_names"])
    size = settings["input_size"] and InputSize(*settings["input_size"])
    candidate = next(spec.name for spec in config.model_specs if not spec.is_baseline)
    baseline = next((spec.name for spec in config.model_specs if spec.is_baseline), None)

    candidate_on: dict[str, _Values] = {_WHOLE_SPLIT: {}}
    baseline_on: dict[str, _Values] = {_WHOLE_SPLIT: {}}
    for row in tfma.load_metrics(evaluation_uri):
        label = _label_of_key(row.slice_key)
        candidate_on[label] = _values(row, candidate)
        if baseline is not None:
            baseline_on[label] = _values(row, baseline)

    own = candidate_on[_WHOLE_SPLIT]
    if invalid := own.get(INVALID_MASKS):
        raise StageError(f"The evaluation is void: masks cannot be compared in {invalid}")
    confusion = own.get(CONFUSION_MATRIX, np.zeros((len(class_names),) * 2, np.int64))
    counts = margins(confusion)
    lacking = {
        metric: [name for name, lacks in zip(class_names, which(counts), strict=True) if lacks]
        for metric, which in ((UNMEASURED_CLASSES, unmeasured), (UNFOUND_CLASSES, unfound))
    }

    ceiling = _ceiling(candidate_on, class_names)

    def check(threshold: Threshold) -> GateCheck:
        if threshold.metric in lacking:
            return explain_classes(threshold, lacking[threshold.metric], settings["allowed_unmeasured"])
        return explain(
            threshold,
            value=_number(candidate_on.get(threshold.slice_label, {}), threshold.metric),
            baseline=_number(baseline_on.get(threshold.slice_label, {}), threshold.metric),
            baseline_version=baseline_version,
            ceiling=_ceiling_of(threshold, ceiling),
            resize=size.method if size else None,
        )

    checks = tuple(map(check, _thresholds(config, validation, candidate)))
    if validation.validation_ok != all(each.passed and each.value is not None for each in checks):
        raise StageError(
            "The gate contradicts itself. TensorFlow Model Analysis "
            f"{'passed' if validation.validation_ok else 'refused'} the model, and the thresholds say: "
            f"{'; '.join(each.message for each in checks)}"
        )
    return Evaluation(
        metrics=_metrics(own, class_names),
        ceiling=ceiling,
        baseline=None
        if baseline is None
        else Baseline(
            version=int(baseline_version), metrics=_metrics(baseline_on[_WHOLE_SPLIT], class_names)
        ),
        slices={
            label: _number(values, MEAN_IOU.name)
            for label, values in sorted(candidate_on.items())
            if label != _WHOLE_SPLIT
        },
        checks=checks,
        confusion=confusion.tolist(),
    )


def _metrics(values: _Values, class_names: tuple[str, ...]) -> Metrics:
    return Metrics(
        **{metric.name: _number(values, metric.name) for metric in METRICS},
        iou={name: _number(values, IOU_PREFIX + name) for name in class_names},
        examples=int(values.get(EXAMPLES, 0)),
    )


def _ceiling(values_on: dict[str, _Values], class_names: tuple[str, ...]) -> Ceiling | None:
    counts = {
        label: margins(values[CEILING_MATRIX])
        for label, values in values_on.items()
        if CEILING_MATRIX in values
    }
    if _WHOLE_SPLIT not in counts:
        return None
    means = {label: _measured(float(MEAN_IOU(found))) for label, found in sorted(counts.items())}
    of_classes = class_iou(counts[_WHOLE_SPLIT]).ratio()
    return Ceiling(
        mean_iou=means.pop(_WHOLE_SPLIT),
        iou={name: _measured(float(iou)) for name, iou in zip(class_names, of_classes, strict=True)},
        slices=means,
    )


def _ceiling_of(threshold: Threshold, ceiling: Ceiling | None) -> float | None:
    """What a threshold is about at most, as far as it is about an IoU."""
    if ceiling is None or threshold.is_change:
        return None
    if threshold.slice_label:
        return ceiling.slices.get(threshold.slice_label)
    if threshold.metric.startswith(IOU_PREFIX):
        return ceiling.iou[threshold.metric.removeprefix(IOU_PREFIX)]
    return ceiling.mean_iou


def _measured(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(values: _Values, name: str) -> float | None:
    return _measured(values.get(name, math.nan))


def _values(row: metrics_for_slice_pb2.MetricsForSlice, model_name: str) -> _Values:
    values: _Values = {}
    for pair in row.metric_keys_and_values:
        if pair.key.model_name != model_name or pair.key.is_diff:
            continue
        match pair.value.WhichOneof("type"):
            case "double_value":
                values[pair.key.name] = pair.value.double_value.value
            case "array_value":
                array = pair.value.array_value
                values[pair.key.name] = np.array(array.int64_values, np.int64).reshape(array.shape)
            case "bytes_value":
                values[pair.key.name] = pair.value.bytes_value.decode()
    return values


def _thresholds(
    config: config_pb2.EvalConfig, validation: validation_result_pb2.ValidationResult, candidate: str
) -> list[Threshold]:
    """Pairs every threshold that TFMA was given for the candidate with TFMA's verdict on it."""
    missing = {_label_of_spec(spec) for spec in validation.missing_slices}
    failed = {
        (_label_of_key(on_slice.slice_key), failure.metric_key.name, failure.metric_key.is_diff)
        for on_slice in validation.metric_validations_per_slice
        for failure in on_slice.failures
    }
    found = []
    by_key = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    for key, specs_and_bounds in by_key.items():
        if key.model_name != candidate:
            continue
        for spec, bound in specs_and_bounds:
            label = _label_of_spec(spec)
            found.append(
                Threshold(
                    slice_label=label,
                    metric=key.name,
                    is_change=key.is_diff,
                    bound=bound_of(bound),
                    passed=label not in missing and (label, key.name, key.is_diff) not in failed,
                )
            )
    # Protocol buffers keep maps in no order.
    means = (MEAN_IOU.name, SHOWN_MEAN_IOU.name)
    return sorted(found, key=lambda it: (it.slice_label, it.metric not in means, it.is_change, it.metric))


def _label_of_key(key: metrics_for_slice_pb2.SliceKey) -> str:
    return _label(dict(tfma.slicer.deserialize_slice_key(key)))


def _label_of_spec(spec: config_pb2.SlicingSpec) -> str:
    return _label(dict(spec.feature_values))


def _label(values: dict[str, Any]) -> str:
    # A value begins with the sign that stands between the two.
    return ", ".join(
        f"{name.removeprefix(ATTRIBUTE_PREFIX)}{value}" for name, value in sorted(values.items())
    )
