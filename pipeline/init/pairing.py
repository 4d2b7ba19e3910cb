"""Pairs of image and mask by their names: the two patterns by which the ingestion itself will pair the files.

What the names of masks have that those of their images lack, such as ``_mask``, is found by vote; the
ingestion's own scan then decides between the patterns that follow from it.
"""

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.mask import open_mask, pack_colors
from components.image_mask_example_gen.plan import stable_rank
from components.image_mask_example_gen.report import Rejection, printable
from pipeline.init import InitError
from pipeline.init.files import Folder
from pipeline.init.splits import folder_pattern, without_split

_SHOWN: Final = 3
_SUFFIXES: Final = 3
_VOTERS: Final = 100
_LONGEST_NAME: Final = 80
"""Beyond this only the names' ends are looked at: their substrings grow with the square."""
_TRIED: Final = 12
_LOOKED_AT: Final = 3
_MOST_KINDS: Final = 8
"""Of more folders side by side, each is a scene rather than a kind of picture."""


@dataclass(frozen=True)
class Affixes:
    """What surrounds the name that an image and its mask share."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def length(self) -> int:
        return sum(map(len, (self.image_prefix, self.image_suffix, self.mask_prefix, self.mask_suffix)))

    def image_core(self, stem: str) -> str | None:
        """The shared part of an image's name, None where the name is of another kind."""
        return _inside(stem, self.image_prefix, self.image_suffix)

    def mask_core(self, stem: str) -> str | None:
        """The shared part of a mask's name, None where the name is of another kind."""
        return _inside(stem, self.mask_prefix, self.mask_suffix)


@dataclass(frozen=True)
class Pairing:
    """How files were paired, and what came of it."""

    dataset: dict[str, str]
    """The keys ``layout``, ``root``, ``images`` and ``masks`` of the recipe's ``dataset`` block."""
    entries: tuple[Entry, ...]
    """Paths are relative to ``dataset["root"]``."""
    unpaired: tuple[Rejection, ...]
    """Files that match a pattern and have no partner."""
    other_masks: tuple[str, ...] = ()
    """Patterns of further masks, one an image as well, that were not chosen."""

    @property
    def root(self) -> Path:
        return Path(self.dataset["root"])


def pair(images: Folder, masks: Folder) -> Pairing:
    """Finds the patterns that pair most files.

    Names decide which patterns are tried, and the ingestion's own scan decides between them. Where images
    have masks of several kinds (label ids beside colours), the plainest is taken. In one folder for both, the
    names of files tell them apart, else those of folders.

    Raises:
        InitError: no image meets a mask.
    """
    for candidates in ((images, masks), *_told_apart_by_folders(images, masks)):
        if pairing := _pair_by_names(*candidates):
            return pairing
    shown = f"images are named {_some(images.files)}; masks {_some(masks.files)}"
    example = printable(PurePosixPath(images.files[0]).stem)
    raise InitError(
        f"no image meets a mask: {shown}. Files are paired by name: {printable(images.files[0])} would match "
        f"{example}.png, or {example} with another ending, such as _mask.png"
    )


def _told_apart_by_folders(images: Folder, masks: Folder) -> Iterator[tuple[Folder, Folder]]:
    """Yields what could be the images and what the masks of one folder that was named for both.

    Files that lie equally deep are looked at, the folders next to them first. Where kinds of pictures have
    a folder each (``*/images``, ``*/masks``), the plainest pictures are the masks.
    """
    depths = {path.count("/") for path in masks.files}
    if images.path != masks.path or len(depths) != 1:
        return
    readable = frozenset(images.files)
    for level in reversed(range(depths.pop())):
        kinds: dict[str, list[str]] = defaultdict(list)
        for path in masks.files:
            # Train and val are no kinds of pictures.
            kinds[without_split(PurePosixPath(path).parts[level])].append(path)
        if 2 <= len(kinds) <= _MOST_KINDS:
            plainest, *_, photos = sorted(kinds.values(), key=lambda files: _plainness(masks.path, files))
            yield (
                replace(images, files=tuple(path for path in photos if path in readable)),
                replace(masks, files=tuple(plainest)),
            )


def _pair_by_names(images: Folder, masks: Folder) -> Pairing | None:
    found = find_affixes([_stem(path) for path in images.files], [_stem(path) for path in masks.files])
    # Among images that lie with their masks, every file would also pair with itself.
    enough = found[0][1] / 2 if found else 0
    pairings = [
        pairing
        for affixes, count in found
        if count >= enough and (pairing := _best_pairing(images, masks, affixes)) is not None
    ]
    if not pairings:
        return None
    most_pairs = max(len(pairing.entries) for pairing in pairings)
    kinds: dict[frozenset[str], Pairing] = {}
    for pairing in pairings:
        if len(pairing.entries) == most_pairs:
            kinds.setdefault(frozenset(entry.mask for entry in pairing.entries), pairing)
    chosen, *others = kinds.values()
    if others:
        # With one kind of mask only, nothing needs to be opened.
        chosen, *others = sorted(
            kinds.values(), key=lambda kind: _plainness(kind.root, [entry.mask for entry in kind.entries])
        )
    return replace(chosen, other_masks=tuple(sorted(pairing.dataset["masks"] for pairing in others)))


def _plainness(root: Path, files: Sequence[str]) -> tuple[int, int, int]:
    """What to compare masks of several kinds by: readable, numbers before colours, fewest labels."""
    unreadable = colored = 0
    labels: set[int] = set()
    for file in files[:_LOOKED_AT]:
        try:
            raw = open_mask(root / file, ANY_SIZE).read(as_colors=False)
        except InputRejectedError:
            unreadable += 1
        else:
            colored += raw.ndim == 3
            labels |= set(np.unique(pack_colors(raw) if raw.ndim == 3 else raw).tolist())
    return unreadable, colored, len(labels)


def _best_pairing(images: Folder, masks: Folder, affixes: Affixes) -> Pairing | None:
    pairings = _pairings(images, masks, affixes)
    return min(pairings, key=lambda each: (-len(each.entries), len(each.unpaired)), default=None)


def _pairings(images: Folder, masks: Folder, affixes: Affixes) -> Iterator[Pairing]:
    """Yields what two patterns each pair, if anything; one at a time, as there may be many files."""
    root = Path(os.path.commonpath([images.path, masks.path]))
    for image_pattern, mask_pattern in product(
        _image_patterns(images, masks, affixes, root), _mask_patterns(masks, affixes, root)
    ):
        dataset = {"layout": "folder", "root": str(root), "images": image_pattern, "masks": mask_pattern}
        scan = _scan(dataset)
        if not scan or not scan.entries:
            continue
        if {entry.image for entry in scan.entries}.isdisjoint(entry.mask for entry in scan.entries):
            yield Pairing(dataset, tuple(scan.entries), tuple(scan.rejected))


def _scan(dataset: dict[str, str]) -> Scan | None:
    """What the ingestion finds, None where it would not go on: two files of one name."""
    # What the masks mean is not known yet, and does not matter here.
    settings = DatasetConfig.model_validate({**dataset, "classes": ["0", "1"]})
    try:
        return settings.source.scan(Path(dataset["root"]))
    except StageError:
        return None


def _image_patterns(images: Folder, masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    files = [path for path in images.files if affixes.image_core(_stem(path)) is not None]
    names = [glob.escape(affixes.image_prefix) + "*"]
    nested = images.path.is_relative_to(masks.path) or masks.path.is_relative_to(images.path)
    if nested and affixes.mask_suffix and not affixes.image_suffix:
        # Masks lie among the images: their names end in another character.
        names += [names[0] + "[0-9]", f"{names[0]}[!{affixes.mask_suffix[-1]}]"]
        in_images = {os.path.relpath(masks.path / path, images.path) for path in masks.files}
        unlike_masks = [path for path in files if not _stem(path).endswith(affixes.mask_suffix)]
        files = [path for path in unlike_masks if path not in in_images] or unlike_masks
    for folder, name in product(_folder_patterns(images, files, root), names):
        for suffix in _suffix_patterns(files, affixes.image_suffix):
            yield folder + name + suffix


def _mask_patterns(masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    files = [path for path in masks.files if affixes.mask_core(_stem(path)) is not None]
    for folder in _folder_patterns(masks, files, root):
        for suffix in _suffix_patterns(files, affixes.mask_suffix):
            yield f"{folder}{glob.escape(affixes.mask_prefix)}*{suffix}"


def _folder_patterns(folder: Folder, files: Sequence[str], root: Path) -> list[str]:
    """The part of a pattern up to the last slash."""
    base = folder.path.relative_to(root).as_posix()
    start = "" if base == "." else glob.escape(base) + "/"
    depths = {path.count("/") for path in files}
    patterns = [] if depths == {0} else [f"{start}**/"]
    if len(depths) == 1 or 0 in depths:
        patterns.insert(0, start + "*/" * min(depths))
    if len(depths) == 1:
        # What all have in common tells images from masks where both lie under one folder.
        levels = zip(*(PurePosixPath(path).parts[:-1] for path in files), strict=True)
        shared = start + "".join(f"{folder_pattern(each)}/" for each in levels)
        patterns += [shared] if shared not in patterns else []
    return patterns


def _suffix_patterns(files: Sequence[str], affix: str) -> list[str]:
    """The part of a pattern after its last wildcard: one of the most frequent suffixes, or all of them."""
    suffixes = Counter(PurePosixPath(path).suffix for path in files)
    patterns = [glob.escape(affix) + suffix for suffix, _ in suffixes.most_common(_SUFFIXES)]
    if len(suffixes) > 1 and not affix:
        if len({len(suffix) for suffix in suffixes}) == 1:
            places = [sorted(set(letters)) for letters in zip(*suffixes, strict=True)]
            patterns.append("".join(p[0] if len(p) == 1 else f"[{''.join(p)}]" for p in places))
        patterns.append(".*")
    return patterns


def _some(files: Sequence[str]) -> str:
    names = ", ".join(printable(path) for path in files[:_SHOWN])
    return f"{names}, … ({len(files)})" if len(files) > _SHOWN else names


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def find_affixes(images: Collection[str], masks: Collection[str]) -> list[tuple[Affixes, int]]:
    """Finds what names add to the part that images and masks have in common.

    Every part of a mask's name that is the name of an image is a vote for what stands around it.

    Args:
        images: file names without folder and last suffix.
        masks: likewise.

    Returns:
        Possible affixes with the number of names they bring together, most first, then shortest first.
    """
    image_names, mask_names = set(images), set(masks)
    votes: Counter[Affixes] = Counter()
    voters = sorted(mask_names, key=lambda name: stable_rank(name, "affixes"))[:_VOTERS]
    for prefix, suffix in _image_affixes(image_names):
        cores = {core for name in image_names if (core := _inside(name, prefix, suffix)) is not None}
        for name in voters:
            for begin, end in _parts_in(name, cores):
                votes[Affixes(prefix, suffix, name[:begin], name[end:])] += 1
    found = []
    for affixes in sorted(votes, key=lambda affixes: (-votes[affixes], affixes.length))[:_TRIED]:
        mask_cores = {affixes.mask_core(name) for name in mask_names} - {None}
        found.append((affixes, len(mask_cores & {affixes.image_core(name) for name in image_names})))
    return sorted(found, key=lambda item: (-item[1], item[0].length))


def _image_affixes(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Nothing, and what all images' names begin or end with, cut where a word begins or ends."""
    yield "", ""
    if len(names) < 2:
        return
    beginning = _common_beginning(names)
    ending = _common_beginning([name[::-1] for name in names])[::-1]
    for match in re.finditer(r"[_\-. ]", ending):
        yield "", ending[match.start() :]
    for match in re.finditer(r"[_\-. ]", beginning):
        yield beginning[: match.end()], ""


def _common_beginning(names: Collection[str]) -> str:
    # What the first and the last in order have in common, all between them have.
    first, last = min(names), max(names)
    differing = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differing, min(len(first), len(last)))]


def _parts_in(name: str, cores: Collection[str]) -> Iterator[tuple[int, int]]:
    for begin in range(min(len(name), _LONGEST_NAME)):
        for end in range(max(begin + 1, len(name) - _LONGEST_NAME), len(name) + 1):
            if name[begin:end] in cores:
                yield begin, end


def _inside(name: str, prefix: str, suffix: str) -> str | None:
    if not (name.startswith(prefix) and name.endswith(suffix)) or len(name) <= len(prefix) + len(suffix):
        return None
    return name[len(prefix) : len(name) - len(suffix)]
