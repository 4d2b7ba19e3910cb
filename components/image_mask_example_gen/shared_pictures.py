"""Pictures that are in several splits: a test on what was trained on says nothing."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from components.dataset.contracts import SharedPicture
from components.dataset.features import SPLITS
from components.image_mask_example_gen.layouts.layout import Entry

Written = tuple[str, Entry, str]
"""Split, pair, and what `image.sketch` says of the image."""


def find_shared_pictures(
    written: Iterable[Written], pixel_digest: Callable[[Entry], bytes]
) -> tuple[SharedPicture, ...]:
    """Finds the images of several splits that are the same, pixel by pixel, whatever their files are.

    Args:
      written: All pairs that became Examples.
      pixel_digest: Decodes an image; asked only where sketches of several splits agree.
    """
    by_sketch: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for split, entry, sketch in written:
        by_sketch[sketch].append((split, entry))
    alike = [item for items in by_sketch.values() if _in_several(items) for item in items]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(pixel_digest, [entry for _, entry in alike])
    same: dict[bytes, list[tuple[str, Entry]]] = defaultdict(list)
    for item, digest in zip(alike, digests, strict=True):
        same[digest].append(item)
    found = [
        tuple(sorted(((split, entry.image) for split, entry in items), key=_by_split))
        for items in same.values()
        if _in_several(items)
    ]
    return tuple(SharedPicture(members=members) for members in sorted(found, key=lambda one: one[0][1]))


def _in_several(items: Iterable[tuple[str, Entry]]) -> bool:
    return len({split for split, _ in items}) > 1


def _by_split(member: tuple[str, str]) -> tuple[int, str]:
    return SPLITS.index(member[0]), member[1]
