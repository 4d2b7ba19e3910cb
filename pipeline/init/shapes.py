"""How the pixels of each raw label lie in a mask: flat, in lines, between two others."""

from collections import Counter
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from components.dataset.labels import MAX_CLASSES

_RIM: Final = 0.01
"""Half the width of what counts as thin, as a share of the shorter side."""


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


def measure_shapes(raw: np.ndarray) -> dict[int, Shape]:
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
