"""The drawn dataset: textured discs, squares and triangles on noisy grounds, each within a rim.

Colours are random, so a class shows only in its texture and outline: discs are striped, squares
chequered, triangles speckled. The rim is a class of its own, as in Oxford-IIIT Pet.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from components.image_mask_example_gen.config import ShapesConfig
from components.image_mask_example_gen.layouts.shapes import image_path, mask_path

BACKGROUND, DISC, SQUARE, TRIANGLE, BOUNDARY = range(5)
"""Class ids, in the order of the classes in ``layouts/shapes.py``."""

_SIDES = (96, 161)
_RADIUS_FRACTION = (0.2, 0.36)
_RIM_FRACTION = 0.06
_MAX_SHAPES = 3
_JPEG_QUALITY = 92


def draw_dataset(root: Path, config: ShapesConfig) -> None:
    """Draws the images and masks that the settings ask for into an empty folder."""
    for index in range(config.num_images):
        image, mask = draw_example(config.seed, index)
        for pixels, path in ((image, image_path(index)), (mask, mask_path(index))):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path, quality=_JPEG_QUALITY, compress_level=1)


def draw_unseen(folder: Path, config: ShapesConfig, count: int) -> None:
    """Draws images that are in no split: those that would come next. They replace ones of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, _ = draw_example(config.seed, config.num_images + number)
        Image.fromarray(image).save(folder / f"{number + 1}.jpg", quality=_JPEG_QUALITY)


def draw_example(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture; which one depends on seed and index alone.

    Returns:
      Image, uint8 [height, width, 3], and class ids, uint8 [height, width].
    """
    rng = np.random.default_rng([seed, index])
    height, width = (int(side) for side in rng.integers(*_SIDES, size=2))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = _ground(rng, height, width)
    mask = np.full((height, width), BACKGROUND, np.uint8)
    short_side = min(height, width)
    for _ in range(rng.integers(1, _MAX_SHAPES + 1)):
        shape = int(rng.integers(DISC, TRIANGLE + 1))
        radius = rng.uniform(*_RADIUS_FRACTION) * short_side
        angle = rng.uniform(0, 2 * np.pi)
        x = columns - rng.uniform(0.15, 0.85) * width
        y = rows - rng.uniform(0.15, 0.85) * height
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        distance = _signed_distance(shape, along, across, radius)
        texture = _texture(shape, along, across, rng)[..., None]
        light, dark = _contrasting_colors(rng)
        rim = np.abs(distance) <= _RIM_FRACTION * short_side / 2
        inside = (distance < 0) & ~rim
        image = np.where(inside[..., None], texture * light + (1 - texture) * dark, image)
        image = np.where(rim[..., None], (light + dark) / 2, image)
        mask[inside] = shape
        mask[rim] = BOUNDARY
    noise = rng.normal(0, rng.uniform(4, 14), size=(height, width, 1))
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth coloured clouds, float32 [height, width, 3]."""
    cells = rng.integers(0, 256, size=(rng.integers(3, 9), rng.integers(3, 9), 3), dtype=np.uint8)
    clouds = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(clouds, np.float32) * 0.7 + rng.uniform(0, 75)


def _contrasting_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A light and a dark colour, so that any texture shows."""
    return rng.uniform(130, 255, size=3), rng.uniform(0, 110, size=3)


def _signed_distance(shape: int, along: np.ndarray, across: np.ndarray, radius: float) -> np.ndarray:
    """Distance to the outline in pixels, negative inside."""
    if shape == DISC:
        return np.hypot(along, across) - radius
    if shape == SQUARE:
        return np.maximum(np.abs(along), np.abs(across)) - 0.85 * radius
    # An equilateral triangle is the meeting of three half planes; this far out its corners are sharp.
    normals = [np.deg2rad(degrees) for degrees in (90, 210, 330)]
    return np.max([along * np.cos(n) + across * np.sin(n) for n in normals], axis=0) - 0.6 * radius


def _texture(shape: int, along: np.ndarray, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the light colour, 0 … 1."""
    period = rng.uniform(8, 13)
    if shape == DISC:
        return (np.sin(2 * np.pi * along / period) > 0).astype(np.float32)
    if shape == SQUARE:
        cells = np.floor(along / (0.75 * period)) + np.floor(across / (0.75 * period))
        return (cells % 2).astype(np.float32)
    height, width = along.shape
    speckles = rng.random((height // 3 + 1, width // 3 + 1), dtype=np.float32) > 0.5
    return np.repeat(np.repeat(speckles, 3, axis=0), 3, axis=1)[:height, :width].astype(np.float32)
