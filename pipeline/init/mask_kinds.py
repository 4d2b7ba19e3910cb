"""Several mask files for one image: whether kinds of masks mark the same, or different things."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError, naming_in_memory_error
from components.image_mask_example_gen.mask import open_mask, packed
from pipeline.init.files import natural

_LOOKED_AT: Final = 3
_COMPARED: Final = 10
_SAME: Final = 0.3
"""Two people's drawings of thin vessels have an intersection over union of about 0.6 (STARE)."""
_APART: Final = 0.1
_SAYS_CLASS: Final = re.compile("class|cls|label|categ", re.IGNORECASE)
_WITHIN: Final = 0.95
_SMALLER: Final = 0.7
_STILL: Final = 0.9


class Relation(Enum):
    """How what two kinds of masks mark lies in the same pictures; they hold 0 and one value each."""

    NOT_BINARY = "more than one value"
    NEVER_BOTH = "no image has both"
    SAME = "the same, drawn twice"
    APART = "apart"
    OVERLAPPING = "overlapping"
    INSIDE = "one inside the other"


def compare(root: Path, one: Mapping[str, str], other: Mapping[str, str]) -> Relation:
    """Compares two kinds of masks, by image, in a few images."""
    both = sorted(one.keys() & other.keys())
    if not both:
        return Relation.NEVER_BOTH
    union = intersection = area = other_area = 0
    for image in both[:: -(-len(both) // _COMPARED)]:
        here, there = _covered(root / one[image]), _covered(root / other[image])
        if here is None or there is None or here.shape != there.shape:
            return Relation.NOT_BINARY
        intersection += int((here & there).sum())
        union += int((here | there).sum())
        area += int(here.sum())
        other_area += int(there.sum())
    smaller, larger = sorted((area, other_area))
    if intersection <= _APART * smaller:
        return Relation.APART
    if intersection >= _WITHIN * smaller and smaller <= _SMALLER * larger:
        return Relation.INSIDE
    return Relation.SAME if intersection >= _SAME * union else Relation.OVERLAPPING


def compare_all(root: Path, kinds: Sequence[Mapping[str, str]]) -> set[Relation]:
    """Compares each two of several kinds."""
    return {compare(root, one, other) for one, other in combinations(kinds, 2)}


def mean_area(root: Path, masks: Sequence[str]) -> float:
    """The covered part of a few masks."""
    read = [_covered(root / path) for path in masks[:_COMPARED]]
    return float(np.mean([covered.mean() for covered in read if covered is not None] or [0.0]))


def is_still(root: Path, masks: Sequence[str]) -> bool:
    """Whether masks of different pictures mark the same: a camera's field of view, not what it saw."""
    sample = masks[:: -(-len(masks) // _COMPARED)]
    first = _covered(root / sample[0])
    if len(sample) < _LOOKED_AT or first is None:
        return False
    always, ever = first, first.copy()
    for path in sample[1:]:
        covered = _covered(root / path)
        if covered is None or covered.shape != ever.shape:
            return False
        always &= covered
        ever |= covered
    return bool(always.sum() > _STILL * ever.sum())


def class_names(suffixes: Sequence[str]) -> tuple[str, ...] | None:
    """Names of classes from what tells their masks' names or folders apart; None where nothing does.

    ``_mask_disc`` and ``_mask_square`` are ``disc`` and ``square``; numbers are no names but for ``class1``.
    """
    words = [re.findall(r"[^\W_]+", suffix) for suffix in suffixes]
    while all(len(each) > 1 for each in words) and len({each[0] for each in words}) == 1:
        words = [each[1:] for each in words]
    while all(len(each) > 1 for each in words) and len({each[-1] for each in words}) == 1:
        words = [each[:-1] for each in words]
    names = tuple("_".join(each) for each in words)
    without_numbers = {name if _SAYS_CLASS.search(name) else re.sub(r"[_\d]+$", "", name) for name in names}
    told = "" not in without_numbers and len(without_numbers) == len(names)
    return names if told else None


def plainness(root: Path, files: Sequence[str]) -> tuple[int, int, int, list[tuple[int, str]]]:
    """What to compare masks of several kinds by: readable, numbers before colours, fewest labels, name."""
    unreadable = colored = 0
    labels: set[int] = set()
    for file in files[:_LOOKED_AT]:
        try:
            with naming_in_memory_error(str(root / file)):
                raw = open_mask(root / file, ANY_SIZE).read(as_colors=False)
        except InputRejectedError:
            unreadable += 1
        else:
            colored += raw.ndim == 3
            labels |= set(np.unique(packed(raw)).tolist())
    return unreadable, colored, len(labels), natural(min(files, default=""))


def _covered(path: Path) -> np.ndarray | None:
    """Where a mask is not 0, bool [height, width]; None where it holds more than one other value."""
    try:
        with naming_in_memory_error(str(path)):
            raw = packed(open_mask(path, ANY_SIZE).read(as_colors=False))
    except InputRejectedError:
        return None
    return raw != 0 if len(np.unique(raw[raw != 0])) <= 1 else None
