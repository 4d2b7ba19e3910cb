"""Folders of images and masks as people have them, drawn for tests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Color = tuple[int, int, int]
COLORS: Sequence[Color] = ((0, 0, 0), (128, 64, 128), (255, 0, 0), (224, 224, 192), (10, 20, 30))
SIZE = (48, 64)
"""Height and width."""


def blocks(rng: np.random.Generator, classes: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Class ids 0 … classes - 1, uint8 [height, width], in flat patches; each class has some."""
    height, width = size
    cells = rng.integers(0, classes, (4, 8))
    cells.flat[:classes] = np.arange(classes)
    ids = np.kron(cells, np.ones((height // 4, width // 8), int))
    return ids.astype(np.uint8)


def photo(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Pixels as a camera's noise, uint8 [height, width, 3]."""
    return rng.integers(0, 256, (*size, 3)).astype(np.uint8)


def save_gray(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids.astype(np.uint8)).save(path.with_suffix(".png"))


def save_binary(path: Path, ids: np.ndarray) -> None:
    Image.fromarray((ids > 0).astype(np.uint8) * 255).save(path.with_suffix(".png"))


def save_one_bit(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids > 0).save(path.with_suffix(".png"))


def save_palette(path: Path, ids: np.ndarray) -> None:
    picture = Image.fromarray(ids.astype(np.uint8), "P")
    picture.putpalette([channel for color in COLORS for channel in color])
    picture.save(path.with_suffix(".png"))


def save_rgb(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(np.asarray(COLORS, np.uint8)[ids]).save(path.with_suffix(".png"))


def save_16_bit(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids.astype(np.uint16) * 1000).save(path.with_suffix(".png"))


def save_mat(path: Path, ids: np.ndarray) -> None:
    savemat(path.with_suffix(".mat"), {"groundtruth": ids})


def draw_folders(
    root: Path,
    save_mask: Callable[[Path, np.ndarray], None],
    *,
    classes: int = 3,
    names: Sequence[str] = tuple("abcdefghijkl"),
    mask_name: str = "{}",
    images: str = "images",
    masks: str = "masks",
) -> Mapping[str, np.ndarray]:
    """Draws photos and their masks; returns the class ids of each name."""
    rng = np.random.default_rng(0)
    drawn = {}
    for name in names:
        drawn[name] = blocks(rng, classes)
        image, mask = root / images / f"{name}.jpg", root / masks / mask_name.format(name)
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(rng)).save(image)
        save_mask(mask, drawn[name])
    return drawn
