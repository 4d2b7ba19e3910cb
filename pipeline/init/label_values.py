"""Which raw label values a folder of masks holds, with their pixels, found by reading a sample of them."""

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from components.dataset.labels import MAX_CLASSES
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError
from components.image_mask_example_gen.mask import Mask, open_mask, pack_colors
from pipeline.init import InitError
from pipeline.init.files import THREADS

_FIRST: Final = 10
"""Looked at before the rest is read."""
_SHAPED: Final = 100
_LOSSY_LABELS: Final = 20
_FLAT_LABEL: Final = 0.1
"""Of a label drawn by people or rendered, more than this part of the pixels lies flat; of noise less."""
_MASK_WITH_SOFT_EDGES: Final = 0.5
"""A mask spoilt by a lossy format or by resizing is still this flat; a photo is not."""
_RIM: Final = 0.01
"""Half the width of what counts as thin, as a share of the shorter side."""


OpenMask = Callable[[Path], Mask]


def _open_file(path: Path) -> Mask:
    return open_mask(path, ANY_SIZE)


class Shape(NamedTuple):
    """How the pixels of one raw label lie, summed over masks; all but ``pixels`` are parts of a whole."""

    pixels: int
    flat: int
    """Pixels with the same label to their left, above, and above left: none in noise."""
    inside: int
    """Pixels with no other label near: none in lines."""
    crossings: int
    """Runs of the label, along rows and columns, between two others."""
    partings: int
    """Those of them that have different labels on their two sides: most in a border."""
    outline: Counter[Any]
    """How many sides of its pixels are sides of each other label's."""


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


@dataclass(frozen=True)
class _Mask:
    """One mask's pixel counts; a colour is the number ``red << 16 | green << 8 | blue``."""

    in_colors: bool
    counts: dict[int, int]


def read_raw_labels(
    paths: Sequence[Path], formats: Mapping[Path, str], opener: OpenMask = _open_file
) -> RawLabels:
    """Reads the masks.

    Args:
        paths: in random order; the first of them decide whether they are masks at all.
        formats: the format of each, as Pillow says it.
        opener: opens one of them.

    Raises:
        InitError: they are photos, or were spoilt by a lossy format or by resizing, or hold nothing that
            could be told apart.
    """
    first = _count_all(paths[:_FIRST], opener)
    if readable := [path for path, mask in first.items() if isinstance(mask, _Mask)]:
        in_colors = any(isinstance(mask, _Mask) and mask.in_colors for mask in first.values())
        _check_that_these_are_masks(_shapes(readable, in_colors, opener), readable[0], formats, in_colors)
    read = first | _count_all(paths[_FIRST:], opener)
    masks = {path: mask for path, mask in read.items() if isinstance(mask, _Mask)}
    unreadable = [(path, mask) for path, mask in read.items() if isinstance(mask, InputRejectedError)]
    if not masks:
        path, reason = unreadable[0]
        raise InitError(f"none of the {len(read)} masks opened can be read, such as {path}: {reason.found}")
    in_colors = any(mask.in_colors for mask in masks.values())
    if in_colors:
        # Gray values and a palette's indices are taken as the colours they show, too.
        gray = [path for path, mask in masks.items() if not mask.in_colors]
        masks |= {path: _count(path, opener, as_colors=True) for path in gray}
    pixels: Counter[int] = Counter()
    occurrences: Counter[int] = Counter()
    for mask in masks.values():
        pixels.update(mask.counts)
        occurrences.update(mask.counts.keys())
    _check_values(pixels, next(iter(masks)), in_colors)
    name = _color if in_colors else int
    return RawLabels(
        masks_read=len(masks),
        in_colors=in_colors,
        pixels={name(value): pixels[value] for value in sorted(pixels)},
        masks={name(value): count for value, count in occurrences.items()},
        shapes={
            name(value): shape._replace(outline=Counter({name(v): n for v, n in shape.outline.items()}))
            for value, shape in _shapes(list(masks)[:_SHAPED], in_colors, opener).items()
        },
        contents=tuple((path, frozenset(map(name, mask.counts))) for path, mask in masks.items()),
        unreadable=tuple(unreadable),
    )


def looks_like_masks(paths: Sequence[Path]) -> bool:
    """Whether these pictures could be masks."""
    masks = [mask for mask in _count_all(paths[:_FIRST], _open_file).values() if isinstance(mask, _Mask)]
    return bool(masks) and max(len(mask.counts) for mask in masks) <= _LOSSY_LABELS


def _count_all(paths: Sequence[Path], opener: OpenMask) -> dict[Path, _Mask | InputRejectedError]:
    def count(path: Path) -> _Mask | InputRejectedError:
        try:
            return _count(path, opener)
        except InputRejectedError as rejected:
            return rejected

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(paths, pool.map(count, paths), strict=True))


def _count(path: Path, opener: OpenMask, *, as_colors: bool = False) -> _Mask:
    in_colors, raw = _read(path, opener, as_colors)
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(raw, return_counts=True)
    return _Mask(in_colors, dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _read(path: Path, opener: OpenMask, as_colors: bool) -> tuple[bool, np.ndarray]:
    """Whether a mask is in colours, and its raw labels as numbers, integers [height, width]."""
    raw = opener(path).read(as_colors)
    return raw.ndim == 3, pack_colors(raw) if raw.ndim == 3 else raw


def _shapes(paths: Sequence[Path], in_colors: bool, opener: OpenMask) -> dict[int, Shape]:
    total: dict[int, Shape] = {}
    for path in paths:
        for value, shape in _shapes_in(_read(path, opener, in_colors)[1]).items():
            total[value] = Shape(*map(operator.add, total[value], shape)) if value in total else shape
    return total


def _shapes_in(raw: np.ndarray) -> dict[int, Shape]:
    """Measures how each raw label's pixels lie; ``raw`` are integers [height, width]."""
    values, flat_ids = np.unique(raw, return_inverse=True)
    ids = flat_ids.reshape(raw.shape).astype(np.int32)
    here = ids[1:, 1:]
    flat = (here == ids[:-1, :-1]) & (here == ids[:-1, 1:]) & (here == ids[1:, :-1])
    inside = _far_from_edges(ids, max(1, round(_RIM * min(ids.shape))))
    crossings, partings = np.zeros(len(values), int), np.zeros(len(values), int)
    for lines in (ids, ids.T):
        # A run that goes on from the end of one line to the next is one run in thousands.
        line = lines.ravel()
        runs = line[np.flatnonzero(np.append(True, line[1:] != line[:-1]))]
        crossings += np.bincount(runs[1:-1], minlength=len(values))
        partings += np.bincount(runs[1:-1][runs[:-2] != runs[2:]], minlength=len(values))
    columns = (
        np.bincount(ids.ravel(), minlength=len(values)),
        np.bincount(here[flat], minlength=len(values)),
        np.bincount(ids[inside], minlength=len(values)),
        crossings,
        partings,
    )
    outlines = _outlines(ids, values)
    rows = zip(*(column.tolist() for column in (values, *columns)), outlines, strict=True)
    return {value: Shape(*row) for value, *row in rows}


def _outlines(ids: np.ndarray, values: np.ndarray) -> list[Counter[int]]:
    """For each id, the labels beside it; ``values`` are the ids' labels. Of photos, with too many, none."""
    count = len(values)
    if count > MAX_CLASSES:
        return [Counter() for _ in values]
    sides = np.zeros((count, count), int)
    for here, there in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        differs = here != there
        pairs = np.bincount(here[differs] * count + there[differs], minlength=count * count)
        sides += pairs.reshape(count, count)
    sides += sides.T
    labels = values.tolist()
    return [Counter({labels[other]: int(row[other]) for other in np.flatnonzero(row)}) for row in sides]


def _far_from_edges(ids: np.ndarray, distance: int) -> np.ndarray:
    """Where no id changes up to ``distance`` rows and columns away, bool [height, width]."""
    edges = np.zeros(ids.shape, bool)
    edges[1:] |= ids[1:] != ids[:-1]
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return ~maximum_filter(edges, 2 * distance + 1, mode="constant")


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


def _check_values(pixels: Mapping[int, int], example: Path, in_colors: bool) -> None:
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
