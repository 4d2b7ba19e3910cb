"""From the recipe's thresholds and slices to TFMA's ``EvalConfig``."""

import json
from typing import Final

import tensorflow_model_analysis as tfma
from google.protobuf.wrappers_pb2 import BoolValue, DoubleValue
from tensorflow_model_analysis.proto import config_pb2

from components.dataset.features import ATTRIBUTE_PREFIX, IGNORE_LABEL, MASK_ENCODED
from components.dataset.labels import LabelSet
from components.evaluator.config import EvaluationConfig
from components.evaluator.extractors import EQUALS
from components.evaluator.gate import IOU_PREFIX, UNFOUND_CLASSES, UNMEASURED_CLASSES
from components.evaluator.tfma_metrics import SegmentationMetrics
from components.imaging.reading import InputSize
from components.metrics.table import MEAN_IOU, SHOWN_MEAN_IOU

_TOLERANCE: Final = 1e-9
"""By so little an IoU may miss a bound: 0.80 - 0.81 is less than -0.01 in floating point, and a mean of ten
times 0.3 less than 0.3."""
_DIGITS: Final = 12
"""Of a bound without the tolerance; beyond them is what adding and taking it away leaves."""


def build_eval_config(
    config: EvaluationConfig, labels: LabelSet, input_size: InputSize | None = None
) -> config_pb2.EvalConfig:
    """Builds what TFX's Evaluator reads.

    With a baseline TFX itself adds the second model spec; without one it drops the change threshold.

    Args:
        config: thresholds and slices.
        labels: names the classes.
        input_size: how the candidate resizes pictures; None measures no ceiling.
    """
    metric = SegmentationMetrics(
        list(labels.names), IGNORE_LABEL, config.allow_unmeasured_classes, input_size
    )
    overall = config_pb2.SlicingSpec()
    mean_iou = [_threshold(overall, value=_at_least(config.min_mean_iou))]
    for attribute, minima in config.min_slice_iou.items():
        for value, minimum in minima.items():
            only = config_pb2.SlicingSpec(feature_values={ATTRIBUTE_PREFIX + attribute: EQUALS + value})
            mean_iou.append(_threshold(only, value=_at_least(minimum)))
    thresholds = {MEAN_IOU.name: config_pb2.PerSliceMetricThresholds(thresholds=mean_iou)}
    if config.max_regression is not None:
        change = _worsens_at_most(config.max_regression)
        thresholds[SHOWN_MEAN_IOU.name] = config_pb2.PerSliceMetricThresholds(
            thresholds=[_threshold(overall, change=change)]
        )
    at_most_none = config_pb2.GenericValueThreshold(upper_bound=DoubleValue(value=0.0))
    for name in (UNMEASURED_CLASSES, UNFOUND_CLASSES):
        thresholds[name] = config_pb2.PerSliceMetricThresholds(
            thresholds=[_threshold(overall, value=at_most_none)]
        )
    for class_name, minimum in config.min_class_iou.items():
        thresholds[IOU_PREFIX + class_name] = config_pb2.PerSliceMetricThresholds(
            thresholds=[_threshold(overall, value=_at_least(minimum))]
        )
    return config_pb2.EvalConfig(
        # Without a type TFMA would try to load the model with tf_keras first.
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="evaluate", label_key=MASK_ENCODED, model_type=tfma.TF_GENERIC
            )
        ],
        slicing_specs=[
            overall,
            *(
                config_pb2.SlicingSpec(feature_keys=[ATTRIBUTE_PREFIX + attribute])
                for attribute in config.slices
            ),
        ],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    config_pb2.MetricConfig(
                        class_name=type(metric).__name__,
                        module=type(metric).__module__,
                        config=json.dumps(metric.get_config()),
                    )
                ],
                # A threshold without a slicing spec would hold for every slice, not for the whole split.
                per_slice_thresholds=thresholds,
            )
        ],
        options=config_pb2.Options(include_default_metrics=BoolValue(value=False)),
    )


def _threshold(
    spec: config_pb2.SlicingSpec,
    value: config_pb2.GenericValueThreshold | None = None,
    change: config_pb2.GenericChangeThreshold | None = None,
) -> config_pb2.PerSliceMetricThreshold:
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=[spec],
        threshold=config_pb2.MetricThreshold(value_threshold=value, change_threshold=change),
    )


def _at_least(minimum: float) -> config_pb2.GenericValueThreshold:
    return config_pb2.GenericValueThreshold(lower_bound=DoubleValue(value=minimum - _TOLERANCE))


def _worsens_at_most(margin: float) -> config_pb2.GenericChangeThreshold:
    """The change is the candidate's value less the served model's."""
    return config_pb2.GenericChangeThreshold(
        direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
        absolute=DoubleValue(value=-margin - _TOLERANCE),
    )


def bound_of(threshold: config_pb2.GenericValueThreshold | config_pb2.GenericChangeThreshold) -> float:
    """Returns the recipe's value again: the least or the most, or the margin with a minus."""
    if isinstance(threshold, config_pb2.GenericChangeThreshold):
        return -round(-threshold.absolute.value - _TOLERANCE, _DIGITS)
    if threshold.HasField("upper_bound"):
        return threshold.upper_bound.value
    return round(threshold.lower_bound.value + _TOLERANCE, _DIGITS)
