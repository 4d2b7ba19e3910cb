"""The thresholds in TFMA's terms."""

from components.dataset.labels import LabelSet
from components.evaluator.config import EvaluationConfig
from components.evaluator.eval_config import build_eval_config, with_min_mean_iou


def test_a_run_may_ask_for_another_mean_iou_and_for_nothing_else() -> None:
    labels = LabelSet(names=("ground", "disc"))
    recipes, runs = (
        build_eval_config(EvaluationConfig(min_mean_iou=minimum, min_class_iou={"disc": 0.3}), labels)
        for minimum in (0.5, 0.75)
    )
    assert with_min_mean_iou(recipes, 0.75) == runs
    assert recipes != runs
