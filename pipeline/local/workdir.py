"""The directory that runs work in: where things lie, the lock that keeps a second run out, and past runs."""

import difflib
import fcntl
import json
import os
import re
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from components.dataset.contracts import SPLITS_FILE, write_whole
from components.errors import printable, undecodable
from components.files import flush, sha256
from components.report.run_summary import RunSummary

WORKDIRS: Final = Path("runs")
"""Where ``pipeline.run_local`` makes work directories, named after recipes, unless it is told otherwise."""
SUMMARY: Final = "summary.json"
_TEMPORARY: Final = "segmentation-run-"
_HALF_WRITTEN: Final = re.compile(
    r"\.(summary\.json|report\.json|index\.html|splits\.csv|\.metadata\.sha256)\.\d+"
    r"|\.(summary\.json|index\.html|splits\.csv)\.deleting"
)
"""What `write_whole`, `write_page` and `delete_run` call a file until it is one."""


_PATTERN: Final = re.compile(r"[*?\[\\]")
"""What TensorFlow and Beam take for a pattern, or for a sign before one. Beam has no way to quote it."""


class WorkDirError(Exception):
    """The directory cannot be worked in; the message says why."""


def check_place(place: Path, remedy: str) -> None:
    """Looks whether stages can work with a directory, wherever it lies: all of its path counts.

    They hand ``PLACE/…/*`` to TensorFlow and Beam, which would find other directories' files as well where
    the place itself looks like a pattern, or none; and its name as text, which must be UTF-8.

    Args:
        place: need not exist.
        remedy: what the user may do instead, to end the message.

    Raises:
        WorkDirError: they cannot.
    """
    path = str(place.absolute())
    if found := _PATTERN.search(path):
        why = f"TensorFlow and Beam take {found[0]} in a path for a part of a pattern, and find other files"
    elif byte := undecodable(path):
        why = f"{printable(byte)} in it is not UTF-8"
    else:
        return
    raise WorkDirError(f"cannot work with {printable(path)}: {why}; {remedy}")


class WorkDir:
    """Where things lie in a work directory.

    ``artifacts/`` and ``metadata.sqlite`` are TFX's, ``checkpoints/`` the Trainer's, ``serving/``
    what a model server reads, ``logs/`` one file a run, ``history/`` one folder a run with its
    ``summary.json`` and page; ``summary.json`` and ``report/`` beside them are the newest run's. ``drawn/``
    has pictures to ask a model of the drawn dataset for.
    """

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.artifacts = self.root / "artifacts"
        self.metadata = self.root / "metadata.sqlite"
        self.checkpoints = self.root / "checkpoints"
        self.summary = self.root / SUMMARY
        self.history = self.root / "history"
        self.report = self.root / "report" / "index.html"
        self.drawn = self.root / "drawn"
        self._temporary: Path | None = None

    def serving(self, model_name: str) -> Path:
        """The directory that holds a model's versions."""
        return self.root / "serving" / model_name

    def past(self, run_id: str) -> Path:
        """The folder of a run that has ended."""
        return self.history / run_id

    def log(self, run_id: str) -> Path:
        return self.root / "logs" / f"{run_id}.log"

    def begin_log(self, run_id: str) -> Path:
        """Creates a run's log.

        Raises:
            WorkDirError: it cannot be written.
        """
        log = self.log(run_id)
        try:
            log.touch()
        except OSError as error:
            raise WorkDirError(
                f"cannot write {log}: {error.strerror}; make that possible, or choose another --workdir"
            ) from None
        return log

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

        Meanwhile temporary files, of child processes, too, lie in a directory of their own. It goes at the
        end; where the process is killed, it is the next one that removes it, and what else was half written.

        Raises:
            WorkDirError: another run holds the lock, or the directory cannot be written to.
        """
        try:
            (self.root / "logs").mkdir(parents=True, exist_ok=True)
            # Python opens files close-on-exec, so a child process cannot outlive the run with its lock.
            # It names a directory, as `os.fsencode` writes it.
            file = (self.root / ".lock").open("a+", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise WorkDirError(f"cannot work in {self.root}: {error}; choose another --workdir") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.readline().strip() or "unknown"
                raise WorkDirError(
                    f"another run (process {holder}) is at work in {self.root}; "
                    "wait for it, or choose another --workdir"
                ) from None
            except OSError as error:
                raise WorkDirError(
                    f"{self.root} cannot be locked: {error.strerror}; choose a --workdir on a disk that can"
                ) from None
            try:
                file.seek(0)
                _, whose, earlier = [*file.read().split("\n", 2), "", "", ""][:3]
                status = os.fstat(file.fileno())
                own = f"{status.st_dev}:{status.st_ino}"
                # A copy of the directory names a directory that another run may be using.
                self._remove_remains(earlier if whose == own else "")
                # Its name is written down before it is there, or a process that is killed in between would
                # leave one that nobody knows of.
                temporary = Path(tempfile.gettempdir(), f"{_TEMPORARY}{uuid.uuid4().hex}")
                # Not through the file's buffer, which would be written again when it is closed.
                os.truncate(file.fileno(), 0)
                os.write(file.fileno(), os.fsencode(f"{os.getpid()}\n{own}\n{temporary}"))
            except OSError as error:
                raise WorkDirError(
                    f"cannot write in {self.root}: {error.strerror}; make room, or choose another --workdir"
                ) from None
            try:
                temporary.mkdir(mode=0o700)
            except OSError as error:
                raise WorkDirError(
                    f"cannot write in {temporary.parent}: {error.strerror}; make room, or name another place "
                    "for temporary files in TMPDIR"
                ) from None
            self._temporary = temporary
            with _temporary_files_in(temporary):
                yield

    def remove_temporary(self) -> None:
        """Removes the temporary files of this process; for one that does not leave `locked` as others do."""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _remove_remains(self, temporary: str) -> None:
        """Removes what processes that were killed have left: the lock is held, so nobody works on it.

        Args:
            temporary: the directory of the last holder's temporary files.
        """
        if Path(temporary).name.startswith(_TEMPORARY):
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in (self.root, self.report.parent, *self.history.glob("*")):
            for path in folder.glob(".*"):
                if _HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()

    @contextmanager
    def sound_metadata(self) -> Iterator[None]:
        """Looks through `metadata` before a run, and notes afterwards what it is: SQLite keeps no checksums.

        A run that dies leaves no note; the next one has to be content with SQLite's own look at it.

        Raises:
            WorkDirError: it is damaged, or cannot be written.
        """
        note = self.root / ".metadata.sha256"
        try:
            if self.metadata.exists():
                # SQLite would be content with reading it, and the first stage would fail.
                self.metadata.open("r+b").close()
                self._check_metadata(note)
            # From now on it changes, and a note that came back after a power cut would be wrong.
            note.unlink(missing_ok=True)
            flush(self.root)
        except (OSError, sqlite3.OperationalError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise WorkDirError(
                f"cannot work with {self.metadata}: {why}; make it writable, or choose another --workdir"
            ) from None
        yield
        # Without a note the next run only looks less closely.
        with suppress(OSError):
            write_whole(note, sha256(self.metadata))

    def _check_metadata(self, note: Path) -> None:
        noted = note.read_text() if note.exists() else ""
        faults: list[str]
        try:
            with closing(sqlite3.connect(self.metadata)) as store:
                # What a run that died has half written is taken back; nobody else is at work here.
                store.execute("BEGIN IMMEDIATE")
                store.rollback()
                faults = [fault for (fault,) in store.execute("PRAGMA integrity_check(1)") if fault != "ok"]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
        if not faults and noted not in ("", sha256(self.metadata)):
            faults = ["it is not what the last run left"]
        if faults:
            what = faults[0].splitlines()[-1]
            raise WorkDirError(
                f"{self.metadata} is damaged: {what}; put a copy of it back and remove {note}, without which "
                f"any sound one is taken, or remove {self.metadata.name}: every stage then runs anew, and "
                "what is served and the checkpoints stay"
            )


@contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Has `tempfile` and child processes put temporary files into a directory, which goes at the end."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(directory, ignore_errors=True)


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
    """A ``summary.json`` that is none, or a folder of theirs that may not be read."""

    path: Path
    why: str
    """A clause, such as ``it cannot be read: Permission denied``."""


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
    # Not Path's own: of what may not be looked into, as a disk's lost+found, they raise.
    return os.path.isfile(workdir.summary) or os.path.isdir(workdir.history)


def delete_run(run: PastRun) -> list[Path]:
    """Removes what only this run has: its folder of the history and its log. Returns what is gone.

    Artifacts and served versions stay, whichever run made them: others reuse them from the cache. Where the
    newest run goes, ``summary.json`` and what ``report/`` holds become those of the run before.
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
        # What belongs to a run's page lies beside its summary, under the newest one's names.
        for page in (run.workdir.report, run.workdir.report.with_name(SPLITS_FILE)):
            gone += _replace(page, before.with_name(page.name) if before else None)
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
    try:
        paths += [folder / SUMMARY for folder in entries(workdir.history)]
    except OSError as error:
        yield Unreadable(workdir.history, _why(error))
    for path in paths:
        try:
            summary = RunSummary.load(path)
            if not summary.run_id:
                raise ValueError("run_id: it is empty")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            yield Unreadable(path, _why(error))
        else:
            yield PastRun(workdir, path, summary)


def entries(folder: Path) -> list[Path]:
    """Returns what a folder holds, by name, and nothing of one that is not there.

    Raises:
        OSError: it may not be read; `Path.glob` would say that there is nothing.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _run_id(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("run_id") if isinstance(content, dict) else None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or error}"
    what = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        what = f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}"
    elif isinstance(error, json.JSONDecodeError):
        what = f"no JSON in line {error.lineno}"
    return f"it is no summary of a run ({what})"


def nearest(run_id: str, runs: Sequence[PastRun]) -> str | None:
    """Returns the run id that looks most like one that nobody has; None without any."""
    ids = [run.run_id for run in runs]
    return next(iter(difflib.get_close_matches(run_id, ids, n=1, cutoff=0.0)), None)
