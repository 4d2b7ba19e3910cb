"""What lies in a folder, by name alone."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from components.folders import walk_folders
from pipeline.initial.errors import InitError

PICTURES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".jp2"}
    | {".pbm", ".pgm", ".pnm", ".ppm"}
)
"""Suffixes of what the ingestion reads as a picture, in lower case."""
MASKS: Final = PICTURES | {".mat"}


@dataclass(frozen=True)
class Folder:
    """A folder's files, those in its subfolders included, hidden ones left out."""

    path: Path
    """Absolute."""
    files: tuple[str, ...]
    """Those with a suffix that was asked for, relative to the folder, sorted."""
    others: tuple[str, ...]
    """All the rest."""


def look_into(path: Path, suffixes: Collection[str], option: str) -> Folder:
    """Lists a folder.

    Args:
        path: the folder.
        suffixes: what to look for, in lower case.
        option: the command's option that named the folder, for messages.

    Raises:
        InitError: there is no such folder, it cannot be read, or nothing in it has such a suffix.
    """
    root = Path(os.path.abspath(os.path.expanduser(path)))
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InitError(f"{option}: {path} {problem}; name a folder")
    names = sorted(_names_below(root, option))
    files = tuple(name for name in names if PurePosixPath(name).suffix.lower() in suffixes)
    others = tuple(sorted(set(names) - set(files)))
    if not files:
        raise InitError(
            f"{option}: {path} {_contents(others)}; what can be read ends in {', '.join(sorted(suffixes))}"
        )
    return Folder(root, files, others)


def _names_below(root: Path, option: str) -> list[str]:
    def give_up(error: OSError) -> None:
        raise InitError(f"{option}: {error.filename} cannot be read: {error.strerror}")

    return [
        (folder.relative_to(root) / name).as_posix()
        for folder, _, files in walk_folders(root, give_up)
        for name in files
    ]


def _contents(others: tuple[str, ...]) -> str:
    if not others:
        return "is empty"
    kinds = Counter(PurePosixPath(name).suffix or "no suffix" for name in others).most_common(3)
    return f"holds {len(others)} files, of which {', '.join(f'{n} with {kind}' for kind, n in kinds)}"
