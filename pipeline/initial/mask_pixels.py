"""One mask's raw labels: which there are, how many pixels each has, and how those lie together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.label_mapping import pack_colors
from components.image_mask_example_gen.mask import open_mask

_ANY_SIZE: Final = 1 << 62
_RIM: Final = 0.01
"""Half the width of what counts as thin, as a share of the shorter side."""


@dataclass(frozen=True)
class MaskPixels:
    """Raw labels and their pixel counts; a colour is the number ``red << 16 | green << 8 | blue``."""

    in_colors: bool
    counts: dict[int, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Shape:
    """How the pixels of one raw label lie, summed over masks; all but ``pixels`` are parts of a whole."""

    pixels: int = 0
    flat: int = 0
    """Pixels with the same label to their left, above, and above left: none in noise."""
    inside: int = 0
    """Pixels with no other label near: none in lines."""
    crossings: int = 0
    """Runs of the label, along rows and columns, between two others."""
    partings: int = 0
    """Those of them that have different labels on their two sides: most in a border."""

    def __add__(self, other: "Shape") -> "Shape":
        return Shape(
            self.pixels + other.pixels,
            self.flat + other.flat,
            self.inside + other.inside,
            self.crossings + other.crossings,
            self.partings + other.partings,
        )


def read_raw(path: Path, as_colors: bool) -> np.ndarray:
    """Returns a mask as the ingestion reads it, integers [height, width], colours packed into numbers.

    Raises:
        InputRejectedError: the file is damaged or no mask.
    """
    return _packed(_read(path, as_colors))


def read_mask_pixels(path: Path, *, as_colors: bool = False) -> MaskPixels:
    """Counts a mask's raw labels.

    Args:
        path: the mask's file.
        as_colors: whether gray values and a palette's indices are to be taken as the colours they show.

    Raises:
        InputRejectedError: the file is damaged or no mask.
    """
    raw = _read(path, as_colors)
    return MaskPixels(raw.ndim == 3, _counts(_packed(raw)))


def shapes_in(raw: np.ndarray) -> dict[int, Shape]:
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
    return {int(value): Shape(*map(int, row)) for value, *row in zip(values, *columns, strict=True)}


def _far_from_edges(ids: np.ndarray, distance: int) -> np.ndarray:
    """Where no id changes up to ``distance`` rows and columns away, bool [height, width]."""
    height, width = ids.shape
    edges = np.zeros((height + 2 * distance, width + 2 * distance), np.int32)
    here = edges[distance : distance + height, distance : distance + width]
    here[1:] |= ids[1:] != ids[:-1]
    here[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    window = 2 * distance + 1
    sums = np.zeros((edges.shape[0] + 1, edges.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(edges, axis=0), axis=1, out=sums[1:, 1:])
    count = sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window]
    return count + sums[:-window, :-window] == 0


def plainness(paths: Sequence[Path]) -> tuple[float, ...]:
    """Returns what to compare masks of several kinds by: readable, numbers before colours, fewest labels."""
    unreadable = colored = 0
    labels: set[int] = set()
    for path in paths:
        try:
            mask = read_mask_pixels(path)
        except InputRejectedError:
            unreadable += 1
        else:
            colored += mask.in_colors
            labels |= set(mask.counts)
    return unreadable, colored, len(labels)


def _read(path: Path, as_colors: bool) -> np.ndarray:
    return open_mask(path, _ANY_SIZE).read(as_colors)


def _packed(raw: np.ndarray) -> np.ndarray:
    return raw if raw.ndim == 2 else pack_colors(raw)


def _counts(raw: np.ndarray) -> dict[int, int]:
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(raw, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
