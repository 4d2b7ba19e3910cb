"""The pixels of images, and what a sample of them shows: brightness, how much of a deep range they use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from components.image_mask_example_gen.as_png import as_png, deep_colors
from components.image_mask_example_gen.bands import read_tiff_bands, read_tiff_of_bands
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    InputRejectedError,
    damage,
    naming_in_memory_error,
    open_image,
    read_file,
    rejecting_damage,
    stored_orientation,
)
from components.imaging.deep import as_picture, colors_of, is_deep_png, joined, read_png, used_range
from components.imaging.drawing import as_rgb
from components.imaging.exif import turned, turned_back
from components.imaging.reading import FULL_RANGE, ValueRange
from pipeline.init.files import in_threads

MAX_PIXELS: Final = DatasetConfig.model_fields["max_pixels"].default
"""What a proposed recipe allows an image or a mask."""
_MOST_IMAGES: Final = 100
_REDUCED: Final = (64, 64)


@dataclass(frozen=True)
class Brightness:
    """Mean and deviation of the pixels' luma, 0 … 1."""

    images_read: int
    mean: float
    deviation: float
    unreadable: tuple[Path, ...]


def read_brightness(paths: Sequence[Path], value_range: ValueRange | None = None) -> Brightness:
    """Reads a sample of the images; ``paths`` are in random order, deep pixels spread over the range."""
    paths = paths[:_MOST_IMAGES]
    pixels = in_threads(lambda path: read_luma(path, _REDUCED, value_range), paths)
    read = [luma for luma in pixels if luma is not None]
    unreadable = tuple(path for path, luma in zip(paths, pixels, strict=True) if luma is None)
    if not read:
        return Brightness(0, 0.5, 0.0, unreadable)
    values = np.concatenate([luma.ravel() for luma in read]) / 255
    return Brightness(len(read), float(values.mean()), float(values.std()), unreadable)


def load_rgb(
    path: Path,
    least: tuple[int, int],
    *,
    upright: bool = False,
    value_range: ValueRange | None = None,
) -> Image.Image:
    """Returns an image's pixels, as they are stored, or upright; deep ones by a range, or their 8 upper bits.

    A JPEG comes reduced, which is many times as fast, but no smaller than ``least`` (width, height), as it
    is stored and upright.

    Raises:
        InputRejectedError: it cannot be read.
        MemoryError: there is not enough; it says the path.
    """
    with naming_in_memory_error(str(path)):
        return _load_rgb(path, least, upright, value_range)


def _load_rgb(
    path: Path, least: tuple[int, int], upright: bool, value_range: ValueRange | None
) -> Image.Image:
    data = read_file(path)
    if (tiff := read_tiff_of_bands(data)) is not None:
        shown = value_range if tiff.holds_numbers else value_range or FULL_RANGE
        rgb = as_picture(read_tiff_bands(data, MAX_PIXELS), shown)
        return turned(rgb, tiff.orientation) if upright else rgb
    picture = open_image(data, ANY_SIZE)
    orientation = stored_orientation(data, picture)
    deep = _deep_pixels(data, picture)
    if deep is not None:
        rgb = as_picture(deep, value_range or FULL_RANGE)
        return turned(rgb, orientation) if upright else rgb
    with rejecting_damage(data):
        picture.draft("RGB", (max(least), max(least)) if orientation != 1 else least)
        rgb = as_rgb(picture)
    # Of all formats, Pillow turns TIFF alone.
    is_upright = picture.format == "TIFF"
    if upright == is_upright:
        return rgb
    return (turned if upright else turned_back)(rgb, orientation)


def read_used_range(paths: Sequence[Path]) -> tuple[float, float] | None:
    """Returns what values a sample of deep images uses, outliers left out; ``paths`` are in random order.

    One range for all bands.
    """

    def used(path: Path) -> tuple[float, float] | None:
        try:
            data = read_file(path)
            if (tiff := read_tiff_of_bands(data)) is not None:
                bands = read_tiff_bands(data, MAX_PIXELS)
                return used_range(bands[..., [band - 1 for band in tiff.bands]])
            deep = _deep_pixels(data, open_image(data, ANY_SIZE))
        except InputRejectedError:
            return None
        return None if deep is None else used_range(colors_of(deep))

    return joined(in_threads(used, paths[:_MOST_IMAGES]))


def read_luma(
    path: Path, size: tuple[int, int], value_range: ValueRange | None = None, *, in_proportion: bool = False
) -> np.ndarray | None:
    """Of an image of this size, or no larger: float32 [height, width], 0 … 255; None if it cannot be read."""
    try:
        picture = load_rgb(path, size, value_range=value_range).convert("L")
    except InputRejectedError:
        return None
    if in_proportion:
        picture.thumbnail(size, Image.Resampling.BOX)
    else:
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def _deep_pixels(data: bytes, picture: Image.Image) -> np.ndarray | None:
    """What ingestion makes of an image of more than 8 bits a channel, uint16 [height, width, …]; or None."""
    try:
        if is_deep_png(data):
            return read_png(data)
        if picture.mode.startswith("I") or deep_colors(data, picture, MAX_PIXELS) is not None:
            return read_png(as_png(data, picture, MAX_PIXELS))
    except ValueError as error:
        raise damage(data, str(error)) from None
    return None
