"""The layouts by name."""

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
    expected: tuple[str, ...] = ()
    """Files and folders that must be under the root."""


LAYOUTS = {
    "shapes": Layout(shapes.scan),
    "folder": Layout(folder.scan),
    "oxford_iiit_pet": Layout(oxford_iiit_pet.scan, oxford_iiit_pet.EXPECTED),
    "kitti_semantics": Layout(kitti_semantics.scan, kitti_semantics.EXPECTED),
    "clothing_co_parsing": Layout(clothing_co_parsing.scan, clothing_co_parsing.EXPECTED),
}


def check_root(config: DatasetConfig) -> None:
    """Looks, at no cost, whether ``dataset.root`` can be this layout's folder.

    Raises:
      ValueError: it cannot; one line says what is missing.
    """
    if config.layout == "shapes":
        return
    root = Path(config.root or "")
    if not config.root or not root.is_dir():
        raise ValueError(f"dataset.root: no folder {config.root!r}; give the dataset's folder (--data DIR)")
    missing = _missing(config, root)
    if not missing:
        return
    subfolders = sorted(path for path in root.iterdir() if path.is_dir())
    hint = next((path for path in subfolders if not _missing(config, path)), None)
    remedy = f"did you mean {str(hint)!r}?" if hint else "give the folder as the dataset unpacks"
    raise ValueError(
        f"dataset.root: {config.root!r} does not look like {config.layout}, "
        f"it has no {', '.join(missing)}; {remedy}"
    )


def _missing(config: DatasetConfig, root: Path) -> list[str]:
    if config.layout == "folder":
        patterns = {"images": config.images or "", "masks": config.masks or ""}
        return [
            f"file that matches dataset.{key}={pattern!r}"
            for key, pattern in patterns.items()
            if next(folder.FilePattern(pattern).find(root, with_folders=False), None) is None
        ]
    return [path for path in LAYOUTS[config.layout].expected if not (root / path).exists()]
