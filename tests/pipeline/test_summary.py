"""What a run's summary and last lines say of the baseline and of the serving check."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.dataset.contracts import (
    EVALUATION_FILE,
    HISTORY_FILE,
    NO_TEST_PIXEL,
    SERVING_CHECK_FILE,
    TOO_SMALL,
    Baseline,
    Ceiling,
    Evaluation,
    GateCheck,
    Latency,
    Memory,
    Metrics,
    ServingCheck,
    TrainingHistory,
)
from components.report.run_summary import INTERRUPTED, RunSummary, summarize
from pipeline.config import load_recipe
from pipeline.local.last_lines import last_lines
from pipeline.local.run import Ended
from pipeline.local.workdir import WorkDir

METRICS = Metrics(mean_iou=0.5, mean_dice=0.6, pixel_accuracy=0.7, iou={"disc": 0.5}, examples=9)


def summary_and_lines(
    tmp_path: Path,
    properties: dict[str, str],
    compared_with: int | None = None,
    *,
    refusals: Sequence[str] = (),
    serving_check: ServingCheck | None = None,
    pushed: bool = False,
    untrained_classes: Sequence[str] = (),
    ceiling: Ceiling | None = None,
    allowed: Sequence[str] = (),
) -> tuple[RunSummary, list[str]]:
    """Sums up a run whose Baseline left these custom properties, and whose gate refused for the ``refusals``.

    The training split lacked some classes, of which the recipe allows some to be unmeasured.
    """
    kinds: dict[str, Any] = {
        "model_run": standard_artifacts.ModelRun,
        "baseline_model": standard_artifacts.Model,
        "evaluation": standard_artifacts.ModelEvaluation,
        "infra_blessing": standard_artifacts.InfraBlessing,
        "pushed_model": standard_artifacts.PushedModel,
    }
    artifacts = {key: kind() for key, kind in kinds.items()}
    for artifact in artifacts.values():
        artifact.uri = str(tmp_path)
    for key, value in properties.items():
        artifacts["baseline_model"].set_string_custom_property(key, value)
    checks = [
        GateCheck(what="", setting="", threshold=0.5, value=0.5, passed=False, message=refusal)
        for refusal in refusals
    ]
    baseline = Baseline(version=compared_with, metrics=METRICS) if compared_with else None
    Evaluation(
        metrics=METRICS,
        ceiling=ceiling,
        baseline=baseline,
        slices={"eye=left": 0.4},
        checks=checks,
        confusion=[[1]],
    ).save(tmp_path / EVALUATION_FILE)
    TrainingHistory(best_epoch=1, epochs=(), untrained_classes=tuple(untrained_classes)).save(
        tmp_path / HISTORY_FILE
    )
    if serving_check:
        serving_check.save(tmp_path / SERVING_CHECK_FILE)
    if pushed:
        artifacts["pushed_model"].set_int_custom_property("pushed", 1)
        artifacts["pushed_model"].set_string_custom_property("pushed_version", "7")
    recipe = load_recipe("shapes", overrides=[f"evaluation.allow_unmeasured_classes={json.dumps(allowed)}"])
    summary = summarize(
        artifacts,
        recipe="shapes",
        run_id="run",
        model_name="shapes",
        serving_dir=str(tmp_path / "serving"),
        started_at=datetime.now(UTC),
        seconds=4.0,
    )
    ended = Ended(summary, interrupted=False, report_obstacle="there is no paper")
    return summary, [line.text for line in last_lines(ended, recipe, WorkDir(tmp_path), tmp_path / "log")]


def test_a_served_model_that_cannot_be_compared_is_named_with_the_obstacle(tmp_path: Path) -> None:
    properties = {"version": "", "incomparable_version": "3", "obstacle": "its classes are not the same"}
    summary, lines = summary_and_lines(tmp_path, properties)
    assert summary.baseline == Baseline(version=3, obstacle="its classes are not the same")
    assert "  not compared with version 3, which was being served: its classes are not the same" in lines


def test_a_served_model_that_was_compared_comes_with_its_metrics(tmp_path: Path) -> None:
    summary, lines = summary_and_lines(tmp_path, {"version": "3"}, 3)
    assert summary.baseline == Baseline(version=3, metrics=METRICS)
    assert "  version 3, served before this run: mean IoU 0.500" in lines


def test_without_a_served_model_there_is_no_baseline(tmp_path: Path) -> None:
    summary, lines = summary_and_lines(tmp_path, {"version": ""})
    assert summary.baseline is None
    assert not any("version" in line for line in lines)


def test_what_the_resize_leaves_stands_beside_an_iou_where_it_is_much_less_than_all(tmp_path: Path) -> None:
    ceiling = Ceiling(mean_iou=0.7, iou={"disc": 0.716}, slices={"eye=left": 0.61})
    summary, lines = summary_and_lines(tmp_path, {}, ceiling=ceiling)
    assert summary.ceiling == ceiling
    assert "  mean IoU 0.500 of at most 0.700, mean Dice 0.600, pixel accuracy 0.700" in lines
    assert "  IoU of disc  0.500 of at most 0.716" in lines
    assert "  mean IoU where eye=left  0.400 of at most 0.610" in lines
    for little in (None, Ceiling(mean_iou=1.0, iou={"disc": 0.97}, slices={"eye=left": 1.0})):
        _, lines = summary_and_lines(tmp_path, {}, ceiling=little)
        assert "  IoU of disc  0.500" in lines
        assert "  mean IoU where eye=left  0.400" in lines


def test_an_evaluation_and_a_summary_that_know_of_no_ceiling_are_read(tmp_path: Path) -> None:
    summary, _ = summary_and_lines(tmp_path, {}, ceiling=Ceiling(mean_iou=0.7, iou={"disc": 0.716}))
    for written in (Evaluation.load(tmp_path / EVALUATION_FILE), summary):
        earlier = json.loads(written.model_dump_json())
        del earlier["ceiling"]
        read = type(written).model_validate(earlier)
        assert read.ceiling is None and read.metrics == METRICS


def test_epochs_are_no_remedy_where_the_input_is_too_small(tmp_path: Path) -> None:
    refusal = f"IoU of disc 0.500 is under evaluation.min_class_iou.disc 0.8; {TOO_SMALL} even a network"
    _, lines = summary_and_lines(tmp_path, {}, refusals=[refusal])
    assert lines[-1] == "Next: mend what is said above; more data or epochs alone cannot."


SERVED = ServingCheck(
    server="embedded",
    load_seconds=5.94,
    masks=24,
    same_bytes=24,
    latency_ms=Latency(first=14.0, p50=12.04, p99=15.01, requests=100),
    memory_mb=Memory(peak=410.4),
)


@pytest.mark.parametrize(
    ("missing", "measured"),
    [
        ({"memory_mb": None}, [": 12.0 ms an image (p99 15.0)"]),
        ({"latency_ms": None}, [": up to 410 MB"]),
        ({"latency_ms": None, "memory_mb": None}, []),
    ],
)
def test_what_was_measured_of_the_serving_is_said_also_where_something_was_not(
    tmp_path: Path, missing: dict[str, None], measured: list[str]
) -> None:
    _, lines = summary_and_lines(tmp_path, {}, serving_check=SERVED.model_copy(update=missing))
    served = [line for line in lines if line.startswith("Served by")]
    assert served == [f"Served by the embedded server, ready after 5.9 s{said}" for said in measured]


def test_a_pushed_model_comes_with_what_was_measured_and_the_commands_that_use_it(tmp_path: Path) -> None:
    summary, lines = summary_and_lines(tmp_path, {}, serving_check=SERVED, pushed=True)
    assert summary.outcome == "pushed"
    assert summary.serving_check == SERVED
    measured = "Served by the embedded server, ready after 5.9 s: 12.0 ms an image (p99 15.0), up to 410 MB"
    assert measured in lines
    assert [line for line in lines if "-m pipeline.serve --model_name shapes --model_base_path" in line]
    assert [
        line for line in lines if "-m pipeline.predict IMAGE --server localhost:8500 --model shapes" in line
    ]


def test_an_interrupted_run_says_what_it_has_pushed(tmp_path: Path) -> None:
    summary, _ = summary_and_lines(tmp_path, {}, pushed=True)
    summary = summary.model_copy(update={"outcome": "failed", "reasons": (f"{INTERRUPTED}Pusher",)})
    ended = Ended(summary, interrupted=True, report_obstacle=None)
    lines = last_lines(ended, load_recipe("shapes"), WorkDir(tmp_path), tmp_path / "log")
    assert [line.text for line in lines][:2] == [
        "interrupted in Pusher; run the same command again to go on from there",
        f"Pushed version 7: {tmp_path}/serving/7",
    ]


def test_a_model_of_the_drawn_dataset_is_asked_for_pictures_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    _, lines = summary_and_lines(tmp_path, {}, pushed=True)
    assert [line for line in lines if f"-m pipeline.predict {tmp_path}/drawn --server localhost:8500" in line]


def test_a_serving_check_that_refuses_gives_reasons_and_does_not_send_for_more_data(
    tmp_path: Path,
) -> None:
    check = SERVED.model_copy(update={"reasons": ("the server ended by itself, with status -9",)})
    summary, lines = summary_and_lines(tmp_path, {}, serving_check=check)
    assert summary.outcome == "rejected"
    assert summary.reasons == ("the server ended by itself, with status -9",)
    assert "  the server ended by itself, with status -9" in lines
    assert not any("more data" in line for line in lines)


def test_a_model_that_the_gate_refused_was_not_served_on_trial(tmp_path: Path) -> None:
    summary, lines = summary_and_lines(tmp_path, {}, refusals=["mean IoU is too low"])
    assert (summary.reasons, summary.serving_check) == (("mean IoU is too low",), None)
    assert any("more data" in line for line in lines)
    assert not any("Served by" in line for line in lines)


def test_where_training_images_lack_a_class_they_are_asked_for_and_not_epochs(tmp_path: Path) -> None:
    summary, lines = summary_and_lines(
        tmp_path, {}, refusals=["never predicted"], untrained_classes=["disc", "ring"]
    )
    assert summary.untrained_classes == ("disc", "ring")
    assert lines[-1].startswith("Next: give the training split images of disc, ring;")
    assert "training.epochs" not in lines[-1]


def test_what_was_not_learnt_is_said_of_a_pushed_model_too(tmp_path: Path) -> None:
    _, lines = summary_and_lines(tmp_path, {}, pushed=True, untrained_classes=["disc"], allowed=["disc"])
    assert "Not learnt, as no training image shows it: disc" in lines


def test_a_class_that_may_go_unmeasured_is_not_what_a_refused_model_lacked(tmp_path: Path) -> None:
    _, lines = summary_and_lines(tmp_path, {}, refusals=["low"], untrained_classes=["disc"], allowed=["disc"])
    assert "training.epochs" in lines[-1]


def test_epochs_are_no_remedy_where_the_test_split_lacks_a_class(tmp_path: Path) -> None:
    refusal = f"{NO_TEST_PIXEL} dog: give it images that show them"
    _, lines = summary_and_lines(tmp_path, {}, refusals=[refusal])
    assert "training.epochs" not in lines[-1]
    _, lines = summary_and_lines(
        tmp_path, {}, refusals=[refusal, "mean IoU 0.1 is under evaluation.min_mean_iou"]
    )
    assert "training.epochs" in lines[-1]
