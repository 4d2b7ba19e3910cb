"""The directory a run works in, and the lock that keeps a second run out of it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from components.report.run_summary import RunSummary

SUMMARY: Final = "summary.json"


class WorkDirError(Exception):
    """The directory cannot be worked in; the message says why."""


class WorkDir:
    """Where things lie in a work directory.

    ``artifacts/`` and ``metadata.sqlite`` are TFX's, ``checkpoints/`` the Trainer's, ``serving/``
    what a model server reads, ``logs/`` one file a run, ``history/`` one folder a run with its
    ``summary.json`` and page; ``summary.json`` and ``report/`` beside them are the newest run's.
    """

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.artifacts = self.root / "artifacts"
        self.metadata = self.root / "metadata.sqlite"
        self.checkpoints = self.root / "checkpoints"
        self.summary = self.root / SUMMARY
        self.history = self.root / "history"
        self.report = self.root / "report" / "index.html"

    def serving(self, model_name: str) -> Path:
        """The directory that holds a model's versions."""
        return self.root / "serving" / model_name

    def past(self, run_id: str) -> Path:
        """The folder of a run that has ended."""
        return self.history / run_id

    def log(self, run_id: str) -> Path:
        return self.root / "logs" / f"{run_id}.log"

    def keep(self, summary: RunSummary) -> None:
        """Writes a summary twice: to stay with its run, and as the newest one.

        Each names its own copy of the report: the newest run's is overwritten by the next run.
        """
        past = self.past(summary.run_id)
        past.mkdir(parents=True, exist_ok=True)
        report = past / Path(summary.report).name if summary.report else None
        own = {"report": str(report)} if report and report.exists() else {}
        summary.model_copy(update=own).save(past / SUMMARY)
        summary.save(self.summary)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the directory and keeps other runs out; a lock dies with its process, however it dies.

        Raises:
            WorkDirError: another run holds the lock, or the directory cannot be written to.
        """
        try:
            (self.root / "logs").mkdir(parents=True, exist_ok=True)
            # Python opens files close-on-exec, so a child process cannot outlive the run with its lock.
            file = (self.root / ".lock").open("a+")
        except OSError as error:
            raise WorkDirError(f"cannot work in {self.root}: {error}; choose another --workdir") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise WorkDirError(
                    f"another run (process {file.read().strip() or 'unknown'}) is at work in {self.root}; "
                    "wait for it, or choose another --workdir"
                ) from None
            except OSError as error:
                raise WorkDirError(
                    f"{self.root} cannot be locked: {error.strerror}; choose a --workdir on a disk that can"
                ) from None
            try:
                # Not through the file's buffer, which would be written again when it is closed.
                os.truncate(file.fileno(), 0)
                os.write(file.fileno(), str(os.getpid()).encode())
            except OSError as error:
                raise WorkDirError(
                    f"cannot write in {self.root}: {error.strerror}; make room, or choose another --workdir"
                ) from None
            yield
