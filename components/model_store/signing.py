"""Signatures of served versions, by a key of one's own, in the form of OpenSSF Model Signing.

A signature lies in the version that it is of. It names each other file with its SHA-256, so a file that is
changed, missing or new breaks it; a version that is copied or renamed as a whole keeps it. It does not say
for which model and which number it was given: who may write where versions lie can put an older signed one on
top again.

Keys are PEM files of the curves P-256, P-384 or P-521; ``model-signing`` is imported where one is used.
"""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from components.model_store import store

_INSTALL: Final = "python -m pip install --no-deps --require-hashes -r requirements/signing.lock"
_COPYING: Final = ".copying"
_REMOVING: Final = ".removing"


class SigningError(ValueError):
    """A version, key or directory is not right; the message is one line: which, and what would be."""


def check_private_key(key: str) -> None:
    """Refuses a file that nothing can be signed with.

    Raises:
        SigningError: it is missing, of another kind, or behind a password, or model-signing is not installed.
    """
    _signer(key)


def check_public_key(key: str) -> None:
    """Refuses a file that no signature can be checked with; raises as `check_private_key` does."""
    _verifier(key)


def sign(model_dir: Path, private_key: str) -> None:
    """Signs all files of a version that is complete, and writes the signature beside them.

    Raises:
        SigningError: as `check_private_key`.
    """
    signature = model_dir / store.SIGNATURE_FILE
    signature.parent.mkdir(exist_ok=True)
    signature.unlink(missing_ok=True)
    _signer(private_key).sign(model_dir, signature)


def verify(model_dir: Path, public_key: str) -> None:
    """Checks that a version is what was signed.

    Raises:
        SigningError: it has no signature, one by another key, or other files; or the key is not right.
    """
    verifier = _verifier(public_key)
    signature = model_dir / store.SIGNATURE_FILE
    if not signature.is_file():
        raise SigningError(f"{model_dir} is not signed: it has no {store.SIGNATURE_FILE}")
    try:
        verifier.verify(model_dir, signature)
    except FileNotFoundError:
        raise
    except Exception as error:
        # The library raises whatever the parts that it is made of raise, some of it without a message.
        reason = " ".join(str(error).split()) or "the signature is of another key, or damaged"
        raise SigningError(f"{model_dir} is not what was signed: {reason}") from None


def is_signed_by(model_dir: Path, private_key: str) -> bool:
    """Whether `verify` would accept a version by the public half of a key; raises as `check_private_key`."""
    import tempfile

    from cryptography.hazmat.primitives import serialization

    check_private_key(private_key)
    key: Any = serialization.load_pem_private_key(Path(private_key).read_bytes(), None)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(public)
        file.flush()
        try:
            verify(model_dir, file.name)
        except SigningError:
            return False
    return True


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
        for path in store.loaded_by_some_server(self._target):
            if path.name in numbers:
                continue
            try:
                is_loadable = path.is_symlink() or store.is_loadable(path)
            except OSError as error:
                problems.append(f"{path} cannot be read: {_reason(error)}")
                continue
            if not is_loadable:
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


def _holds_anything(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _reason(error: OSError) -> str:
    """The first reason of those that `shutil.copytree` collects, in one line."""
    reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
    return " ".join(str(reason).split())


def _signer(key: str) -> Any:
    _require_file(key, "private")
    signing, hashing = _library("signing"), _hashing()
    try:
        return signing.Config().use_elliptic_key_signer(private_key=Path(key)).set_hashing_config(hashing)
    except Exception as error:
        raise _no_key(key, "private", error) from None


def _verifier(key: str) -> Any:
    _require_file(key, "public")
    verifying, hashing = _library("verifying"), _hashing()
    try:
        return verifying.Config().use_elliptic_key_verifier(public_key=Path(key)).set_hashing_config(hashing)
    except Exception as error:
        raise _no_key(key, "public", error) from None


def _hashing() -> Any:
    """All files count, except the signature itself."""
    ignored = [store.SIGNATURE_FILE]
    return _library("hashing").Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ModuleNotFoundError as error:
        raise SigningError(f"signatures need model-signing ({error}): {_INSTALL}") from None


def _require_file(key: str, half: str) -> None:
    try:
        Path(key).read_bytes()
    except OSError as error:
        raise SigningError(f"{half} key {key} cannot be read: {error.strerror}") from None


def _no_key(key: str, half: str, error: Exception) -> SigningError:
    reason = " ".join(str(error).split()).split(" (<", 1)[0]
    return SigningError(
        f"{key} is no {half} key to sign with: it must be PEM, of the curve P-256, P-384 or P-521, without a "
        f"password ({reason})"
    )
