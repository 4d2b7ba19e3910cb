"""What a sample of the images looks like: how bright they are, how much they vary."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from components.image_mask_example_gen.files import (
    InputRejectedError,
    read_picture,
    rejecting_damage,
)
from components.imaging.drawing import as_rgb
from pipeline.initial.headers import THREADS

MOST_IMAGES: Final = 100

_THUMBNAIL: Final = (16, 16)
_REDUCED: Final = (64, 64)
_ANY_SIZE: Final = 1 << 62


@dataclass(frozen=True)
class Brightness:
    """Mean and deviation of the pixels' luma, 0 … 1."""

    images_read: int
    mean: float
    deviation: float
    unreadable: tuple[Path, ...]


def read_brightness(paths: Sequence[Path]) -> Brightness:
    """Reads a sample of the images; ``paths`` are in random order."""
    paths = paths[:MOST_IMAGES]
    with ThreadPoolExecutor(THREADS) as pool:
        pixels = list(pool.map(lambda path: _luma(path, _REDUCED), paths))
    read = [luma for luma in pixels if luma is not None]
    unreadable = tuple(path for path, luma in zip(paths, pixels, strict=True) if luma is None)
    if not read:
        return Brightness(0, 0.5, 0.0, unreadable)
    values = np.concatenate([luma.ravel() for luma in read]) / 255
    return Brightness(len(read), float(values.mean()), float(values.std()), unreadable)


def thumbnail(path: Path) -> np.ndarray | None:
    """Returns a tiny gray version, float32 [16, 16] of 0 … 255; None where the image cannot be read."""
    return _luma(path, _THUMBNAIL)


def load_rgb(path: Path, least: tuple[int, int]) -> Image.Image:
    """Returns an image's pixels as they are stored, deep ones cut to their 8 upper bits.

    A JPEG comes reduced, which is many times as fast, but no smaller than ``least`` (width, height).

    Raises:
        InputRejectedError: it cannot be read.
    """
    data, picture = read_picture(path, _ANY_SIZE)
    with rejecting_damage(data):
        picture.draft("RGB", least)
        return as_rgb(picture)


def _luma(path: Path, size: tuple[int, int]) -> np.ndarray | None:
    try:
        picture = load_rgb(path, size)
    except InputRejectedError:
        return None
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.float32)
