"""The layouts by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts import (
    clothing_co_parsing,
    folder,
    kitti_semantics,
    oxford_iiit_pet,
    shapes,
)
from components.image_mask_example_gen.layouts.scan import Scan


@dataclass(frozen=True)
class Layout:
    """Where a dataset's files lie."""

    scan: Callable[[DatasetConfig, Path], Scan]
    """Finds the pairs under a root without opening a picture."""
    folders: tuple[str, ...] = ()
    """Folders that must be under the root."""
    files: tuple[str, ...] = ()
    """Files that must be under the root."""


LAYOUTS = {
    "shapes": Layout(shapes.scan),
    "folder": Layout(folder.scan),
    "oxford_iiit_pet": Layout(
        oxford_iiit_pet.scan,
        folders=(oxford_iiit_pet.IMAGES, oxford_iiit_pet.TRIMAPS),
        files=tuple(oxford_iiit_pet.LISTS.values()),
    ),
    "kitti_semantics": Layout(kitti_semantics.scan, folders=(kitti_semantics.IMAGES, kitti_semantics.MASKS)),
    "clothing_co_parsing": Layout(
        clothing_co_parsing.scan, folders=(clothing_co_parsing.IMAGES, clothing_co_parsing.MASKS)
    ),
}


def check_root(config: DatasetConfig) -> None:
    """Looks, at no cost, whether ``dataset.root`` can be this layout's folder.

    Raises:
      ValueError: it cannot; one line says what is missing or cannot be read.
    """
    if config.root is None:
        return
    root = Path(config.root)
    try:
        if not root.is_dir():
            raise ValueError(
                f"dataset.root: no folder {config.root!r}; give the dataset's folder (--data DIR)"
            )
        missing = _missing(config, root)
        subfolders = sorted(path for path in root.iterdir() if path.is_dir()) if missing else []
    except OSError as error:
        raise ValueError(
            f"dataset.root: {error.filename or config.root!r} cannot be read: {error.strerror}; "
            "change its permissions or give another folder (--data DIR)"
        ) from error
    if not missing:
        return
    hint = next((path for path in subfolders if _looks_right(config, path)), None)
    remedy = f"did you mean {str(hint)!r}?" if hint else "give the folder as the dataset unpacks"
    raise ValueError(
        f"dataset.root: {config.root!r} does not look like {config.layout}, "
        f"it has no {', '.join(missing)}; {remedy}"
    )


def _looks_right(config: DatasetConfig, root: Path) -> bool:
    try:
        return not _missing(config, root)
    except OSError:
        return False


def _missing(config: DatasetConfig, root: Path) -> list[str]:
    """What the layout needs and the root lacks; raises OSError for what is there and cannot be read."""
    if config.layout == "folder":
        patterns = {"images": config.images or "", "masks": config.masks or ""}
        return [
            f"file that matches dataset.{key}={pattern!r}"
            for key, pattern in patterns.items()
            if next(folder.FilePattern(pattern).find(root, with_folders=False), None) is None
        ]
    layout = LAYOUTS[config.layout]
    lacking = [f"folder {path}" for path in layout.folders if not _can_be_listed(root / path)]
    return lacking + [f"file {path}" for path in layout.files if not _can_be_opened(root / path)]


def _can_be_listed(path: Path) -> bool:
    if not path.is_dir():
        return False
    with os.scandir(path):
        return True


def _can_be_opened(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb"):
        return True
