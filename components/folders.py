"""Walks through folders of the user's, past what systems leave in them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_LITTER: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"})
"""What Windows, macOS and network drives leave in folders, in lower case; the rest of it is hidden."""


def walk_folders(
    root: Path, onerror: Callable[[OSError], None]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walks like `os.walk`, through links to folders too, except hidden ones and those that lead back.

    What an operating system left there (``Thumbs.db``, ``__MACOSX``) counts as hidden.

    Args:
        root: where to start.
        onerror: what to do about a folder that cannot be read; it is left out if this returns.

    Yields:
        Each folder, the names of those below it, which the caller may take out to leave them out, and those
        of its files; both sorted, and none of them hidden.
    """
    for folder, subfolders, files in os.walk(root, onerror=onerror, followlinks=True):
        here = Path(folder)
        # In place: os.walk goes where this list says.
        subfolders[:] = sorted(
            name for name in subfolders if _is_the_users(name) and not _leads_back(root, here / name)
        )
        yield here, subfolders, sorted(filter(_is_the_users, files))


def split_suffix(path: str) -> tuple[str, str]:
    """Returns a path without its last suffix, and that, as pathlib says them.

    Without an object for each: of many thousands of files this is asked several times.
    """
    stem, suffix = os.path.splitext(path)
    return (path, "") if suffix == "." else (stem, suffix)


def _is_the_users(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LITTER


def _leads_back(root: Path, folder: Path) -> bool:
    """Tells whether a link leads to a folder that the walk is in: it would go round for ever."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    below = folder.parent.relative_to(root)
    return any((root / part).resolve().is_relative_to(target) for part in (below, *below.parents))
