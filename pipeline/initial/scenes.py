"""Images and masks in one folder, told apart by the name of a folder below it: ``*/images``, ``*/masks``."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from pipeline.initial.folders import Folder
from pipeline.initial.mask_pixels import plainness

_LOOKED_AT: Final = 3
_MOST_NAMES: Final = 8
"""Of more folders side by side, each is a scene rather than a kind of picture."""


def tell_apart(images: Folder, masks: Folder) -> Iterator[tuple[Folder, Folder]]:
    """Yields what could be the images and what the masks of one folder that was named for both.

    Files that lie equally deep are looked at, the folders next to them first. Where kinds of pictures have
    a folder each, the plainest pictures are the masks.
    """
    depths = {path.count("/") for path in masks.files}
    if images.path != masks.path or len(depths) != 1:
        return
    for level in reversed(range(depths.pop())):
        kinds: dict[str, list[str]] = defaultdict(list)
        for path in masks.files:
            kinds[PurePosixPath(path).parts[level]].append(path)
        if not 2 <= len(kinds) <= _MOST_NAMES:
            continue
        ranked = sorted(kinds, key=lambda kind: _plainness(masks, kinds[kind]))
        readable = frozenset(images.files)
        yield (
            replace(images, files=tuple(path for path in kinds[ranked[-1]] if path in readable)),
            replace(masks, files=tuple(kinds[ranked[0]])),
        )


def _plainness(folder: Folder, files: list[str]) -> tuple[float, ...]:
    return plainness([folder.path / path for path in files[:_LOOKED_AT]])
