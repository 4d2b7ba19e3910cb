"""What a run's summary and last lines say of the baseline."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.evaluator import results
from pipeline.conclusion import conclude
from pipeline.config import load_recipe
from pipeline.local_runner import StageResult
from pipeline.summary import build_summary
from pipeline.workdir import WorkDir

METRICS: dict[str, Any] = {
    "mean_iou": 0.5,
    "mean_dice": 0.6,
    "pixel_accuracy": 0.7,
    "iou": {"disc": 0.5},
    "examples": 9,
}


def summary_and_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, properties: dict[str, str], compared_with: str
) -> tuple[dict[str, Any], list[str]]:
    """Sums up a run whose Baseline and Evaluator left these custom properties."""
    baseline, evaluation = standard_artifacts.Model(), standard_artifacts.ModelEvaluation()
    for key, value in properties.items():
        baseline.set_string_custom_property(key, value)
    evaluation.set_string_custom_property("baseline_version", compared_with)
    result = SimpleNamespace(
        metrics=METRICS, slices={}, reasons=[], baseline_metrics=METRICS if compared_with else None
    )
    monkeypatch.setattr(results, "load_evaluation", lambda uri, version: result)
    recipe = load_recipe("shapes")
    stages = [
        StageResult("Baseline", 1.0, False, {"baseline_model": [baseline]}),
        StageResult("Evaluator", 1.0, False, {"evaluation": [evaluation]}),
    ]
    summary = build_summary(recipe, "run", tmp_path / "serving", stages)
    return summary, list(conclude(summary, recipe, WorkDir(tmp_path), tmp_path / "log"))


def test_a_served_model_that_cannot_be_compared_is_named_with_the_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = {"version": "", "incomparable_version": "3", "obstacle": "its classes are not the same"}
    summary, lines = summary_and_lines(tmp_path, monkeypatch, properties, "")
    assert summary["baseline"] == {"version": 3, "metrics": None, "obstacle": "its classes are not the same"}
    assert "  not compared with version 3, which was being served: its classes are not the same" in lines


def test_a_served_model_that_was_compared_comes_with_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, lines = summary_and_lines(tmp_path, monkeypatch, {"version": "3"}, "3")
    assert summary["baseline"] == {"version": 3, "metrics": METRICS, "obstacle": None}
    assert "  version 3, served before this run: mean IoU 0.500" in lines


def test_without_a_served_model_there_is_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, lines = summary_and_lines(tmp_path, monkeypatch, {"version": ""}, "")
    assert summary["baseline"] is None
    assert not any("version" in line for line in lines)
