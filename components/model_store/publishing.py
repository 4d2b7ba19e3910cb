"""Brings versions into the directory that a server watches, and takes them away.

A server loads every integer directory as soon as it sees it, so a version appears and disappears by
rename: it is there as a whole or not at all. Whoever changes the directory holds its lock, a
``flock`` that ends with the process however that ends. While the lock is held, anything half done is
therefore the remains of an interrupted process, and is removed.
"""

import fcntl
import functools
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NoReturn

from components.errors import StageError
from components.files import flush
from components.model_store.store import (
    HIGHEST,
    MODEL_FILE,
    MODEL_FINGERPRINT_KEY,
    PROVENANCE_FILE,
    PUSHED_AT_KEY,
    content_fingerprint,
    taken,
    versions,
)

logger = logging.getLogger(__name__)

# A server takes only integers for versions; it passes these by.
_LOCK = ".lock"
_PUBLISHING = ".publishing"
_REMOVING = ".removing"
_NOT_REMOVED = "%s cannot be removed: %s; do it by hand"
_NOT_FLUSHED = "version %d under %s is served, but a power cut may still undo the push: %s"
_TRIES = 100
"""Numbers that a push asks for; nobody but another writer without the lock can take even one of them."""


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


def _rename_to_next_version(model: Path, base: Path) -> int:
    pushed = model.stat()
    for _ in range(_TRIES):
        number = max(int(time.time()), *(number + 1 for number in taken(base)), 1)
        target = base / str(number)
        if number >= HIGHEST:
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
