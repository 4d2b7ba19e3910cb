"""What a scan of a dataset's folder yields, and how files are paired."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from components.errors import StageError
from components.image_mask_example_gen.rejections import Reason, Rejection, printable

OFFICIAL_TRAINVAL: Final = "trainval"
OFFICIAL_TEST: Final = "test"


@dataclass(frozen=True)
class Entry:
    """An image and its mask. Paths are relative to the dataset's root."""

    key: str
    """Unique name of the pair."""
    image: str
    mask: str
    official_split: str | None = None
    """``trainval`` or ``test`` where the dataset has official lists."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Feature names and values, for slicing."""


@dataclass(frozen=True)
class Scan:
    """Everything a layout finds under its root, without opening a picture."""

    entries: list[Entry]
    rejected: list[Rejection]
    files: list[str] = field(default_factory=list)
    """All input files relative to the root, lists that decided about the entries among them; sorted."""


def list_files(root: Path, folder: str, suffix: str) -> list[str]:
    """Returns the files right under ``folder`` with this suffix (any case), relative to root, sorted.

    Hidden files (macOS leaves a ``._`` twin beside each file of an archive) are no input files.
    """
    return sorted(
        f"{folder}/{item.name}"
        for item in os.scandir(root / folder)
        if not item.name.startswith(".")
        and item.name.lower().endswith(suffix)
        # A link that leads nowhere is a file that is missing, and is to be told of.
        and (item.is_file() or item.is_symlink())
    )


def stem(path: str) -> str:
    """File name without folder and last suffix."""
    return PurePosixPath(path).stem


def pair_files(images: Iterable[tuple[str, str]], masks: Iterable[tuple[str, str]]) -> Scan:
    """Pairs (key, path) lists by key; a file without its counterpart is rejected.

    Raises:
      StageError: two images or two masks have the same key.
    """
    image_paths, mask_paths = _by_key(images, "images"), _by_key(masks, "masks")
    entries = [
        Entry(key, path, mask_paths[key]) for key, path in sorted(image_paths.items()) if key in mask_paths
    ]
    rejected = [
        Rejection(path, Reason.IMAGE_WITHOUT_MASK, f"no mask for the name {key!r}")
        for key, path in sorted(image_paths.items())
        if key not in mask_paths
    ]
    rejected += [
        Rejection(path, Reason.MASK_WITHOUT_IMAGE, f"no image for the name {key!r}")
        for key, path in sorted(mask_paths.items())
        if key not in image_paths
    ]
    return Scan(entries, rejected, sorted({*image_paths.values(), *mask_paths.values()}))


def _by_key(files: Iterable[tuple[str, str]], kind: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for key, path in files:
        if key in paths:
            raise StageError(
                f"Two {kind} have the same name {key!r}: {printable(paths[key])} and {printable(path)}. "
                "Rename or remove one, or narrow the pattern: names must be unique."
            )
        paths[key] = path
    return paths
