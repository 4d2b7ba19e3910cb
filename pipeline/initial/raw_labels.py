"""Which raw labels stand in a folder of masks, found by reading a sample of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from components.dataset.labels import MAX_CLASSES
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import InputRejectedError
from pipeline.initial.errors import InitError
from pipeline.initial.headers import THREADS
from pipeline.initial.mask_pixels import (
    MaskPixels,
    Shape,
    read_mask_pixels,
    read_raw,
    shapes_in,
)

_FIRST: Final = 10
"""Looked at before the rest is read."""
_SHAPED: Final = 50
_LOSSY_LABELS: Final = 20
_FLAT_LABEL: Final = 0.1
"""Of a label drawn by people or rendered, more than this part of the pixels lies flat; of noise less."""
_MASK_WITH_SOFT_EDGES: Final = 0.5
"""A mask spoilt by a lossy format or by resizing is still this flat; a photo is not."""


@dataclass(frozen=True)
class RawLabels:
    """What a sample of the masks holds."""

    masks_read: int
    in_colors: bool
    pixels: Mapping[RawLabel, int]
    """Pixel counts, ordered by raw label."""
    masks: Mapping[RawLabel, int]
    """In how many of the masks read each occurs."""
    shapes: Mapping[RawLabel, Shape]
    """Measured in the first of them only."""
    contents: tuple[tuple[Path, frozenset[RawLabel]], ...]
    """What each mask read holds."""
    unreadable: tuple[tuple[Path, InputRejectedError], ...]

    @property
    def values(self) -> tuple[RawLabel, ...]:
        return tuple(self.pixels)

    def share(self, value: RawLabel) -> float:
        """The part of all pixels read that has this raw label."""
        return self.pixels.get(value, 0) / sum(self.pixels.values())


def read_raw_labels(paths: Sequence[Path], formats: Mapping[Path, str]) -> RawLabels:
    """Reads the masks.

    Args:
        paths: in random order; the first of them decide whether they are masks at all.
        formats: the format of each, as Pillow says it.

    Raises:
        InitError: they are photos, or were spoilt by a lossy format or by resizing, or hold nothing that
            could be told apart.
    """
    first = _read_all(paths[:_FIRST])
    if readable := [path for path, mask in first.items() if isinstance(mask, MaskPixels)]:
        in_colors = any(isinstance(mask, MaskPixels) and mask.in_colors for mask in first.values())
        _check_that_these_are_masks(_shapes(readable, in_colors), readable[0], formats, in_colors)
    read = first | _read_all(paths[_FIRST:])
    masks = {path: mask for path, mask in read.items() if isinstance(mask, MaskPixels)}
    unreadable = [(path, mask) for path, mask in read.items() if isinstance(mask, InputRejectedError)]
    if not masks:
        path, reason = unreadable[0]
        raise InitError(f"none of the {len(read)} masks opened can be read, such as {path}: {reason.found}")
    if any(mask.in_colors for mask in masks.values()):
        masks = {
            path: mask if mask.in_colors else read_mask_pixels(path, as_colors=True)
            for path, mask in masks.items()
        }
    return _summed(masks, tuple(unreadable))


def _summed(
    masks: Mapping[Path, MaskPixels], unreadable: tuple[tuple[Path, InputRejectedError], ...]
) -> RawLabels:
    pixels: Counter[int] = Counter()
    occurrences: Counter[int] = Counter()
    for mask in masks.values():
        pixels.update(mask.counts)
        occurrences.update(mask.counts.keys())
    in_colors = next(iter(masks.values())).in_colors
    _check_labels(pixels, next(iter(masks)), in_colors)
    name = _color if in_colors else int
    return RawLabels(
        masks_read=len(masks),
        in_colors=in_colors,
        pixels={name(value): pixels[value] for value in sorted(pixels)},
        masks={name(value): count for value, count in occurrences.items()},
        shapes={name(v): shape for v, shape in _shapes(list(masks)[:_SHAPED], in_colors).items()},
        contents=tuple((path, frozenset(map(name, mask.counts))) for path, mask in masks.items()),
        unreadable=unreadable,
    )


def _read_all(paths: Sequence[Path]) -> dict[Path, MaskPixels | InputRejectedError]:
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(paths, pool.map(_try_to_read, paths), strict=True))


def looks_like_masks(paths: Sequence[Path]) -> bool:
    """Whether these pictures could be masks."""
    masks = [mask for path in paths[:_FIRST] if isinstance(mask := _try_to_read(path), MaskPixels)]
    return bool(masks) and max(len(mask.counts) for mask in masks) <= _LOSSY_LABELS


def _try_to_read(path: Path) -> MaskPixels | InputRejectedError:
    try:
        return read_mask_pixels(path)
    except InputRejectedError as rejected:
        return rejected


def _shapes(paths: Sequence[Path], in_colors: bool) -> dict[int, Shape]:
    total: dict[int, Shape] = {}
    for path in paths:
        for value, shape in shapes_in(read_raw(path, in_colors)).items():
            total[value] = total.get(value, Shape()) + shape
    return total


def _check_that_these_are_masks(
    shapes: Mapping[int, Shape], example: Path, formats: Mapping[Path, str], in_colors: bool
) -> None:
    noisy = [value for value, shape in shapes.items() if shape.flat < _FLAT_LABEL * shape.pixels]
    is_jpeg = formats.get(example) in ("JPEG", "MPO", "WEBP")
    if not (len(shapes) > _LOSSY_LABELS or is_jpeg) or len(noisy) <= len(shapes) / 2:
        return
    flat = sum(shape.flat for shape in shapes.values()) / sum(shape.pixels for shape in shapes.values())
    kind = "colours" if in_colors else "gray values"
    if flat < _MASK_WITH_SOFT_EDGES:
        raise InitError(
            f"--masks: {example} looks like a photo, not a mask: {len(shapes):,} {kind}, next to no pixel "
            "like its neighbours. A mask has one value or colour a class"
        )
    main = sorted(shapes, key=lambda value: -shapes[value].pixels)[:3]
    values = ", ".join(str(list(_color(value)) if in_colors else value) for value in main)
    cause = (
        "JPEG is a lossy format that blurs the values"
        if is_jpeg
        else "their edges are soft, as after resizing with interpolation"
    )
    raise InitError(
        f"--masks: {example} and its like hold {len(shapes):,} {kind}, mostly {values}: {cause}. Save masks "
        "as PNG with exactly one value a class, resized with nearest neighbour only"
    )


def _check_labels(pixels: Mapping[int, int], example: Path, in_colors: bool) -> None:
    if len(pixels) < 2:
        value = next(iter(pixels))
        what = list(_color(value)) if in_colors else value
        raise InitError(f"--masks: every mask read holds {what} and nothing else: nothing to tell apart")
    if min(pixels) < 0:
        raise InitError(f"--masks: the value {min(pixels)} stands in masks; raw values are 0 … 65535")
    if len(pixels) > MAX_CLASSES:
        raise InitError(
            f"--masks: {len(pixels):,} values stand in {example} and its like, and there can be no more than "
            f"{MAX_CLASSES} classes; are these masks of single objects rather than of classes?"
        )


def _color(value: int) -> tuple[int, int, int]:
    return value >> 16, value >> 8 & 255, value & 255
