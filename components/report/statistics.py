"""Statistics of the splits: their images and classes."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from components.report.data import DatasetStatistics, SizeCount, Split
from components.report.examples import Example, read_split

_SHOWN_SIZES: Final = 8
_AT_ONCE: Final = 64
"""Examples in memory at the same time."""


@dataclass(frozen=True)
class _Seen:
    """What one Example contributes."""

    size: tuple[int, int]
    class_pixels: tuple[int, ...]
    record: bytes
    """Digest of the Example."""


def dataset_statistics(split_dirs: Mapping[str, Path]) -> DatasetStatistics:
    """Reads every Example of every split, by the split's name."""
    splits = []
    digest = hashlib.sha256()
    for split, directory in split_dirs.items():
        sums, of_split = _Sums(), hashlib.sha256()
        for item in _read_all(read_split(directory)):
            sums.add(item)
            of_split.update(item.record)
            digest.update(f"{split}\0".encode() + item.record)
        splits.append(sums.split(split).model_copy(update={"fingerprint": of_split.hexdigest()}))
    return DatasetStatistics(splits=tuple(splits), fingerprint=digest.hexdigest())


def _read_all(examples: Iterable[Example]) -> Iterator[_Seen]:
    remaining = iter(examples)
    # Hashing leaves Python's lock to others.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        while some := list(islice(remaining, _AT_ONCE)):
            yield from pool.map(_read, some)


def _read(example: Example) -> _Seen:
    return _Seen(
        (example.width, example.height), example.class_pixels, hashlib.sha256(example.serialized).digest()
    )


class _Sums:
    """Over a split's Examples, so that none of them is kept."""

    def __init__(self) -> None:
        self._sizes: Counter[tuple[int, int]] = Counter()
        # Of one class until the first Example says how many there are.
        self._class_pixels = self._class_images = np.zeros(1, np.int64)

    def add(self, seen: _Seen) -> None:
        pixels = np.array(seen.class_pixels, np.int64)
        self._sizes[seen.size] += 1
        self._class_pixels = self._class_pixels + pixels
        self._class_images = self._class_images + (pixels > 0)

    def split(self, name: str) -> Split:
        sizes = self._sizes
        if not sizes:
            return Split(name=name, examples=0)
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        all_pixels = sum(width * height * images for (width, height), images in sizes.items())
        return Split(
            name=name,
            examples=sizes.total(),
            sizes=tuple(
                SizeCount(width=width, height=height, images=images)
                for (width, height), images in sizes.most_common(_SHOWN_SIZES)
            ),
            smallest=by_area[0],
            largest=by_area[-1],
            class_pixels=tuple(self._class_pixels.tolist()),
            ignored_pixels=all_pixels - int(self._class_pixels.sum()),
            class_images=tuple(self._class_images.tolist()),
        )
