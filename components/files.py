"""What is to outlast a power cut, and to be known again."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def sha256(path: Path) -> str:
    """Returns the digest of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read; ``filename`` is set.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # A read that fails, unlike an open, does not say of what.
        error.filename = error.filename or str(path)
        raise


def visible_files(root: Path) -> Iterator[Path]:
    """Yields the files below a directory, in the order of their paths, without hidden ones.

    Programs that show folders leave such files, and folders of them; nothing that a stage writes is one.
    """
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


def flush(path: Path) -> None:
    """Waits until a file, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
