"""The directory a model server watches: ``<base>/<version>/saved_model.pb``, versions being integers.

What lies there is read here; `publishing` brings versions and takes them away.
"""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from components.errors import StageError
from components.files import sha256, visible_files

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

# A server takes only integers for versions; it passes these by.
_WITHDRAWN = ".withdrawn"
"""What an operator calls a version that is to be served no more; see docs/operations.md."""
_DAMAGED = ".damaged"
"""What an operator calls one that is not what was pushed; the same model may be pushed again."""
_OUT_OF_SERVICE = re.compile(rf"({re.escape(_WITHDRAWN)}|{re.escape(_DAMAGED)})-(?P<number>[0-9]+)")
HIGHEST = 2**63 - 1
"""A server's versions are signed integers of 64 bits."""


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
        """What `publishing.publish` was told; empty where the version came in another way."""
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
    number = int(digits) if len(digits) <= len(str(HIGHEST)) else HIGHEST + 1
    return number if number <= HIGHEST else None


def _numbers(base: Path) -> list[int]:
    """All numbers under ``base`` that versions bear, ascending, complete ones or anything else."""
    if not base.is_dir():
        return []
    names = (path.name for path in base.iterdir())
    numbers = {name: number for name in names if (number := version_number(name)) is not None}
    return sorted(number for name, number in numbers.items() if name == str(number) and number < HIGHEST)


def taken(base: Path) -> list[int]:
    """Returns all numbers that versions bear, and those that were taken out of service.

    A server or a `follower.Follower` that has not looked meanwhile would take a new version of that number
    for the one it has, and the new one could not be taken out of service: its place is taken. One that
    leaves no number above it counts for nothing: a single odd name would end all pushes.
    """
    names = (_OUT_OF_SERVICE.match(path.name) for path in base.iterdir())
    former = (version_number(name["number"]) for name in names if name)
    return [*_numbers(base), *(number for number in former if number is not None and number + 1 < HIGHEST)]


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
    """Says that a version is not what was pushed; empty where it is, or came in another way."""
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
