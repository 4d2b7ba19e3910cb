"""The directory a model server watches: ``<base>/<version>/saved_model.pb``, versions being integers.

A server loads every integer directory as soon as it sees it, so a version appears and disappears by
rename: it is there as a whole or not at all. Whoever changes the directory holds its lock, a
``flock`` that ends with the process however that ends. While the lock is held, anything half done is
therefore the remains of an interrupted process, and is removed.
"""

import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from components.errors import StageError
from components.files import flush, sha256, visible_files

logger = logging.getLogger(__name__)

MODEL_FILE: Final = "saved_model.pb"
"""What makes a directory a SavedModel."""
SERVING_FORMAT: Final = "Format-Serving"
"""The folder of a Model artifact with the SavedModel (``serving_model_dir`` in ``tfx.utils.path_utils``)."""
PROVENANCE_FILE: Final = Path("assets.extra", "provenance.json")
"""Where a version says how it came to be served."""
SIGNATURE_FILE: Final = Path("assets.extra", "model.sig")
"""Where a version has its signature, if it has one; a server reads nothing there but the warm-up."""
MODEL_FINGERPRINT_KEY: Final = "model_fingerprint"
"""In the provenance: `content_fingerprint` of the model as it was pushed."""
PUSHED_AT_KEY: Final = "pushed_at"
"""In the provenance: the time of the push, UTC."""
BASELINE_TOKEN_KEY: Final = "baseline_token"
"""In the provenance, and a property of the Baseline's artifact: what the model was compared with."""
PUSH_TOKEN_KEY: Final = "push_token"
"""In the provenance, and a parameter of the Pusher: which push made the version."""
SERVED_MODEL_KEY: Final = "served_model"
"""A parameter of the Baseline: the `baseline_token` that it is to answer with."""
NO_BASELINE: Final = "nothing"
"""The `baseline_token` where no model is served but perhaps the candidate."""

_LOADABLE: Final = (MODEL_FILE, "saved_model.pbtxt", "saved_model.cpb", "model.tflite")
"""What TensorFlow Serving takes for a model, by whatever flags."""

# A server takes only integers for versions; it passes these by.
_LOCK = ".lock"
_PUBLISHING = ".publishing"
_REMOVING = ".removing"
_WITHDRAWN = ".withdrawn"
"""What an operator calls a version that is to be served no more; see docs/operations.md."""
_DAMAGED = ".damaged"
"""What an operator calls one that is not what was pushed; the same model may be pushed again."""
_OUT_OF_SERVICE = re.compile(rf"({re.escape(_WITHDRAWN)}|{re.escape(_DAMAGED)})-(?P<number>[0-9]+)")
_HIGHEST = 2**63 - 1
"""A server's versions are signed integers of 64 bits."""
_NOT_REMOVED = "%s cannot be removed: %s; do it by hand"
_NOT_FLUSHED = "version %d under %s is served, but a power cut may still undo the push: %s"
_TRIES = 100
"""Numbers that a push asks for; nobody but another writer without the lock can take even one of them."""


@dataclass(frozen=True)
class Version:
    """A version that a server can load."""

    number: int
    path: Path

    def fingerprint(self) -> str:
        """Digest of the model's files as they are now, whatever was pushed once."""
        return content_fingerprint(self.path)

    def sound_fingerprint(self) -> str:
        """The same of what can be relied on.

        Raises:
            StageError: the files are not those that were pushed.
        """
        fingerprint, what = _compared(self.path)
        if what:
            raise StageError(
                f"{what}; put a copy of version {self.number} back, or take it out of service by giving its "
                f"directory the name {_DAMAGED}-{self.number}, and run the pipeline again"
            )
        return fingerprint or self.fingerprint()

    def provenance(self) -> dict[str, str]:
        """What `publish` was told; empty where the version came in another way."""
        try:
            return json.loads((self.path / PROVENANCE_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}


def versions(base: Path, *, and_unreadable: bool = False) -> list[int]:
    """Returns the numbers of the complete versions under ``base``, ascending.

    Args:
        base: the directory a server watches.
        and_unreadable: whether those count, too, of which nobody can say whether they are complete.

    Raises:
        OSError: there is such a one, and it does not count.
    """

    def is_complete(number: int) -> bool:
        try:
            return (base / str(number) / MODEL_FILE).is_file()
        except OSError:
            if not and_unreadable:
                raise
            return True

    return [number for number in _numbers(base) if is_complete(number)]


def version_number(name: str) -> int | None:
    """Returns the version that a server takes a directory of this name for; None for what is none.

    Leading zeros count for nothing.
    """
    if not (name.isascii() and name.isdecimal()):
        return None
    digits = name.lstrip("0") or "0"
    # Python makes no number of thousands of digits.
    number = int(digits) if len(digits) <= len(str(_HIGHEST)) else _HIGHEST + 1
    return number if number <= _HIGHEST else None


def loaded_by_some_server(base: Path) -> list[Path]:
    """Returns what a server may take for a version under ``base``, by number: more than `versions` does.

    That is each directory whose name is digits: a server passes over leading zeros, and loads other files
    than `MODEL_FILE`. `is_loadable` says whether there is one by now.
    """
    found = (path for path in base.iterdir() if path.name.isascii() and path.name.isdecimal())
    return sorted(
        (path for path in found if path.is_dir()),
        # Of any length: Python makes no number of thousands of digits.
        key=lambda path: (len(path.name.lstrip("0")), path.name.lstrip("0"), path.name),
    )


def is_loadable(version: Path) -> bool:
    """Whether a directory holds what some server loads.

    Raises:
        OSError: it may not be looked into.
    """
    return any((version / name).exists() for name in _LOADABLE)


def identity(version: Path) -> tuple[int, int]:
    """Returns what a version's directory is told by: another one in its place has another.

    So has the same one once anything in it is added, completed or repaired. The times are those of the last
    change of each entry, since a copy may keep the times of writing.

    Raises:
        OSError: it is not there.
    """
    status = version.stat(follow_symlinks=False)
    latest = status.st_ctime_ns
    for folder, folders, files in os.walk(version):
        for name in (os.curdir, *folders, *files):
            # What vanishes meanwhile has changed the folder that it was in.
            with suppress(OSError):
                latest = max(latest, os.lstat(os.path.join(folder, name)).st_ctime_ns)
    return status.st_ino, latest


def newest(base: Path) -> Version | None:
    """Returns the version that a server answers with by default: the highest number, None without any."""
    numbers = versions(base)
    return Version(numbers[-1], base / str(numbers[-1])) if numbers else None


def content_fingerprint(model_dir: Path) -> str:
    """Returns a digest of all files, their paths and bytes.

    Times, provenance and signature do not count, nor do hidden files.
    """
    digest = hashlib.sha256()
    for path in visible_files(model_dir):
        relative = path.relative_to(model_dir)
        if relative not in (PROVENANCE_FILE, SIGNATURE_FILE):
            digest.update(f"{relative.as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def damage(model_dir: Path) -> str:
    """Says that a version is not what `publish` wrote; empty where it is, or came in another way."""
    return _compared(model_dir)[1]


def _compared(model_dir: Path) -> tuple[str, str]:
    """Returns a version's fingerprint, empty where it was compared with none, and what `damage` says."""
    found, record = "", model_dir / PROVENANCE_FILE
    try:
        try:
            text = record.read_text()
        except FileNotFoundError:
            _warn_unvouched(model_dir)
            return "", ""
        pushed = json.loads(text)[MODEL_FINGERPRINT_KEY]
        found = content_fingerprint(model_dir)
        what = "" if pushed == found else f"its files are not those that {PROVENANCE_FILE} tells of"
    except (KeyError, TypeError, ValueError):
        what = f"{PROVENANCE_FILE} cannot be read"
    except OSError as error:
        what = f"{error.filename or record} cannot be read: {error.strerror}"
    return found, what and f"{model_dir} is damaged: {what}"


@functools.cache
def _warn_unvouched(model_dir: Path) -> None:
    """Says once of a version, not of a model that is none yet, that nobody knows what was pushed."""
    # The serving check tries a model under a number that is a link; no push makes one.
    if model_dir.name.isdecimal() and not model_dir.is_symlink():
        said = "%s has no %s: nothing tells whether it is what was pushed"
        logger.warning(said, model_dir, PROVENANCE_FILE)


def withdrawn(model_dir: Path, base: Path) -> Path | None:
    """Returns where this very model lies if somebody took it out of service, by renaming its version."""
    places = [path for path in sorted(base.glob(f"{_WITHDRAWN}*")) if (path / MODEL_FILE).is_file()]
    fingerprint = content_fingerprint(model_dir) if places else ""
    return next((path for path in places if content_fingerprint(path) == fingerprint), None)


def publish(
    model_dir: Path,
    base: Path,
    provenance: Mapping[str, str],
    check: Callable[[], None] = lambda: None,
    sign: Callable[[Path], None] = lambda version: None,
) -> int:
    """Makes a copy of a SavedModel the newest version, atomically and durably.

    The version is the time in seconds, or one more than the highest number there is, whichever is more. What
    was taken out of service counts, too: some server may still have it. Once the version is there, neither a
    disk that fails nor a KeyboardInterrupt while it is made durable is more than a warning.

    Args:
        model_dir: the SavedModel.
        base: the directory a server watches; it is created where missing.
        provenance: kept with the version in ``assets.extra/provenance.json``, where the model's
            fingerprint and the time are added.
        check: called while others are kept from changing the versions; what it raises leaves them alone.
        sign: called with the complete copy, provenance included, before it becomes a version; what it raises
            leaves the versions alone, too.

    Returns:
        The version's number.

    Raises:
        FileNotFoundError: ``model_dir`` is no SavedModel.
        StageError: ``base`` cannot be locked, or no number is left.
    """
    if not (model_dir / MODEL_FILE).is_file():
        raise FileNotFoundError(f"{model_dir} is not a SavedModel: it has no {MODEL_FILE}")
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base):
        check()
        copy = base / _PUBLISHING
        try:
            shutil.copytree(model_dir, copy)
            record = {
                **provenance,
                MODEL_FINGERPRINT_KEY: content_fingerprint(copy),
                PUSHED_AT_KEY: datetime.now(UTC).isoformat(timespec="seconds"),
            }
            (copy / PROVENANCE_FILE).parent.mkdir(exist_ok=True)
            (copy / PROVENANCE_FILE).write_text(json.dumps(record, indent=2) + "\n")
            sign(copy)
            # Before the rename: after a power cut a version must not be there without its content.
            _flush(copy)
            number = _rename_to_next_version(copy, base)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        # It is served by now: whoever were told of a failure would take it for one that is not.
        try:
            flush(base)
        except KeyboardInterrupt:
            # `pipeline.interrupt` remembers it, and the run ends after this stage.
            logger.warning(_NOT_FLUSHED, number, base, "interrupted")
        except OSError as error:
            logger.warning(_NOT_FLUSHED, number, base, error)
    return number


def check_lock(base: Path) -> None:
    """Finds out before a training, and not by the push after it, that ``base`` cannot be locked.

    There may be no locks on that disk, or the lock may be another user's. Nothing stays behind; ``base`` need
    not be there.

    Raises:
        StageError: it cannot be locked.
    """
    place = next(path for path in (base, *base.parents) if os.path.isdir(path))
    # A run that comes to no push need not be able to write there.
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=place, prefix=f"{_LOCK}-") as file:
        _lock(file, base)
        if (base / _LOCK).exists():
            _open_lock(base).close()


def prune(base: Path, keep: int) -> list[int]:
    """Removes all versions but the ``keep`` newest, and what others who were killed have left half done.

    A version that cannot be removed stays, with a warning; out of service where it could at least be renamed.

    Returns:
        The numbers of the versions that are gone, ascending.

    Raises:
        ValueError: ``keep`` is below 1; the newest version is never removed.
        StageError: ``base`` cannot be locked.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least 1 version, the newest, stays")
    removed = []
    with _locked(base):
        for number in versions(base)[:-keep]:
            version, leaving = base / str(number), base / f"{_REMOVING}-{number}"
            try:
                version.rename(leaving)
            except OSError as error:
                # It is done where NFS repeated a request whose answer was lost. Else it is another user's,
                # where only the owner may rename what is in a directory.
                if os.path.lexists(version) or not os.path.lexists(leaving):
                    logger.warning(_NOT_REMOVED, version, error)
                    continue
            if _remove(leaving):
                removed.append(number)
    return removed


def already_served(candidate: Path, serving_dir: Path) -> Version | None:
    """Returns the newest version if it is this very model."""
    served = newest(serving_dir)
    same = served is not None and served.fingerprint() == content_fingerprint(candidate)
    return served if same else None


def push_token(served: Version | None) -> str:
    """Returns the token of the push that made the newest version of a model, or one that no cache knows.

    A push is still good while the version it made is the newest one; that version keeps its token. It is
    not good any more once the version is deleted or another one is newer.

    Args:
        served: the newest version if it is the model, as `already_served` says.
    """
    earlier = served.provenance().get(PUSH_TOKEN_KEY) if served else None
    return earlier or uuid.uuid4().hex


def baseline_token(candidate: Path, serving_dir: Path) -> str:
    """Returns what a candidate is to be compared with, as a token that can be kept and read again.

    That is the newest served version, unless the candidate itself is that version. Then it is what the
    candidate was compared with before it was pushed, or nothing if nobody knows: a rerun with nothing
    changed asks the same question again, and no model is its own baseline.

    Args:
        candidate: SavedModel of the candidate.
        serving_dir: the directory of the served versions.

    Raises:
        StageError: the newest version is not what was pushed.
    """
    served = newest(serving_dir)
    if served is None:
        return NO_BASELINE
    fingerprint = served.sound_fingerprint()
    if fingerprint == content_fingerprint(candidate):
        # None of one that came in another way than by a push.
        return served.provenance().get(BASELINE_TOKEN_KEY) or NO_BASELINE
    return f"{served.number}:{fingerprint}"


def find_baseline(token: str, serving_dir: Path) -> Version | None:
    """Returns the version that a token stands for, None where it is not served any more, or is another.

    Raises:
        StageError: it is not what was pushed.
    """
    number, _, fingerprint = token.partition(":")
    if token == NO_BASELINE or int(number) not in versions(serving_dir):
        return None
    version = Version(int(number), serving_dir / number)
    return version if version.sound_fingerprint() == fingerprint else None


def link_tree(source: Path, target: Path) -> None:
    """Makes ``target`` hold the files of ``source`` without a second copy of their bytes.

    The files are hard links, real copies where the file system or a border between two of them does not
    allow links. Models are written once and never changed in place, so sharing the bytes is safe, and
    either side may be deleted.
    """
    shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # The target may be there as a link, made by an attempt that failed later: never write through it.
        Path(target).unlink(missing_ok=True)
        shutil.copy2(source, target)


def _numbers(base: Path) -> list[int]:
    """All numbers under ``base`` that versions bear, ascending, complete ones or anything else."""
    if not base.is_dir():
        return []
    names = (path.name for path in base.iterdir())
    numbers = {name: number for name in names if (number := version_number(name)) is not None}
    return sorted(number for name, number in numbers.items() if name == str(number) and number < _HIGHEST)


def _taken(base: Path) -> list[int]:
    """`_numbers`, and those that were taken out of service.

    A server or a `signing.Follower` that has not looked meanwhile would take a new version of that number for
    the one it has, and the new one could not be taken out of service: its place is taken. One that leaves no
    number above it counts for nothing: a single odd name would end all pushes.
    """
    names = (_OUT_OF_SERVICE.match(path.name) for path in base.iterdir())
    former = (version_number(name["number"]) for name in names if name)
    return [*_numbers(base), *(number for number in former if number is not None and number + 1 < _HIGHEST)]


def _rename_to_next_version(model: Path, base: Path) -> int:
    pushed = model.stat()
    for _ in range(_TRIES):
        number = max(int(time.time()), *(taken + 1 for taken in _taken(base)), 1)
        target = base / str(number)
        if number >= _HIGHEST:
            raise StageError(
                f"{base / str(number - 1)} leaves no number for a newer version; give that directory a name "
                "that is no number, and run the pipeline again"
            )
        try:
            model.rename(target)
        except OSError:
            if not target.exists():
                raise
            # It is the model where NFS repeated a request whose answer was lost. Else
            # someone without the lock was faster with this number: the next round counts it as taken.
            if not os.path.samestat(target.stat(), pushed):
                continue
        return number
    raise FileExistsError(
        f"{base}: each of {_TRIES} version numbers was taken in the moment it was asked for, the last one "
        f"{number}; stop what else writes versions there and push again"
    )


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Waits for others who change ``base``, keeps them out, and removes what the dead left half done."""
    with _open_lock(base) as file:
        _lock(file, base)
        if (base / _PUBLISHING).exists():
            shutil.rmtree(base / _PUBLISHING)
        for remains in base.glob(f"{_REMOVING}*"):
            _remove(remains)
        yield


def _open_lock(base: Path) -> IO[str]:
    lock = base / _LOCK
    try:
        return lock.open("a")
    except PermissionError as error:
        if not lock.exists():
            raise
        raise StageError(
            f"{lock} cannot be written: {error.strerror}; have its owner run chmod g+w on it, and all who "
            "push there set umask 002"
        ) from None


def _lock(file: IO[Any], base: Path) -> None:
    """Locks a file; one that stands for ``base``, or is made as that one would be."""
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It may be hung or stopped.
            logger.warning("another process is changing the versions under %s: waiting for it", base)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise StageError(
            f"{base} cannot be locked: {error.strerror}; keep served models on a disk that can"
        ) from None


def _remove(path: Path) -> bool:
    """Removes what no server sees any more; what cannot be removed must not keep a new model from coming.

    Returns:
        Whether it is gone.
    """
    try:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, onerror=_name_in_full)
    except OSError as error:
        _warn_not_removed(path, str(error))
        return False
    return True


def _name_in_full(_function: object, path: str, raised: tuple[Any, Any, Any]) -> NoReturn:
    """Tells of which file an error is: `shutil.rmtree`'s own name just the last part of the path."""
    error = raised[1]
    raise OSError(error.errno, error.strerror, path)


@functools.cache
def _warn_not_removed(path: Path, why: str) -> None:
    """Says it once, though the push and the removal after it both try."""
    logger.warning(_NOT_REMOVED, path, why)


def _flush(directory: Path) -> None:
    """Waits until the directory and all that is in it are on the disk."""
    for path in directory.rglob("*"):
        flush(path)
    flush(directory)
