"""``summary.json``: what a run did, for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.report.data import write_whole
from pipeline.config import Recipe
from pipeline.workdir import SUMMARY, WorkDir

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult

_PUSHED_MODEL = ("Pusher", "pushed_model")


def build_summary(
    recipe: Recipe,
    run_id: str,
    serving_dir: Path,
    stages: Sequence["StageResult"],
    failure: str | None = None,
    rejected_files: Sequence[Mapping[str, Any]] = (),
    *,
    started_at: datetime,
    seconds: float,
) -> dict[str, Any]:
    """Returns the summary of a run, read from the artifacts of its stages; it knows of no ``report`` yet.

    Cached stages have artifacts like any other, so a rerun sums up the same.

    Args:
        recipe: what was run.
        run_id: names the run and its log.
        serving_dir: the directory of the model's versions.
        stages: those that are done.
        failure: why the run ended early; None if it did not.
        rejected_files: what the failed stage itself says of them, where it left no report.
        started_at: when the run began, aware of its time zone.
        seconds: what it took.
    """
    artifacts = {(stage.name, key): found for stage in stages for key, found in stage.outputs.items()}
    evaluation = _evaluation(artifacts)
    serving_check = _serving_check(artifacts)
    version = _pushed_version(artifacts)
    pushed_now = version is not None and not _pusher_found_it_served(artifacts, stages)
    if failure is not None:
        outcome, reasons = "failed", [failure]
    elif version is not None:
        outcome, reasons = "pushed", []
    else:
        refusals = serving_check["reasons"] if serving_check else []
        outcome, reasons = "rejected", [*evaluation["reasons"], *refusals]
    return {
        "recipe": recipe.name,
        "run_id": run_id,
        "started_at": started_at.isoformat(timespec="seconds"),
        "finished_at": (started_at + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "outcome": outcome,
        "reasons": reasons,
        "model_name": recipe.serving.model_name,
        "pushed_version": version,
        "pushed_now": pushed_now,
        "serving_dir": str(serving_dir),
        **_ingestion(artifacts, rejected_files),
        "untrained_classes": _untrained_classes(artifacts),
        "metrics": evaluation["metrics"],
        "slices": evaluation["slices"],
        "baseline": evaluation["baseline"] or _incomparable_baseline(artifacts),
        "serving_check": serving_check,
        "stages": [
            {
                "name": stage.name,
                "seconds": round(stage.seconds, 3),
                "cached": stage.cached,
                "memory_mb": stage.memory_mb,
            }
            for stage in stages
        ],
        "report": None,
    }


def keep_summary(summary: Mapping[str, Any], workdir: WorkDir) -> None:
    """Writes the summary twice: to stay with its run, and as the newest one.

    Each names its own copy of the report: the newest run's is overwritten by the next run.
    """
    past = workdir.past(summary["run_id"])
    past.mkdir(parents=True, exist_ok=True)
    report = past / Path(summary["report"]).name if summary["report"] else None
    kept = {**summary, "report": str(report)} if report and report.exists() else summary
    for content, path in ((kept, past / SUMMARY), (summary, workdir.summary)):
        write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _ingestion(
    artifacts: Mapping[tuple[str, str], list[Any]], rejected_files: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    found = artifacts.get(("ImageMaskExampleGen", "ingestion"))
    if not found:
        return {"examples": None, "rejected_files": list(rejected_files)}
    from components.image_mask_example_gen.report import load_ingestion_report

    report = load_ingestion_report(found[0].uri)
    return {
        "examples": {**report.examples, "rejected": len(report.rejected)},
        "rejected_files": report.model_dump(mode="json")["rejected"],
    }


def _untrained_classes(artifacts: Mapping[tuple[str, str], list[Any]]) -> list[str]:
    """The classes that the training split does not show, as far as a Trainer has come to say so."""
    found = artifacts.get(("Trainer", "model_run"))
    if not found:
        return []
    from components.report.collect import read_training

    training = read_training(Path(found[0].uri))
    return list(training.untrained_classes) if training else []


def _evaluation(artifacts: Mapping[tuple[str, str], list[Any]]) -> dict[str, Any]:
    found = artifacts.get(("Evaluator", "evaluation"))
    if not found:
        return {"metrics": None, "slices": {}, "baseline": None, "reasons": []}
    from components.evaluation.results import load_evaluation
    from components.evaluator.component import BASELINE_VERSION_PROPERTY

    version = found[0].get_string_custom_property(BASELINE_VERSION_PROPERTY)
    result = load_evaluation(found[0].uri, version)
    baseline = result.baseline_metrics
    return {
        "metrics": result.metrics,
        "slices": result.slices,
        "baseline": None if baseline is None else _baseline(version, baseline),
        "reasons": result.reasons,
    }


def _incomparable_baseline(artifacts: Mapping[tuple[str, str], list[Any]]) -> dict[str, Any] | None:
    """The served version that the candidate could not be compared with, and why; None without any."""
    found = artifacts.get(("Baseline", "baseline_model"))
    if not found:
        return None
    from components.baseline.executor import INCOMPARABLE_VERSION_PROPERTY, OBSTACLE_PROPERTY

    version = found[0].get_string_custom_property(INCOMPARABLE_VERSION_PROPERTY)
    obstacle = found[0].get_string_custom_property(OBSTACLE_PROPERTY)
    return _baseline(version, None, obstacle) if version else None


def _baseline(version: str, metrics: Mapping[str, Any] | None, obstacle: str | None = None) -> dict[str, Any]:
    return {"version": int(version), "metrics": metrics, "obstacle": obstacle}


def _serving_check(artifacts: Mapping[tuple[str, str], list[Any]]) -> dict[str, Any] | None:
    """What was found when the candidate was served on trial; None where it was not."""
    found = artifacts.get(("ServingCheck", "infra_blessing"))
    if not found:
        return None
    from components.serving_check.report import load_report

    report = load_report(Path(found[0].uri))
    return report.model_dump(mode="json") if report else None


def _pushed_version(artifacts: Mapping[tuple[str, str], list[Any]]) -> int | None:
    """The version under which the candidate is served, also if an earlier run pushed it."""
    found = artifacts.get(_PUSHED_MODEL)
    if not found or not found[0].get_int_custom_property("pushed"):
        return None
    return int(found[0].get_string_custom_property("pushed_version"))


def _pusher_found_it_served(
    artifacts: Mapping[tuple[str, str], list[Any]], stages: Sequence["StageResult"]
) -> bool:
    from components.pusher.executor import ALREADY_SERVED_PROPERTY

    cached = any(stage.cached for stage in stages if stage.name == _PUSHED_MODEL[0])
    return cached or bool(artifacts[_PUSHED_MODEL][0].get_int_custom_property(ALREADY_SERVED_PROPERTY))
