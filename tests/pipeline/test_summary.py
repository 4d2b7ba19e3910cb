"""What a run's summary and last lines say of the baseline and of the serving check."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.evaluation import results
from components.serving_check.report import Latency, Memory, ServingCheckReport
from pipeline.conclusion import conclude
from pipeline.config import load_recipe
from pipeline.local_run import Ended
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    properties: dict[str, str],
    compared_with: str,
    *,
    refusals: Sequence[str] = (),
    report: ServingCheckReport | None = None,
    pushed: bool = False,
    untrained_classes: Sequence[str] = (),
    allowed: Sequence[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Sums up a run whose Baseline and Evaluator left these custom properties.

    Its gate refused for the ``refusals``; its serving check left a report, if any. The training split lacked
    some classes, of which the recipe allows some to be unmeasured.
    """
    baseline, evaluation = standard_artifacts.Model(), standard_artifacts.ModelEvaluation()
    for key, value in properties.items():
        baseline.set_string_custom_property(key, value)
    evaluation.set_string_custom_property("baseline_version", compared_with)
    result = SimpleNamespace(
        metrics=METRICS,
        slices={},
        reasons=list(refusals),
        baseline_metrics=METRICS if compared_with else None,
    )
    monkeypatch.setattr(results, "load_evaluation", lambda uri, version: result)
    verdict, pushed_model = standard_artifacts.InfraBlessing(), standard_artifacts.PushedModel()
    verdict.uri = str(tmp_path)
    if report:
        report.save(tmp_path)
    if pushed:
        pushed_model.set_int_custom_property("pushed", 1)
        pushed_model.set_string_custom_property("pushed_version", "7")
    recipe = load_recipe("shapes", overrides=[f"evaluation.allow_unmeasured_classes={json.dumps(allowed)}"])
    model_run = standard_artifacts.ModelRun()
    model_run.uri = str(tmp_path)
    history = {"best_epoch": 1, "epochs": [], "untrained_classes": untrained_classes}
    (tmp_path / "history.json").write_text(json.dumps(history))
    stages = [
        StageResult("Trainer", 1.0, False, {"model_run": [model_run]}),
        StageResult("Baseline", 1.0, False, {"baseline_model": [baseline]}),
        StageResult("Evaluator", 1.0, False, {"evaluation": [evaluation]}),
        StageResult("ServingCheck", 1.0, False, {"infra_blessing": [verdict]}),
        StageResult("Pusher", 1.0, False, {"pushed_model": [pushed_model]}),
    ]
    summary = build_summary(
        recipe, "run", tmp_path / "serving", stages, started_at=datetime.now(UTC), seconds=4.0
    )
    ended = Ended(summary, interrupted=False, report_obstacle="there is no paper")
    return summary, [line.text for line in conclude(ended, recipe, WorkDir(tmp_path), tmp_path / "log")]


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


SERVED = ServingCheckReport(
    server="embedded",
    load_seconds=5.94,
    masks=24,
    same_bytes=24,
    latency_ms=Latency(first=14.0, p50=12.04, p99=15.01, requests=100),
    memory_mb=Memory(idle=390.2, peak=410.4),
)


def test_a_pushed_model_comes_with_what_was_measured_and_the_commands_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, lines = summary_and_lines(tmp_path, monkeypatch, {}, "", report=SERVED, pushed=True)
    assert summary["outcome"] == "pushed"
    assert summary["serving_check"] == SERVED.model_dump(mode="json")
    measured = "Served by the embedded server, ready after 5.9 s: 12.0 ms an image (p99 15.0), up to 410 MB"
    assert measured in lines
    assert [line for line in lines if "-m pipeline.serve --model_name shapes --model_base_path" in line]
    assert [
        line for line in lines if "-m pipeline.predict IMAGE --server localhost:8500 --model shapes" in line
    ]


def test_a_serving_check_that_refuses_gives_the_reasons_and_does_not_send_for_more_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = SERVED.model_copy(update={"reasons": ("the server ended by itself, with status -9",)})
    summary, lines = summary_and_lines(tmp_path, monkeypatch, {}, "", report=report)
    assert summary["outcome"] == "rejected"
    assert summary["reasons"] == ["the server ended by itself, with status -9"]
    assert "  the server ended by itself, with status -9" in lines
    assert not any("more data" in line for line in lines)


def test_a_model_that_the_gate_refused_was_not_served_on_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, lines = summary_and_lines(tmp_path, monkeypatch, {}, "", refusals=["mean IoU is too low"])
    assert (summary["reasons"], summary["serving_check"]) == (["mean IoU is too low"], None)
    assert any("more data" in line for line in lines)
    assert not any("Served by" in line for line in lines)


def test_where_training_images_lack_a_class_they_are_asked_for_and_not_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, lines = summary_and_lines(
        tmp_path, monkeypatch, {}, "", refusals=["never predicted"], untrained_classes=["disc", "ring"]
    )
    assert summary["untrained_classes"] == ["disc", "ring"]
    assert lines[-1].startswith("Next: give the training split images of disc, ring;")
    assert "training.epochs" not in lines[-1]


def test_a_class_that_may_go_unmeasured_is_not_what_a_refused_model_lacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lines = summary_and_lines(
        tmp_path, monkeypatch, {}, "", refusals=["low"], untrained_classes=["disc"], allowed=["disc"]
    )
    assert "training.epochs" in lines[-1]
