"""Signatures of served versions, by a key of one's own, in the form of OpenSSF Model Signing.

A signature lies in the version that it is of. It names each other file with its SHA-256, so a file that is
changed, missing or new breaks it; a version that is copied or renamed as a whole keeps it. It does not say
for which model and which number it was given: who may write where versions lie can put an older signed one on
top again.

Keys are PEM files of the curves P-256, P-384 or P-521; ``model-signing`` is imported where one is used.
"""

from pathlib import Path
from typing import Any, Final

from components.model_store import store

_INSTALL: Final = "python -m pip install --no-deps --require-hashes -r requirements/signing.lock"


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
