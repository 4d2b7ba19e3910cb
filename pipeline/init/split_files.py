"""Where lists and tables of splits may lie, in the data's folders and around them."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from components.errors import StageError
from components.folders import files_below
from components.image_mask_example_gen.split_lists import TABLES
from components.image_mask_example_gen.suffixes import PICTURES
from pipeline.init.files import may_hold_anything, suffix_of

LISTS: Final = frozenset({".txt", ".lst", *TABLES})
NOT_USED: Final = "not used for the splits"
"""What a line about a list or a table begins with."""
_MAY_TELL: Final = LISTS | {".json"}
_MOST_BESIDE: Final = 20
"""Folders beside the data's, one level above it."""
_MOST_FILES_OF_ONE: Final = 20_000
"""Looked at in a folder beside the data."""
_MOST_FILES_BESIDE: Final = 200_000
"""In all of them."""
_OF_VOC: Final = "imagesets"
"""Holds nothing but lists, in a folder for each task."""
_LARGEST_FILE: Final = 1 << 26


@dataclass
class SplitFiles:
    """What may be lists, relative to the root."""

    own: list[str] = field(default_factory=list)
    """The nearest to the data first."""
    others: list[str] = field(default_factory=list)
    """Those of another set, as it seems, or of another form of the masks."""
    cut: list[Path] = field(default_factory=list)
    """Folders beside the data that may hold more of them."""


def find_split_files(root: Path, folders: Sequence[Path]) -> SplitFiles:
    """Looks for what may be lists below the root, which is above both folders or one of them.

    They lie anywhere in the folders, right in those around them, or anywhere in a folder beside these. What
    holds pictures there is most likely another set, whose names are often the same.
    """
    found = SplitFiles()
    if root in folders:
        found.own += _told(files_below(root, onerror=None))
        return found
    around = dict.fromkeys(above for each in folders for above in each.parents if above.is_relative_to(root))
    for folder in sorted(around):
        found.own += _told(_right_in(root, folder))
    for folder in dict.fromkeys(folders):
        start = folder.relative_to(root).as_posix()
        found.own += _told(f"{start}/{path}" for path in files_below(folder, onerror=None))
    left = _MOST_FILES_BESIDE
    in_folders_beside: list[str] = []
    for folder in sorted(around):
        for beside in _folders_in(folder):
            is_of_voc = beside.name.lower() == _OF_VOC
            if beside in folders or beside in around or (may_hold_anything(folder) and not is_of_voc):
                continue
            most = min(left, _MOST_FILES_OF_ONE)
            try:
                files = list(islice(files_below(beside, onerror=None), most + 1))
            except StageError:
                # Its links lead around.
                files = []
                found.cut.append(beside)
            left -= min(len(files), most)
            has_pictures = any(suffix_of(path) in PICTURES for path in files)
            if len(files) > most and not has_pictures:
                found.cut.append(beside)
            is_own = is_of_voc or not (has_pictures or len(files) > most)
            start = beside.relative_to(root).as_posix()
            (in_folders_beside if is_own else found.others).extend(_told(f"{start}/{path}" for path in files))
    # Results of experiments lie deep, and are many.
    found.own += sorted(in_folders_beside, key=lambda path: path.count("/"))
    return found


def files_near(root: Path) -> Iterator[str]:
    """Yields what may be lists in the folder above the data, and in its folders where they are few."""
    folders = [] if may_hold_anything(root) else _folders_in(root)
    for folder in (root, *(folders if len(folders) <= _MOST_BESIDE else ())):
        yield from _right_in(root, folder)


def of_kind(files: Iterable[str], suffixes: Collection[str]) -> Iterator[str]:
    """Yields those that end so, in lower case."""
    return (path for path in files if suffix_of(path) in suffixes)


def check_small(root: Path, path: str) -> None:
    """Raises StageError for what is no file, or larger than a list."""
    file = root / path
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise StageError(f"{NOT_USED}: {path} has more than {_LARGEST_FILE >> 20} MiB")
    except OSError as error:
        raise StageError(f"{NOT_USED}: {path} cannot be read under {root}: {error.strerror}") from None
    if not file.is_file():
        raise StageError(f"{NOT_USED}: {path} is no file")


def _told(files: Iterable[str]) -> Iterator[str]:
    return of_kind(files, _MAY_TELL)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and os.access(p, os.R_OK)
        )
    except OSError:
        return []


def _right_in(root: Path, folder: Path) -> Iterator[str]:
    start = folder.relative_to(root).as_posix()
    prefix = "" if start == "." else f"{start}/"
    yield from (prefix + path for path in files_below(folder, onerror=None, depth=0))
