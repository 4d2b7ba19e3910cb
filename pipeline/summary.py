"""``summary.json``: what a run did, for programs."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Recipe

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult


def build_summary(
    recipe: Recipe,
    run_id: str,
    serving_dir: Path,
    stages: Sequence["StageResult"],
    failure: str | None = None,
) -> dict[str, Any]:
    """Returns the summary of a run, read from the artifacts of its stages.

    Cached stages have artifacts like any other, so a rerun sums up the same.

    Args:
        recipe: what was run.
        run_id: names the run and its log.
        serving_dir: the directory of the model's versions.
        stages: those that are done.
        failure: why the run ended early; None if it did not.
    """
    artifacts = {(stage.name, key): found for stage in stages for key, found in stage.outputs.items()}
    evaluation = _evaluation(artifacts)
    version = _pushed_version(artifacts)
    if failure is not None:
        outcome, reasons = "failed", [failure]
    elif version is not None:
        outcome, reasons = "pushed", []
    else:
        outcome, reasons = "rejected", evaluation["reasons"]
    return {
        "recipe": recipe.name,
        "run_id": run_id,
        "outcome": outcome,
        "reasons": reasons,
        "model_name": recipe.serving.model_name,
        "pushed_version": version,
        "serving_dir": str(serving_dir),
        **_ingestion(artifacts),
        "metrics": evaluation["metrics"],
        "slices": evaluation["slices"],
        "baseline": evaluation["baseline"],
        "stages": [
            {"name": stage.name, "seconds": round(stage.seconds, 3), "cached": stage.cached}
            for stage in stages
        ],
    }


def write_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Writes the summary so that a reader sees the old one or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _ingestion(artifacts: Mapping[tuple[str, str], list[Any]]) -> dict[str, Any]:
    found = artifacts.get(("ImageMaskExampleGen", "ingestion"))
    if not found:
        return {"examples": None, "rejected_files": []}
    from components.image_mask_example_gen.report import load_ingestion_report

    report = load_ingestion_report(found[0].uri)
    return {
        "examples": {**report.examples, "rejected": len(report.rejected)},
        "rejected_files": [rejected.model_dump(mode="json") for rejected in report.rejected],
    }


def _evaluation(artifacts: Mapping[tuple[str, str], list[Any]]) -> dict[str, Any]:
    found = artifacts.get(("Evaluator", "evaluation"))
    if not found:
        return {"metrics": None, "slices": {}, "baseline": None, "reasons": []}
    from components.evaluator.results import load_evaluation

    version = found[0].get_string_custom_property("baseline_version")
    result = load_evaluation(found[0].uri, version)
    baseline = result.baseline_metrics
    return {
        "metrics": result.metrics,
        "slices": result.slices,
        "baseline": None if baseline is None else {"version": int(version), "metrics": baseline},
        "reasons": result.reasons,
    }


def _pushed_version(artifacts: Mapping[tuple[str, str], list[Any]]) -> int | None:
    """The version under which the candidate is served, also if an earlier run pushed it."""
    found = artifacts.get(("Pusher", "pushed_model"))
    if not found or not found[0].get_int_custom_property("pushed"):
        return None
    return int(found[0].get_string_custom_property("pushed_version"))
