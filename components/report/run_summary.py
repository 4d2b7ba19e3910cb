"""A run's summary: written as ``summary.json``, read back, printed, and part of every page.

Imports neither TensorFlow nor TFX.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AwareDatetime, Field, PlainSerializer

from components.dataset.contracts import (
    ALREADY_SERVED,
    EVALUATION_FILE,
    HISTORY_FILE,
    INCOMPARABLE_VERSION,
    INGESTION_FILE,
    OBSTACLE,
    PUSHED,
    PUSHED_VERSION,
    SERVING_CHECK_FILE,
    Baseline,
    Ceiling,
    Evaluation,
    Ingestion,
    Metrics,
    Record,
    RejectedFile,
    ServingCheck,
    TrainingHistory,
)

if TYPE_CHECKING:
    from tfx.types import Artifact

REJECTED: Final = "rejected"
"""In ``examples``, beside the splits: how many files became none."""
INTERRUPTED: Final = "interrupted in "
"""How the reason of an interrupted run begins."""

Moment = Annotated[
    AwareDatetime, PlainSerializer(lambda moment: moment.isoformat(timespec="seconds"), when_used="json")
]


_R = TypeVar("_R", bound=Record)


class Stage(Record):
    """What a stage cost."""

    name: str
    seconds: float
    cached: bool
    memory_mb: float | None = None
    """At most, megabytes of 10^6 bytes; null where it was not measured."""


class RunSummary(Record):
    """What a run did; null is what it did not reach."""

    run_id: str = Field(pattern=r"^(\w[\w-]*)?$")
    """Names a folder and a log, and nothing outside of the work directory; empty where nobody knows it."""
    recipe: str
    outcome: Literal["pushed", "rejected", "failed", "evaluated"]
    """``evaluated`` is of no run, but of a model that was pushed before."""
    reasons: tuple[str, ...] = ()
    """Why it was rejected or failed, or would be rejected, a line each."""
    started_at: Moment | None = None
    finished_at: Moment | None = None
    seconds: float | None = None
    model_name: str = ""
    pushed_version: int | None = None
    """Under which the candidate is served, also if an earlier run pushed it."""
    pushed_now: bool = False
    """Whether this run pushed it; otherwise it had been served already."""
    serving_dir: str = ""
    """The directory of the model's versions."""
    examples: dict[str, int] | None = None
    """Of each split, and how many files were `REJECTED`."""
    rejected_files: tuple[RejectedFile, ...] = ()
    untrained_classes: tuple[str, ...] = ()
    """Those that the training split has no pixel of, as far as a Trainer has come to say so."""
    metrics: Metrics | None = None
    ceiling: Ceiling | None = None
    """What the resize leaves at most; null where that is not known."""
    slices: dict[str, float | None] = Field(default_factory=dict)
    """Mean IoU, by ``attribute=value``."""
    baseline: Baseline | None = None
    serving_check: ServingCheck | None = None
    stages: tuple[Stage, ...] = ()
    evaluated_model: str = ""
    """Directory of the model that was evaluated without a run; empty of a run."""
    report: str | None = None
    """Path of the page."""

    @property
    def verdict(self) -> Literal["pushed", "rejected", "failed", "interrupted", "passed", "missed"]:
        """The outcome, told apart where somebody stopped the run, and by the gate where there was none."""
        if self.outcome == "evaluated":
            return "missed" if self.reasons else "passed"
        if self.outcome == "failed" and self.reasons and self.reasons[0].startswith(INTERRUPTED):
            return "interrupted"
        return self.outcome


def summarize(
    artifacts: Mapping[str, "Artifact"],
    *,
    recipe: str,
    run_id: str = "",
    model_name: str,
    serving_dir: str,
    failure: str | None = None,
    rejected_files: Iterable[Mapping[str, Any]] = (),
    stages: Sequence[Stage] = (),
    started_at: datetime | None = None,
    seconds: float | None = None,
) -> RunSummary:
    """Returns the summary of a run, read from what its stages left; it knows of no ``report`` yet.

    Cached stages have artifacts like any other, so a rerun sums up the same.

    Args:
        artifacts: those of the stages that are done, by output key.
        recipe: its name.
        run_id: names the run and its log.
        model_name: what is served.
        serving_dir: the directory of the model's versions.
        failure: why the run ended early; None if it did not.
        rejected_files: what the failed stage itself says of them, where it left no report.
        stages: those that are done.
        started_at: when the run began, aware of its time zone.
        seconds: what it took.
    """
    ingestion = _load(Ingestion, artifacts, "ingestion", INGESTION_FILE)
    history = _load(TrainingHistory, artifacts, "model_run", HISTORY_FILE)
    evaluation = _load(Evaluation, artifacts, "evaluation", EVALUATION_FILE)
    serving_check = _load(ServingCheck, artifacts, "infra_blessing", SERVING_CHECK_FILE)
    version, pushed_now = _pushed(artifacts, stages)
    reasons: tuple[str, ...] = ()
    if failure is not None:
        outcome, reasons = "failed", (failure,)
    elif version is not None:
        outcome = "pushed"
    else:
        outcome = "rejected"
        reasons = (
            *(evaluation.reasons if evaluation else ()),
            *(serving_check.reasons if serving_check else ()),
        )
    return RunSummary(
        recipe=recipe,
        run_id=run_id,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=seconds) if started_at and seconds is not None else None,
        seconds=None if seconds is None else round(seconds, 3),
        outcome=outcome,
        reasons=reasons,
        model_name=model_name,
        pushed_version=version,
        pushed_now=pushed_now,
        serving_dir=serving_dir,
        examples={**ingestion.examples, REJECTED: len(ingestion.rejected)} if ingestion else None,
        rejected_files=ingestion.rejected if ingestion else rejected_files,
        untrained_classes=history.untrained_classes if history else (),
        metrics=evaluation.metrics if evaluation else None,
        ceiling=evaluation.ceiling if evaluation else None,
        slices=evaluation.slices if evaluation else {},
        baseline=(evaluation and evaluation.baseline) or _incomparable_baseline(artifacts),
        serving_check=serving_check,
        stages=stages,
    )


def _load(kind: type[_R], artifacts: Mapping[str, "Artifact"], key: str, file: str) -> _R | None:
    """Reads a record from an artifact; None where the stage has not been reached, or left none."""
    return kind.load_if_any(Path(artifacts[key].uri, file)) if key in artifacts else None


def _pushed(artifacts: Mapping[str, "Artifact"], stages: Sequence[Stage]) -> tuple[int | None, bool]:
    """The version under which the candidate is served, and whether it is this run that pushed it."""
    pushed_model = artifacts.get("pushed_model")
    if pushed_model is None or not pushed_model.get_int_custom_property(PUSHED):
        return None, False
    cached = any(stage.cached for stage in stages if stage.name == "Pusher")
    found_served = cached or bool(pushed_model.get_int_custom_property(ALREADY_SERVED))
    return int(pushed_model.get_string_custom_property(PUSHED_VERSION)), not found_served


def _incomparable_baseline(artifacts: Mapping[str, "Artifact"]) -> Baseline | None:
    """The served version that the candidate could not be compared with, and why; None without any."""
    baseline = artifacts.get("baseline_model")
    version = baseline.get_string_custom_property(INCOMPARABLE_VERSION) if baseline else ""
    if not baseline or not version:
        return None
    return Baseline(version=int(version), obstacle=baseline.get_string_custom_property(OBSTACLE))
