"""Runs that somebody disturbs, followed by their events and held to one that nobody does."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import psutil

from components.model_store import store

RUN_SECONDS: Final = 600
START: Final = "before the first stage"
END: Final = "the end"
"""Where all stages are done."""
_MARK: Final = "DISTURBED_RUN"
"""Variable of a run's environment, which all that it starts inherits."""
_ACTIVE_EXECUTIONS: Final = "SELECT count(*) FROM Execution WHERE last_known_state IN (1, 2)"
"""New or running, as ML Metadata counts its states."""
_CHANGING: Final = (
    (re.compile(r"\d{8}-\d{6}-\d{6}"), "RUN"),
    (re.compile(r"(?<=/)\d+(?=/)"), "N"),
    (re.compile(r"events\.out\.tfevents\..*"), "EVENTS"),
)
"""What differs in the names of files of two equal runs."""
_TEMPORARY: Final = "$TMPDIR/"
_KEPT: Final = re.compile(
    r"logs/RUN\.log|history/RUN/.*|.*/EVENTS|artifacts/(Report/report|ServingCheck/infra_blessing)/N/.*"
)
"""Files that a disturbed run may leave: what it wrote is true, and people want to read it."""

MODEL: Final = "shapes"
_TINY: Final = (
    "dataset.shapes.num_images=40",
    "transform.height=32",
    "transform.width=32",
    "model.filters=4",
    "model.depth=2",
    "training.epochs=4",
    "training.learning_rate=0.01",
    "evaluation.min_mean_iou=0.0",
    "evaluation.max_regression=null",
    'evaluation.allow_unmeasured_classes=["disc", "square", "triangle", "boundary"]',
)


@contextmanager
def served_run(prefix: str) -> Iterator[tuple[Path, Path, list[str]]]:
    """Has a run of seconds push a version.

    Yields:
        Its work directory, an empty folder, and its command, which prints its events.
    """
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        workdir, scratch = Path(folder, "work"), Path(folder, "scratch")
        scratch.mkdir()
        command = [sys.executable, "-m", "pipeline.run_local", "--workdir", str(workdir), "--json"]
        command += [f"--set={change}" for change in _TINY]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        yield workdir, scratch, command


def run_result(workdir: Path) -> dict[str, Any]:
    """Reads what a run has made that equal runs make alike, by what to call it."""
    examples = _newest_artifact(workdir, "ImageMaskExampleGen/examples")
    evaluation = _newest_artifact(workdir, "Evaluator/evaluation") / "evaluation.json"
    return {
        "the Examples": store.content_fingerprint(examples),
        "the evaluation": evaluation.read_text(),
    }


def _newest_artifact(workdir: Path, artifact: str) -> Path:
    return max(workdir.glob(f"artifacts/{artifact}/*"), key=lambda path: int(path.name))


@dataclass
class Undisturbed:
    """What a run does that is left alone."""

    stages: list[str] = field(default_factory=list)
    seconds: dict[tuple[str, bool], float] = field(default_factory=dict)
    """In each place, and on the way to it."""
    result: Any = None
    files: Counter[str] = field(default_factory=Counter)


class Run:
    """A run, followed by the events that ``--json`` prints; one that hangs is killed, and what it started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], stderr: IO[str] | int):
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment, _MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self.where = START
        self.reasons = ""
        self.run_id = ""
        """Empty unless it has ended with a summary."""
        self.done: set[str] = set()
        self.executed: set[str] = set()
        """Those done that did not come from the cache."""
        self.hung = False
        self._limit = threading.Timer(RUN_SECONDS, self._end)
        self._limit.daemon = True
        self._limit.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.wait()

    def _end(self) -> None:
        self.hung = True
        self._process.kill()
        # They may hold the pipe that the events come through.
        for process in marked(self.mark):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> int:
        """Follows the run until it ends; returns its exit status, negative for a signal."""
        for _ in self.events():
            pass
        return self._process.wait()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yields what the run says, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(json.JSONDecodeError):
                event = json.loads(line)
                self._follow(event)
                yield event

    def _follow(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "stage_started":
                self.where = f"in {event['stage']}"
            case "stage_finished":
                self.where = f"after {event['stage']}"
                self.done.add(event["stage"])
                if not event["cached"]:
                    self.executed.add(event["stage"])
            case "finished":
                summary = event["summary"] or {}
                self.where = f"ended, {summary.get('outcome', 'interrupted')}"
                self.reasons = "; ".join(summary.get("reasons", ()))
                self.run_id = summary.get("run_id", "")


class Disturbed:
    """A work directory in which runs of a command are disturbed, and held to an undisturbed one.

    Args:
        command: what runs, with its work directory; it prints events as ``--json`` does.
        workdir: that directory.
        scratch: an empty folder outside of it.
        result: reads what the run came to; of equal runs it is equal.
    """

    def __init__(self, command: Sequence[str], workdir: Path, scratch: Path, result: Callable[[], Any]):
        self.command = command
        self.workdir = workdir
        self.before = scratch / "before"
        self.temporary = scratch / "tmp"
        self._result = result
        self.undisturbed = self._run_undisturbed()

    def start(self, around: Sequence[str] = (), stderr: IO[str] | int = subprocess.DEVNULL) -> Run:
        """Starts the command, or what is around it."""
        return Run([*around, *self.command], {"TMPDIR": str(self.temporary)}, stderr)

    def go_back(self, state: Path) -> None:
        """Makes the work directory what it was, and removes temporary files."""
        mirror(state, self.workdir)
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()

    def unlike_undisturbed(self, run: Run) -> Iterator[str]:
        """Says of a run that nobody disturbed either what is not as the first one left it."""
        if status := run.wait():
            yield f"left alone it ended with status {status}: {run.reasons}"
            return
        result, expected = self._result(), self.undisturbed.result
        yield from (f"another result: {name}" for name in expected if result[name] != expected[name])
        files = self._files()
        yield from self._left_behind(files)
        for file in self.undisturbed.files - files:
            yield f"missing: {file}"
        if active := _active_executions(self.workdir):
            yield f"{active} executions are still running, says metadata.sqlite"

    def temporary_files(self) -> Iterator[str]:
        """Says what there is where temporary files go that the undisturbed run did not leave."""
        yield from self._left_behind(_names(self.temporary, _TEMPORARY))

    def _left_behind(self, files: Counter[str]) -> Iterator[str]:
        for file, count in (files - self.undisturbed.files).items():
            if not _KEPT.fullmatch(file):
                yield f"left behind: {file}" + (f" ({count} times)" if count > 1 else "")

    def _run_undisturbed(self) -> Undisturbed:
        self.temporary.mkdir()
        mirror(self.workdir, self.before)
        found = Undisturbed()
        last, begin = "", time.monotonic()
        with self.start() as run:
            for event in run.events():
                if event["event"] in ("stage_started", "stage_finished", "finished"):
                    name, now = event.get("stage", END), time.monotonic()
                    found.seconds[name, name not in (last, END)] = now - begin
                    last, begin = name, now
                if event["event"] == "stage_started":
                    found.stages.append(name)
            if status := run.wait():
                raise RuntimeError(f"the undisturbed run ended with status {status}: {run.reasons}")
        found.result, found.files = self._result(), self._files()
        return found

    def _files(self) -> Counter[str]:
        """How many files there are of each name, in the work directory and where temporary ones go."""
        return _names(self.workdir, "") + _names(self.temporary, _TEMPORARY)


def _names(root: Path, prefix: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in root.rglob("*"):
        # A temporary directory counts even when it is empty.
        if path.is_file() or (prefix and path.is_dir()):
            name = prefix + path.relative_to(root).as_posix()
            for pattern, word in _CHANGING:
                name = pattern.sub(word, name)
            found[name] += 1
    return found


def is_there(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(_MARK) == mark and is_there(process):
                yield process


def _active_executions(workdir: Path) -> int:
    with sqlite3.connect(workdir / "metadata.sqlite") as connection:
        [count] = connection.execute(_ACTIVE_EXECUTIONS).fetchone()
    connection.close()
    return count


def mirror(source: Path, target: Path) -> None:
    """Makes a directory like another one; what is alike in both stays: a server may have it open."""
    wanted = {path.name for path in source.iterdir()} if source.exists() else set()
    target.mkdir(exist_ok=True)
    for path in target.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in wanted:
        if (source / name).is_dir():
            mirror(source / name, target / name)
        elif not (target / name).exists() or (target / name).read_bytes() != (source / name).read_bytes():
            shutil.copy2(source / name, target / name)
