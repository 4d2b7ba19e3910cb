"""The runs that a work directory remembers."""

import difflib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.workdir import SUMMARY, WorkDir


class _Part(BaseModel):
    """What is read of a part of ``summary.json``; what else there is does not matter here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Metrics(_Part):
    examples: int
    mean_iou: float | None
    mean_dice: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]


class Baseline(_Part):
    version: int
    metrics: Metrics | None
    obstacle: str | None = None


class Latency(_Part):
    p50: float
    p99: float


class Memory(_Part):
    peak: float


class ServingCheck(_Part):
    server: str
    load_seconds: float | None
    latency_ms: Latency | None
    memory_mb: Memory | None
    reasons: tuple[str, ...] = ()


class Stage(_Part):
    name: str
    seconds: float
    cached: bool
    memory_mb: float | None = None


class Summary(_Part):
    """``summary.json``, also as runs of earlier versions left it: what came later has a default."""

    run_id: str = Field(pattern=r"^\w[\w-]*$")
    """Names a folder and a log, and nothing outside of the work directory."""
    recipe: str
    outcome: Literal["pushed", "rejected", "failed"]
    reasons: tuple[str, ...]
    pushed_version: int | None
    serving_dir: str
    metrics: Metrics | None
    stages: tuple[Stage, ...]
    slices: dict[str, float | None] = {}
    baseline: Baseline | None = None
    serving_check: ServingCheck | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    seconds: float | None = None
    report: str | None = None


@dataclass(frozen=True)
class PastRun:
    """A run that has ended."""

    workdir: WorkDir
    path: Path
    """Its ``summary.json``."""
    summary: Summary

    @property
    def run_id(self) -> str:
        return self.summary.run_id

    @property
    def verdict(self) -> str:
        """``pushed``, ``rejected``, ``failed``, or ``interrupted``."""
        reasons = self.summary.reasons
        if self.summary.outcome == "failed" and reasons and reasons[0].startswith("interrupted"):
            return "interrupted"
        return self.summary.outcome

    @property
    def seconds(self) -> float:
        """What the run took; its stages alone where nothing else was measured."""
        measured = self.summary.seconds
        return sum(stage.seconds for stage in self.summary.stages) if measured is None else measured

    @property
    def log(self) -> Path:
        return self.workdir.log(self.run_id)


@dataclass(frozen=True)
class Unreadable:
    """A ``summary.json`` that is none."""

    path: Path
    why: str


def past_runs(workdir: WorkDir) -> tuple[list[PastRun], list[Unreadable]]:
    """Returns a work directory's runs, the newest first, and what cannot be read."""
    # The newest run's second copy counts where the first is missing: runs were not always kept.
    found = {
        entry.run_id if isinstance(entry, PastRun) else str(entry.path): entry for entry in _read(workdir)
    }
    runs = [entry for entry in found.values() if isinstance(entry, PastRun)]
    unreadable = [entry for entry in found.values() if isinstance(entry, Unreadable)]
    return sorted(runs, key=_age, reverse=True), unreadable


def _age(run: PastRun) -> tuple[float, str]:
    # Ids are in local time, which may go back by an hour, or be another machine's.
    started = run.summary.started_at
    return (started.timestamp() if started else 0.0, run.run_id)


def is_workdir(path: Path) -> bool:
    """Tells whether runs have left anything in a directory."""
    workdir = WorkDir(path)
    return workdir.summary.is_file() or workdir.history.is_dir()


def delete_run(run: PastRun) -> list[Path]:
    """Removes what only this run has: its folder of the history and its log. Returns what is gone.

    Artifacts and served versions stay, whichever run made them: others reuse them from the cache. Where the
    newest run goes, ``summary.json`` and ``report/index.html`` become those of the run before.
    """
    gone = []
    folder = run.workdir.past(run.run_id)
    if folder.is_symlink():
        # What it points to may be somebody else's.
        folder.unlink()
        gone.append(folder)
    elif folder.is_dir():
        shutil.rmtree(folder)
        gone.append(folder)
    if run.log.exists():
        run.log.unlink()
        gone.append(run.log)
    if _run_id(run.workdir.summary) == run.run_id:
        remaining, _ = past_runs(run.workdir)
        before = next((other.path for other in remaining if other.run_id != run.run_id), None)
        gone += _replace(run.workdir.summary, before)
        # The page of a run lies beside its summary, and has the newest one's name.
        gone += _replace(run.workdir.report, before.with_name(run.workdir.report.name) if before else None)
    return gone


def _replace(newest: Path, before: Path | None) -> list[Path]:
    """Puts a copy of the file before in the place of the newest; returns what is gone without a successor."""
    if before and before.exists():
        newest.parent.mkdir(exist_ok=True)
        temporary = newest.with_name(f".{newest.name}.deleting")
        shutil.copyfile(before, temporary)
        temporary.replace(newest)
        return []
    if not newest.exists():
        return []
    newest.unlink()
    return [newest]


def _read(workdir: WorkDir) -> Iterator[PastRun | Unreadable]:
    paths = [workdir.summary] if workdir.summary.exists() else []
    for path in [*paths, *sorted(workdir.history.glob(f"*/{SUMMARY}"))]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            summary = Summary.model_validate(_printable(content))
        except (OSError, ValueError) as error:
            yield Unreadable(path, _why(error))
        else:
            yield PastRun(workdir, path, summary)


def _run_id(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("run_id") if isinstance(content, dict) else None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON in line {error.lineno}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _printable(value: Any) -> Any:
    """Returns the value with lone surrogates, which file names may hold, as a backslash and a code."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def nearest(run_id: str, runs: Sequence[PastRun]) -> str | None:
    """Returns the run id that looks most like one that nobody has; None without any."""
    ids = [run.run_id for run in runs]
    return next(iter(difflib.get_close_matches(run_id, ids, n=1, cutoff=0.0)), None)
