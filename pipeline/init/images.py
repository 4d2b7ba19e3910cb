"""What a sample of the images shows: how bright they are, and whether they are frames of a video."""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from components.errors import StageError
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    InputRejectedError,
    as_png,
    damage,
    deep_colors,
    open_image,
    read_file,
    rejecting_damage,
    stored_orientation,
)
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.plan import assign_splits
from components.image_mask_example_gen.splits import SplitConfig
from components.imaging.deep import as_picture, is_deep_png, joined, read_deep_png, used_range
from components.imaging.drawing import as_rgb
from components.imaging.exif import turned, turned_back
from components.imaging.reading import FULL_RANGE, ValueRange
from pipeline.init.files import THREADS
from pipeline.init.tiles import find_tiles

_MOST_IMAGES: Final = 100
_REDUCED: Final = (64, 64)

_COMPARED: Final = 30
_THUMBNAIL: Final = (16, 16)
_TILE: Final = (256, 256)
_ALIKE: Final = 0.5
"""Neighbours by name differ by 0.09 of what distant pictures differ by in CamVid, a video, and by 0.97 in
Oxford-IIIT Pet and Clothing Co-Parsing, single photos."""
_FEWEST_GROUPS: Final = 10
_LARGEST_GROUP: Final = 0.3
_VIDEO: Final = r"^(.*?)[_\-./ ]*\d+$"
"""All but the number of the frame."""


@dataclass(frozen=True)
class Brightness:
    """Mean and deviation of the pixels' luma, 0 … 1."""

    images_read: int
    mean: float
    deviation: float
    unreadable: tuple[Path, ...]


@dataclass(frozen=True)
class Frames:
    """Whether pictures belong together that no two splits may share: frames of a video, tiles of one."""

    found: bool = False
    group: str | None = None
    """For ``dataset.splits.group``; None where pictures are single, or no pattern leaves enough groups."""
    groups: int = 0
    why: str = "neighbours by name look alike, as frames of a video"
    in_doubt: bool = False
    """Whether names alone say so."""


def read_brightness(paths: Sequence[Path], value_range: ValueRange | None = None) -> Brightness:
    """Reads a sample of the images; ``paths`` are in random order, deep pixels spread over the range."""
    paths = paths[:_MOST_IMAGES]
    with ThreadPoolExecutor(THREADS) as pool:
        pixels = list(pool.map(lambda path: _luma(path, _REDUCED, value_range), paths))
    read = [luma for luma in pixels if luma is not None]
    unreadable = tuple(path for path, luma in zip(paths, pixels, strict=True) if luma is None)
    if not read:
        return Brightness(0, 0.5, 0.0, unreadable)
    values = np.concatenate([luma.ravel() for luma in read]) / 255
    return Brightness(len(read), float(values.mean()), float(values.std()), unreadable)


def find_frames(layout: Layout, root: Path, entries: Sequence[Entry]) -> Frames:
    """Compares pictures whose names follow each other with pictures far apart.

    Tiles of larger pictures count as frames of each: no two splits may share them, either.
    """
    tiles = find_tiles(entries, lambda entry: _luma_of_tile(layout.image_file(root, entry)))
    if tiles is not None:
        shown = "names say" if not tiles.by_edges else "names and edges say"
        return Frames(
            True,
            tiles.group,
            tiles.pictures,
            f"{shown} that these are tiles cut from {tiles.pictures} larger "
            f"{'picture' if tiles.pictures == 1 else 'pictures'}",
            in_doubt=not tiles.by_edges,
        )
    numbered = [entry for entry in entries if re.search(r"\d$", entry.key)]
    if len(numbered) < max(_FEWEST_GROUPS, 0.9 * len(entries)):
        return Frames()
    difference = _difference_of_neighbours(layout, root, sorted(numbered, key=lambda e: _natural(e.key)))
    if difference >= _ALIKE:
        return Frames()
    for pattern in _patterns(entries):
        if groups := _count_groups(pattern, entries):
            return Frames(True, pattern, groups)
    return Frames(True)


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
    """
    data = read_file(path)
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


def read_used_range(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Returns what values a sample of deep images uses, outliers left out; ``paths`` are in random order."""

    def used(path: Path) -> tuple[int, int] | None:
        try:
            data = read_file(path)
            deep = _deep_pixels(data, open_image(data, ANY_SIZE))
        except InputRejectedError:
            return None
        return None if deep is None else used_range(deep)

    with ThreadPoolExecutor(THREADS) as pool:
        return joined(pool.map(used, paths[:_MOST_IMAGES]))


def _deep_pixels(data: bytes, picture: Image.Image) -> np.ndarray | None:
    """What ingestion makes of an image of more than 8 bits a channel, uint16 [height, width, …]; or None."""
    try:
        if is_deep_png(data):
            return read_deep_png(data)
        if picture.mode.startswith("I") or deep_colors(data, picture) is not None:
            return read_deep_png(as_png(data, picture))
    except ValueError as error:
        raise damage(data, str(error)) from None
    return None


def _luma(path: Path, size: tuple[int, int], value_range: ValueRange | None = None) -> np.ndarray | None:
    """float32 [height, width] of 0 … 255; None where the image cannot be read."""
    try:
        picture = load_rgb(path, size, value_range=value_range)
    except InputRejectedError:
        return None
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.float32)


def _luma_of_tile(path: Path) -> np.ndarray | None:
    """The same, in proportion."""
    try:
        picture = load_rgb(path, _TILE).convert("L")
    except InputRejectedError:
        return None
    picture.thumbnail(_TILE, Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def _difference_of_neighbours(layout: Layout, root: Path, entries: Sequence[Entry]) -> float:
    """As a part of how much distant pictures differ."""
    positions = np.linspace(0, len(entries) - 2, min(_COMPARED, len(entries) - 1)).astype(int)
    near, far = [], []
    for position in positions.tolist():
        three = [entries[p % len(entries)] for p in (position, position + 1, position + len(entries) // 2)]
        here, following, distant = (_luma(layout.image_file(root, each), _THUMBNAIL) for each in three)
        if here is not None and following is not None and distant is not None:
            near.append(float(np.abs(here - following).mean()))
            far.append(float(np.abs(here - distant).mean()))
    return statistics.median(near) / max(statistics.median(far), 1e-6) if near else 1.0


def _patterns(entries: Sequence[Entry]) -> Iterator[str]:
    """Whole videos, else blocks of 1,000, 100 and 10 numbers."""
    yield _VIDEO
    widths = {len(match[0]) for entry in entries if (match := re.search(r"\d+$", entry.key))}
    for digits in (3, 2, 1):
        if len(widths) == 1 and min(widths) > digits:
            yield rf"^(.*)\d{{{digits}}}$" if digits > 1 else r"^(.*)\d$"
        elif len(widths) > 1:
            yield rf"^(.*?)\d{{1,{digits}}}$"


def _count_groups(pattern: str, entries: Sequence[Entry]) -> int:
    """The number of groups, 0 where they are too few or too unequal to be divided."""
    sizes = Counter(match[1] for entry in entries if (match := re.search(pattern, entry.key)))
    if len(sizes) < _FEWEST_GROUPS or max(sizes.values()) > _LARGEST_GROUP * len(entries):
        return 0
    try:
        assign_splits(entries, SplitConfig(group=pattern))
    except StageError:
        return 0
    return len(sizes)


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]
