"""Thin structures, drawn: trees of curves 1 to 3 px wide, faint on an uneven, textured, noisy ground."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

_TREES: Final = 12
"""In 600 x 600 pixels."""
_WIDTHS: Final = (1.0, 3.0)
_STEP: Final = 2.0
"""Pixels between two points of a curve."""
_FINER: Final = 4
"""Pixels of the drawing along one of the picture."""


class Piece(NamedTuple):
    """A straight piece of a curve; pixels."""

    start: tuple[float, float]
    end: tuple[float, float]
    width: float


def draw_thin_structures(folder: Path, *, train: int, test: int, side: int) -> None:
    """Fills a folder with ``train`` and ``test``, each with ``images`` and ``masks`` of the same names.

    Pictures are ``side`` x ``side`` pixels, masks 255 on the curves and 0 elsewhere. What is drawn depends on
    the arguments alone.
    """
    for number, split in enumerate(["train"] * train + ["test"] * test):
        image, mask = draw_picture(np.random.default_rng([0, number]), side)
        for kind, pixels in (("images", image), ("masks", mask)):
            path = folder / split / kind / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def draw_picture(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture: intensities and mask, uint8 [side, side] each."""
    canvas = Image.new("L", (side * _FINER, side * _FINER))
    draw = ImageDraw.Draw(canvas)
    for _ in range(max(1, round(_TREES * (side / 600) ** 2))):
        for piece in _tree(rng, side):
            ends = [_FINER * place for point in (piece.start, piece.end) for place in point]
            draw.line(ends, fill=255, width=round(_FINER * piece.width))
    covered = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float64) / 255
    # Faint in some places, hardly there in others.
    curves = (30 + 9 * _clouds(rng, side, 60)) * gaussian_filter(covered, 0.6)
    ground = 120 + 25 * _clouds(rng, side, 200) + 7 * _clouds(rng, side, 12) + 5 * _clouds(rng, side, 3)
    image = ground - curves + rng.normal(0, 5, (side, side))
    mask = np.where(covered >= 0.5, 255, 0)
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(np.uint8)


def _tree(rng: np.random.Generator, side: int) -> Iterator[Piece]:
    """Yields curves that wind, thin out and fork until they leave the picture or are too thin."""
    thinnest, thickest = _WIDTHS
    tips = [(*rng.uniform(0, side, 2), rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1) * thickest)]
    while tips:
        x, y, heading, width = tips.pop()
        bend = 0.0
        while width >= thinnest and 0 <= x < side and 0 <= y < side:
            start = (x, y)
            bend = 0.92 * bend + rng.normal(0, 0.015)
            heading += bend
            x, y = x + _STEP * math.cos(heading), y + _STEP * math.sin(heading)
            yield Piece(start, (x, y), width)
            width *= 0.996
            if rng.random() < _STEP / 60:
                turn = rng.choice((-1, 1)) * rng.uniform(0.5, 1.2)
                tips.append((x, y, heading + turn, 0.75 * width))


def _clouds(rng: np.random.Generator, side: int, size: float) -> np.ndarray:
    """Noise of mean 0 and deviation 1, smooth over ``size`` pixels: float64 [side, side]."""
    cells = 2 + round(side / size)
    coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    noise = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float64)
    return (noise - noise.mean()) / noise.std()
