"""Frames of one video: nearly one picture many times over, which no two splits may share."""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from components.errors import StageError
from components.image_mask_example_gen.config import SplitConfig
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.plan import assign_splits
from pipeline.initial.images import thumbnail

_COMPARED: Final = 30
_ALIKE: Final = 0.5
"""Neighbours by name differ by 0.09 of what distant pictures differ by in CamVid, a video, and by 0.97 in
Oxford-IIIT Pet and Clothing Co-Parsing, single photos."""
_FEWEST_GROUPS: Final = 10
_LARGEST_GROUP: Final = 0.3
_VIDEO: Final = r"^(.*?)[_\-./ ]*\d+$"
"""All but the number of the frame."""


@dataclass(frozen=True)
class Sequences:
    """Whether pictures follow each other, and how to keep those together that do."""

    likeness: float | None
    """How much neighbours by name differ, as a part of how much distant pictures do; None without numbers."""
    group: str | None = None
    """For ``dataset.splits.group``; None where pictures are single, or no pattern leaves enough groups."""
    groups: int = 0

    @property
    def found(self) -> bool:
        return self.likeness is not None and self.likeness < _ALIKE


def find_sequences(root: Path, entries: Sequence[Entry]) -> Sequences:
    """Compares pictures whose names follow each other with pictures far apart."""
    numbered = [entry for entry in entries if re.search(r"\d$", entry.key)]
    if len(numbered) < max(_FEWEST_GROUPS, 0.9 * len(entries)):
        return Sequences(None)
    likeness = _likeness(root, sorted(numbered, key=lambda entry: _natural(entry.key)))
    if likeness is None or likeness >= _ALIKE:
        return Sequences(likeness)
    for pattern in _patterns(entries):
        groups = _count_groups(pattern, entries)
        if groups:
            return Sequences(likeness, pattern, groups)
    return Sequences(likeness)


def _likeness(root: Path, entries: Sequence[Entry]) -> float | None:
    positions = np.linspace(0, len(entries) - 2, min(_COMPARED, len(entries) - 1)).astype(int)
    near, far = [], []
    for position in positions.tolist():
        three = [entries[p % len(entries)] for p in (position, position + 1, position + len(entries) // 2)]
        here, following, distant = (thumbnail(root / entry.image) for entry in three)
        if here is None or following is None or distant is None:
            continue
        near.append(float(np.abs(here - following).mean()))
        far.append(float(np.abs(here - distant).mean()))
    return statistics.median(near) / max(statistics.median(far), 1e-6) if near else None


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
    names = [match[1] for entry in entries if (match := re.search(pattern, entry.key))]
    sizes = Counter(names)
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
