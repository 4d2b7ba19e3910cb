"""Masks whose values JPEG or resizing has smeared: which values were meant, and how far others are off."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.init.shapes import Shape

_MOST_LABELS: Final = 255
_FLAT_LABEL: Final = 0.3
"""Of a value that was meant, more than this part of the pixels lies flat; of smear, which lies along edges
and changes from pixel to pixel, less."""
_OFFSHOOT: Final = 8
"""A flat value this close to one with more pixels is an area of that one that JPEG has shifted."""
_MOST_SMEAR: Final = 0.3
"""Of all pixels."""
_REACH: Final = 8
"""Pixels from an edge; a block of JPEG is no larger."""
_AT_EDGES: Final = 0.95


@dataclass(frozen=True)
class Smear:
    """Values that were meant, and how far around them others are taken for them."""

    labels: Sequence[int]
    """Numbers, or colours as ``pack_colors`` makes them numbers."""
    in_colors: bool
    tolerance: int
    """Less than half the way from one label to the next, in the channel in which they differ most."""

    def distances(self, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of each value the nearest label's place and how far it is, integers [values]."""
        channels = _channels(values, self.in_colors)
        nearest, away = np.zeros(len(values), int), np.full(len(values), np.iinfo(int).max)
        for place, label in enumerate(_channels(self.labels, self.in_colors)):
            distance = np.abs(channels - label).max(axis=1)
            nearest[distance < away] = place
            away = np.minimum(away, distance)
        return nearest, away


def find_smear(
    shapes: Mapping[int, Shape], read: Callable[[], Iterable[np.ndarray]], *, in_colors: bool, lossy: bool
) -> Smear | None:
    """Looks whether some values are no more than the smear around others; None where nothing says so.

    Args:
        shapes: of all values in a sample of the masks, colours as ``pack_colors`` makes them numbers.
        read: reads the sample once more, integers [height, width].
        in_colors: whether the values are colours.
        lossy: whether the format is one that smears, or nearly all values are noise.
    """
    labels = _labels(shapes, in_colors, lossy)
    smear = shapes.keys() - set(labels)
    if len(labels) < 2 or len(smear) < (1 if lossy else 2):
        return None
    total = sum(shape.pixels for shape in shapes.values())
    if sum(shapes[value].pixels for value in smear) > _MOST_SMEAR * total:
        return None
    channels = _channels(labels, in_colors)
    gap = min(int(np.abs(one - two).max()) for place, one in enumerate(channels) for two in channels[:place])
    # Between two values everything is nearer to one of them. Among more, the way from one to the next leads
    # past a third, and only what is clearly near is taken.
    found = Smear(labels, in_colors, (gap - 1) // 2 if len(labels) == 2 else gap // 4)
    return found if found.tolerance and _lies_at_edges(labels, read()) else None


def _labels(shapes: Mapping[int, Shape], in_colors: bool, lossy: bool) -> list[int]:
    flat = [value for value, shape in shapes.items() if shape.flat > _FLAT_LABEL * shape.pixels]
    labels: list[int] = []
    for value in sorted(flat, key=lambda value: -shapes[value].flat):
        if lossy and labels:
            one, *others = _channels([value, *labels], in_colors)
            if min(np.abs(one - other).max() for other in others) <= _OFFSHOOT:
                continue
        labels.append(value)
        if len(labels) > _MOST_LABELS:
            return []
    return sorted(labels)


def _lies_at_edges(labels: Sequence[int], masks: Iterable[np.ndarray]) -> bool:
    """Whether nearly every pixel of another value has two different labels around it."""
    between = others = 0
    for raw in masks:
        places = np.searchsorted(labels, raw).clip(max=len(labels) - 1)
        is_label = np.asarray(labels)[places] == raw
        if is_label.all():
            continue
        size = 2 * _REACH + 1
        highest = maximum_filter(np.where(is_label, places, -1), size)
        lowest = minimum_filter(np.where(is_label, places, len(labels)), size)
        others += np.count_nonzero(~is_label)
        between += np.count_nonzero(~is_label & (highest > lowest))
    return between >= _AT_EDGES * others


def _channels(values: Sequence[int], in_colors: bool) -> np.ndarray:
    """Numbers, or those of colours, as integers [values, channels]."""
    numbers = np.asarray(values, int)[:, np.newaxis]
    return np.hstack([numbers >> 16, numbers >> 8 & 255, numbers & 255]) if in_colors else numbers
