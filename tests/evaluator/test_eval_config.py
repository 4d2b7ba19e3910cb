"""The recipe's thresholds as TFMA's own validator decides on them, without a run of the Evaluator."""

import pytest
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from components.dataset.labels import LabelSet
from components.errors import StageError
from components.evaluator.config import EvaluationConfig, EvaluatorSettings
from components.evaluator.eval_config import build_eval_config
from components.metrics.table import MEAN_IOU
from components.run_parameters import settings_of_any_run, settings_of_run

LABELS = LabelSet(names=("background", "cat"))


def passes(config: config_pb2.EvalConfig, *, candidate: float, served: float) -> bool:
    """TFMA's verdict on mean IoU alone, on the whole split, where both models were evaluated."""
    [specs] = config.metrics_specs
    for name in [name for name in specs.per_slice_thresholds if name != MEAN_IOU.name]:
        del specs.per_slice_thresholds[name]
    specs.model_names.extend(["candidate", "served"])
    config.model_specs[0].name = "candidate"
    config.model_specs.append(config_pb2.ModelSpec(name="served", is_baseline=True))
    key = metric_types.MetricKey(name=MEAN_IOU.name, model_name="candidate", example_weighted=None)
    metrics = {
        key: candidate,
        key.make_baseline_key("served"): served,
        key.make_diff_key(): candidate - served,
    }
    return metrics_validator.validate_metrics(((), metrics), config).validation_ok


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


def test_a_run_may_ask_for_another_mean_iou_and_for_nothing_else() -> None:
    config = EvaluationConfig(min_mean_iou=0.5, min_class_iou={"cat": 0.3})
    settings = settings_of_any_run(EvaluatorSettings(evaluation=config, labels=LABELS).model_dump())

    def asked(minimum: float) -> EvaluationConfig:
        return settings_of_run(EvaluatorSettings, settings, {"min_mean_iou": minimum}).evaluation

    assert asked(0.5) == config
    assert asked(0.75) == config.model_copy(update={"min_mean_iou": 0.75})
    with pytest.raises(StageError, match=r"evaluation\.min_mean_iou is 1\.5: .* less than or equal to 1$"):
        asked(1.5)
