"""The runs that a work directory remembers."""

import difflib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.report.run_summary import RunSummary
from pipeline.local.workdir import SUMMARY, WorkDir


@dataclass(frozen=True)
class PastRun:
    """A run that has ended."""

    workdir: WorkDir
    path: Path
    """Its ``summary.json``."""
    summary: RunSummary

    @property
    def run_id(self) -> str:
        return self.summary.run_id

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
            summary = RunSummary.load(path)
            if not summary.run_id:
                raise ValueError("run_id: it is empty")
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


def nearest(run_id: str, runs: Sequence[PastRun]) -> str | None:
    """Returns the run id that looks most like one that nobody has; None without any."""
    ids = [run.run_id for run in runs]
    return next(iter(difflib.get_close_matches(run_id, ids, n=1, cutoff=0.0)), None)
