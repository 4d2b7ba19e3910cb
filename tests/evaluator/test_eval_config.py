"""The recipe's thresholds as TFMA's own validator decides on them, without a run of the Evaluator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from components.dataset.labels import LabelSet
from components.errors import StageError
from components.evaluator.config import EvaluationConfig, EvaluatorSettings
from components.evaluator.eval_config import bound_of, build_eval_config
from components.evaluator.tfma_metrics import SegmentationMetrics
from components.metrics.table import MEAN_IOU, SHOWN_MEAN_IOU
from components.run_parameters import settings_of_any_run, settings_of_run

LABELS = LabelSet(names=("background", "cat"))
MANY = LabelSet(names=tuple(f"class-{number}" for number in range(12)))


def passes(config: config_pb2.EvalConfig, *, candidate: float, served: float) -> bool:
    """TFMA's verdict on what two models are compared by alone, on the whole split."""
    [specs] = config.metrics_specs
    for name in [name for name in specs.per_slice_thresholds if name != SHOWN_MEAN_IOU.name]:
        del specs.per_slice_thresholds[name]
    specs.model_names.extend(["candidate", "served"])
    config.model_specs[0].name = "candidate"
    config.model_specs.append(config_pb2.ModelSpec(name="served", is_baseline=True))
    metrics = measured({SHOWN_MEAN_IOU.name: candidate}, {SHOWN_MEAN_IOU.name: served})
    return metrics_validator.validate_metrics(((), metrics), config).validation_ok


def measured(candidate: dict[str, float], served: dict[str, float]) -> dict[metric_types.MetricKey, float]:
    """What TFMA holds against the thresholds where it evaluated both models."""
    metrics: dict[metric_types.MetricKey, float] = {}
    for name, value in candidate.items():
        key = metric_types.MetricKey(name=name, model_name="candidate", example_weighted=None)
        metrics[key] = value
        metrics[key.make_baseline_key("served")] = served[name]
        metrics[key.make_diff_key()] = value - served[name]
    return metrics


def of_confusion(confusion: np.ndarray) -> dict[str, float]:
    """The numbers that the Evaluator's metric makes of one model's confusion matrix."""
    metric = SegmentationMetrics(list(MANY.names), 255, [MANY.names[-1]])
    (computation,) = metric.computations(model_names=[""])
    counts = computation.combiner.create_accumulator()
    counts.confusion[0] = confusion
    values = computation.combiner.extract_output(counts)
    return {key.name: value for key, value in values.items() if isinstance(value, float)}


@pytest.mark.parametrize(
    ("candidate_hits", "served_hits", "strays_in", "passed"),
    [(850, 900, "served", False), (900, 900, "candidate", True), (900, 900, "served", True)],
)
def test_a_stray_pixel_of_a_class_that_no_truth_shows_neither_hides_a_regression_nor_makes_one(
    candidate_hits: int, served_hits: int, strays_in: str, passed: bool
) -> None:
    both = {}
    for model, hits in (("candidate", candidate_hits), ("served", served_hits)):
        confusion = np.zeros((12, 12), np.int64)
        for true in range(11):
            confusion[true, true], confusion[true, (true + 1) % 11] = hits, 1000 - hits
        if model == strays_in:
            confusion[0, 0], confusion[0, 11] = hits - 1, 1
        both[model] = of_confusion(confusion)
    # The defined mean stays what it is: over the classes in truth or prediction.
    assert both[strays_in][MEAN_IOU.name] == pytest.approx(
        both[strays_in][SHOWN_MEAN_IOU.name] * 11 / 12, abs=1e-12
    )
    config = build_eval_config(
        EvaluationConfig(min_mean_iou=0.0, allow_unmeasured_classes=(MANY.names[-1],)), MANY
    )
    [specs] = config.metrics_specs
    specs.model_names.extend(["candidate", "served"])
    config.model_specs[0].name = "candidate"
    config.model_specs.append(config_pb2.ModelSpec(name="served", is_baseline=True))
    verdict = metrics_validator.validate_metrics(((), measured(**both)), config)
    assert verdict.validation_ok is passed
    failures = [each.metric_key for on in verdict.metric_validations_per_slice for each in on.failures]
    assert [(key.name, key.is_diff) for key in failures] == [(SHOWN_MEAN_IOU.name, True)] * (not passed)


@pytest.mark.parametrize(
    ("margin", "candidate", "passed"),
    [
        *[(0.025, 0.80, True), (0.025, 0.75, True), (0.025, 0.7249, False), (0.025, 0.7251, True)],
        *[(0.025, 0.60, False), (0.0, 0.75, True), (0.0, 0.7499, False), (None, 0.1, True)],
    ],
)
def test_a_candidate_may_fall_by_the_margin_below_what_is_served_and_no_further(
    margin: float | None, candidate: float, passed: bool
) -> None:
    config = build_eval_config(EvaluationConfig(min_mean_iou=0.0, max_regression=margin), LABELS)
    assert passes(config, candidate=candidate, served=0.75) is passed


@pytest.mark.parametrize(
    ("candidate", "served", "passed"),
    [(0.80, 0.81, True), (0.62, 0.63, True), (0.3 - 1e-16, 0.31, True), (0.79999, 0.81, False)],
)
def test_a_fall_by_the_margin_itself_passes_whatever_floating_point_makes_of_it(
    candidate: float, served: float, passed: bool
) -> None:
    config = build_eval_config(EvaluationConfig(max_regression=0.01), LABELS)
    assert passes(config, candidate=candidate, served=served) is passed


@pytest.mark.parametrize(("below", "passed"), [(1e-16, True), (1e-7, False)])
def test_a_mean_that_floating_point_takes_a_last_digit_from_reaches_its_threshold(
    below: float, passed: bool
) -> None:
    config = build_eval_config(EvaluationConfig(min_mean_iou=0.3, max_regression=None), LABELS)
    key = metric_types.MetricKey(name=MEAN_IOU.name, example_weighted=None)
    verdict = metrics_validator.validate_metrics(((), {key: 0.3 - below}), config)
    failures = [each.metric_key.name for on in verdict.metric_validations_per_slice for each in on.failures]
    assert (MEAN_IOU.name not in failures) is passed


@given(st.floats(0, 1).map(lambda value: round(value, 9)))
def test_a_bound_is_told_as_the_recipe_has_it(value: float) -> None:
    config = build_eval_config(EvaluationConfig(min_mean_iou=value, max_regression=value), LABELS)
    of = config.metrics_specs[0].per_slice_thresholds
    [least], [change] = (of[metric.name].thresholds for metric in (MEAN_IOU, SHOWN_MEAN_IOU))
    assert bound_of(least.threshold.value_threshold) == value
    assert str(-bound_of(change.threshold.change_threshold)) == str(value)


def test_a_run_may_ask_for_another_mean_iou_and_for_nothing_else() -> None:
    config = EvaluationConfig(min_mean_iou=0.5, min_class_iou={"cat": 0.3})
    settings = settings_of_any_run(EvaluatorSettings(evaluation=config, labels=LABELS).model_dump())

    def asked(minimum: float) -> EvaluationConfig:
        return settings_of_run(EvaluatorSettings, settings, {"min_mean_iou": minimum}).evaluation

    assert asked(0.5) == config
    assert asked(0.75) == config.model_copy(update={"min_mean_iou": 0.75})
    with pytest.raises(StageError, match=r"evaluation\.min_mean_iou is 1\.5: .* less than or equal to 1$"):
        asked(1.5)
