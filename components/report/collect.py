"""Reads what the stages left in their artifacts, as a page shows it. Imports neither TensorFlow nor TFX."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from components.dataset.labels import LabelSet
from components.evaluation.results import EvaluationResult
from components.imaging.palette import told_apart
from components.report.data import (
    Census,
    Check,
    ClassResult,
    Dataset,
    RejectedFile,
    ServingCheck,
    Training,
)

_SHOWN_REJECTIONS: Final = 200
_HISTORY_FILE: Final = "history.json"
_INGESTION_FILE: Final = "ingestion.json"
_SERVING_CHECK_FILE: Final = "serving_check.json"
_LABELS_FILE: Final = Path("assets.extra", "labels.json")


def unmeasured_classes(labels: LabelSet) -> tuple[ClassResult, ...]:
    """Returns the classes of a run that evaluated nothing."""
    colors = told_apart(labels.palette)
    return tuple(
        ClassResult(name=name, color=color) for name, color in zip(labels.names, colors, strict=True)
    )


def gate_checks(result: EvaluationResult) -> tuple[Check, ...]:
    """Returns the gate's thresholds and what it found."""
    return tuple(
        Check(
            what=check.what,
            setting=check.setting,
            threshold=check.threshold,
            value=check.value,
            baseline=check.baseline,
            passed=check.passed,
            message=check.message,
            digits=check.digits,
        )
        for check in result.checks
    )


def read_training(model_run: Path) -> Training | None:
    """Reads the Trainer's record from its artifact ``model_run``; None where it left none."""
    recorded = _read_json(model_run / _HISTORY_FILE)
    if recorded is None:
        return None
    return Training(
        best_epoch=recorded["best_epoch"],
        epochs=tuple(
            {name: value if math.isfinite(value) else None for name, value in epoch.items()}
            for epoch in recorded["epochs"]
        ),
        untrained_classes=tuple(recorded["untrained_classes"]),
    )


def read_serving_check(infra_blessing: Path) -> ServingCheck | None:
    """Reads what the artifact ``infra_blessing`` says; None where the model was not tried."""
    found = _read_json(infra_blessing / _SERVING_CHECK_FILE)
    return None if found is None else serving_check(found)


def serving_check(found: Mapping[str, Any]) -> ServingCheck:
    """Takes from ``serving_check.json`` what a page shows."""
    latency, memory = found["latency_ms"] or {}, found["memory_mb"] or {}
    return ServingCheck(
        server=found["server"],
        reasons=tuple(found["reasons"]),
        load_seconds=found["load_seconds"],
        masks=found["masks"],
        latency_p50_ms=latency.get("p50"),
        latency_p99_ms=latency.get("p99"),
        memory_peak_mb=memory.get("peak"),
        refused_requests=len(found["hostile_requests"]),
    )


def read_dataset(ingestion: Path, census: Census) -> Dataset:
    """Reads the artifact ``ingestion`` and adds what its Examples are like."""
    rejected = json.loads((ingestion / _INGESTION_FILE).read_text(encoding="utf-8"))["rejected"]
    return dataset(rejected, census)


def dataset(rejected: Sequence[Mapping[str, Any]], census: Census) -> Dataset:
    """Returns what went in.

    Args:
        rejected: the files that became no example: ``file``, ``reason``, ``found``.
        census: of the others.
    """
    return Dataset(
        census=census,
        rejected_count=len(rejected),
        rejected=tuple(
            RejectedFile(file=item["file"], reason=str(item["reason"]), found=item["found"])
            for item in rejected[:_SHOWN_REJECTIONS]
        ),
        reasons=dict(Counter(str(item["reason"]) for item in rejected).most_common()),
    )


def made_from(model_dir: Path) -> dict[str, Any]:
    """Returns the part of the recipe that the model itself knows, this run's own values in it."""
    description = _read_json(model_dir / _LABELS_FILE)
    return description["recipe"] if description else {}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
