"""A directory for a server to watch: those versions of another one that are what was signed."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from components.model_store import store
from components.model_store.signing import SigningError, check_public_key, verify

_COPYING: Final = ".copying"
_REMOVING: Final = ".removing"
_LOADABLE: Final = (store.MODEL_FILE, "saved_model.pbtxt", "saved_model.cpb", "model.tflite")
"""What TensorFlow Serving takes for a model, by whatever flags."""


class Follower:
    """Keeps a directory for a server to watch: those versions of another one that are what was signed.

    What is checked is the copy, so that nothing can change between the check and the server. What the
    directory holds already is checked where it lies, at first and whenever the key is another.

    Args:
        base: the directory that versions are pushed to; it is there, by now.
        target: a directory that nobody else writes to, created where missing.
        public_key: what they are checked with.

    Raises:
        SigningError: ``target`` is ``base`` or lies in it.
    """

    def __init__(self, base: Path, target: Path, public_key: str) -> None:
        place = target.resolve()
        # By what they are, not by their names: one volume can be mounted at two places.
        if any(path.exists() and path.samefile(base) for path in (place, *place.parents)):
            raise SigningError(
                f"{target} is {base} itself or lies in it, where anything may lie; name a directory that "
                "nobody else writes to"
            )
        self._base, self._target, self._public_key = base, target, public_key
        self._key = b""
        self._verified: set[int] = set()
        self._refused: dict[int, tuple[int, int]] = {}
        """With `store.identity`: passed over until they are gone or changed, so that each is said once."""

    def look(self) -> Iterator[str]:
        """Makes ``target`` hold what it should by now.

        A version that is gone from ``base`` leaves, the only one, too. Where ``base`` is missing or holds
        nothing whatever, as without its mount, what is there stays.

        Yields:
            A line for each version that comes, goes or is refused.

        Raises:
            SigningError: the key is not right, or, when all the rest is done, something could not be.
            OSError: one of the directories cannot be used.
        """
        self._read_key()
        self._target.mkdir(parents=True, exist_ok=True)
        problems = self._clean()
        yield from self._check_target(problems)
        was_there = _holds_anything(self._base)
        # One that may not be read is a problem of its own when it is copied, and none of the others'.
        wanted = store.versions(self._base, and_unreadable=True)
        is_there = was_there and _holds_anything(self._base)
        self._refused = {number: which for number, which in self._refused.items() if number in wanted}
        for number in sorted({*wanted} - self._verified):
            source, copy = self._base / str(number), self._target / _COPYING
            try:
                # Before it is copied: what takes its place meanwhile is looked at again.
                which = store.identity(source)
                if self._refused.get(number) == which:
                    continue
                # A link stays one, and is refused: what it leads to can change.
                shutil.copytree(source, copy, symlinks=True)
                verify(copy, self._public_key)
                copy.rename(self._target / str(number))
            except SigningError as error:
                self._refused[number] = which
                yield f"version {number} is refused: {str(error).replace(str(copy), str(source))}"
            except OSError as error:
                # Nothing is wrong where it was removed meanwhile.
                if source.exists():
                    problems.append(f"version {number} cannot be copied: {_reason(error)}")
            else:
                self._verified.add(number)
                yield f"version {number} is what was signed"
            finally:
                shutil.rmtree(copy, ignore_errors=True)
        if wanted or is_there:
            for number in sorted(self._verified - {*wanted}):
                self._verified.discard(number)
                if self._remove(self._target / str(number), problems):
                    yield f"version {number} is gone"
        elif self._verified:
            problems.append(
                f"{self._base} holds nothing, as without its mount: the versions in {self._target} stay"
            )
        if problems:
            # All of them: one that lasts must not hide what comes later.
            raise SigningError("; ".join(problems))

    def _read_key(self) -> None:
        check_public_key(self._public_key)
        key = Path(self._public_key).read_bytes()
        if key != self._key:
            self._key = key
            self._verified.clear()
            self._refused.clear()

    def _clean(self) -> list[str]:
        """Removes what was left half done; returns what cannot be removed, which stands in nobody's way."""
        problems = []
        for remains in (*self._target.glob(_COPYING), *self._target.glob(f"{_REMOVING}*")):
            try:
                shutil.rmtree(remains)
            except OSError as error:
                problems.append(f"{remains} cannot be removed: {_reason(error)}")
        return problems

    def _check_target(self, problems: list[str]) -> Iterator[str]:
        present = {*store.versions(self._target)}
        self._verified &= present
        numbers = {str(number) for number in present}
        for path in loaded_by_some_server(self._target):
            if path.name in numbers:
                continue
            try:
                some_server_loads = path.is_symlink() or is_loadable(path)
            except OSError as error:
                problems.append(f"{path} cannot be read: {_reason(error)}")
                continue
            if not some_server_loads:
                # Whoever put it there may have it nowhere else.
                problems.append(f"{path} is no version and stays; name a directory that holds nothing else")
            elif self._remove(path, problems):
                yield (
                    f"version {path.name} is removed: no push makes such a one, and some server would load it"
                )
        for number in sorted(present - self._verified):
            version = self._target / str(number)
            try:
                if version.is_symlink():
                    raise SigningError(f"{version} is a link, and what it leads to can change")
                verify(version, self._public_key)
            except SigningError as error:
                if self._remove(version, problems):
                    yield f"version {number} is removed: {error}"
            else:
                self._verified.add(number)

    def _remove(self, version: Path, problems: list[str]) -> bool:
        """Takes a version out of service at once, or adds to the problems why it cannot.

        What cannot be deleted after that is left to the next `_clean`.
        """
        leaving = self._target / f"{_REMOVING}-{uuid.uuid4().hex}"
        try:
            if version.is_symlink():
                version.unlink()
                return True
            version.rename(leaving)
        except OSError as error:
            problems.append(f"{version} cannot be removed: {_reason(error)}")
            return False
        shutil.rmtree(leaving, ignore_errors=True)
        return True


def loaded_by_some_server(base: Path) -> list[Path]:
    """Returns what a server may take for a version under ``base``, by number: more than `store.versions`.

    That is each directory whose name is digits: a server passes over leading zeros, and loads other files
    than `store.MODEL_FILE`. `is_loadable` says whether there is one by now.
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


def _holds_anything(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _reason(error: OSError) -> str:
    """The first reason of those that `shutil.copytree` collects, in one line."""
    reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
    return " ".join(str(reason).split())
