"""What the names of images and masks have besides what they share, such as ``_mask``; found by vote."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from components.folders import split_suffix
from components.image_mask_example_gen.layouts.file_pattern import composed
from components.image_mask_example_gen.plan import stable_rank
from components.image_mask_example_gen.split_names import split_name
from components.image_mask_example_gen.suffixes import PICTURES
from pipeline.init.files import Folder

_VOTERS: Final = 100
_LONGEST_NAME: Final = 80
"""Beyond this only the names' ends are looked at: their substrings grow with the square."""
_TRIED: Final = 12
_FREQUENT: Final = 0.1
"""An ending that this part of the names has may be a kind of picture."""
_MOST_ENDINGS: Final = 6


@dataclass(frozen=True)
class Affixes:
    """What surrounds the name that an image and its mask share."""

    image_prefix: str = ""
    image_suffixes: tuple[str, ...] = ("",)
    """One, or those of the splits that the names tell: ``_test`` and ``_training``."""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def is_parted(self) -> bool:
        """Whether what masks add is a word of its own."""
        return bool(
            re.fullmatch(r"(?:.*[_\-. ])?\0(?:[_\-. ].*)?", f"{self.mask_prefix}\0{self.mask_suffix}")
        )

    @property
    def length(self) -> int:
        affixes = (self.image_prefix, *self.image_suffixes, self.mask_prefix, self.mask_suffix)
        return sum(map(len, affixes))

    def image_core(self, stem: str) -> str | None:
        """The shared part of an image's name, None where the name is of another kind."""
        cores = (_inside(stem, self.image_prefix, suffix) for suffix in self.image_suffixes)
        return next((core for core in cores if core is not None), None)

    def mask_core(self, stem: str) -> str | None:
        """The shared part of a mask's name, None where the name is of another kind."""
        return _inside(stem, self.mask_prefix, self.mask_suffix)


def affixes_of(images: Folder, masks: Folder) -> list[tuple[Affixes, int]]:
    """What names of images and masks add to what they share, with the number of pairs that come of it.

    Names alone tell; the most pairs come first, then the shortest affixes.
    """
    image_names, mask_names = ([stem_of(path) for path in each.files] for each in (images, masks))
    found = dict(_find_affixes(image_names, mask_names))
    if shared := {*_absolute(images)} & {*_absolute(masks)}:
        # Every file would also pair with itself.
        times = Counter(stem_of(path) for path in {*_absolute(images)} | {*_absolute(masks)})
        twice = sum(times[name] > 1 for name in {stem_of(path) for path in shared})
        for affixes in found:
            if (affixes.image_prefix, affixes.image_suffixes) == (
                affixes.mask_prefix,
                (affixes.mask_suffix,),
            ):
                found[affixes] = min(found[affixes], twice)
    if any(PurePosixPath(name).suffix.lower() in PICTURES or "." in name for name in mask_names[:_VOTERS]):
        # b.jpg.png keeps the whole name of b.jpg.
        whole = _find_affixes([composed(PurePosixPath(path).name) for path in images.files], mask_names)
        most = max(found.values(), default=0)
        found |= {
            affixes: count for affixes, count in whole if count > most and affixes.image_suffixes == ("",)
        }
    return sorted(
        ((affixes, count) for affixes, count in found.items() if count),
        key=lambda item: (-item[1], item[0].length),
    )


def _absolute(folder: Folder) -> Iterator[str]:
    return (f"{folder.path}/{path}" for path in folder.files)


def _find_affixes(images: Collection[str], masks: Collection[str]) -> list[tuple[Affixes, int]]:
    """Finds what names add to the part that images and masks have in common.

    Every part of a mask's name that is the name of an image is a vote for what stands around it. Names are
    without folder and last suffix.

    Returns:
        Possible affixes with the number of names they bring together, most first, then shortest first.
    """
    image_names, mask_names = set(images), set(masks)
    votes: Counter[Affixes] = Counter()
    voters = sorted(mask_names, key=lambda name: stable_rank(name, "affixes"))[:_VOTERS]
    for prefix, suffixes in _image_affixes(image_names):
        of_images = Affixes(prefix, suffixes)
        cores = {core for name in image_names if (core := of_images.image_core(name)) is not None}
        for name in voters:
            for begin, end in _parts_in(name, cores):
                votes[replace(of_images, mask_prefix=name[:begin], mask_suffix=name[end:])] += 1
    found = []
    for affixes in sorted(votes, key=lambda affixes: (-votes[affixes], affixes.length))[:_TRIED]:
        mask_cores = {affixes.mask_core(name) for name in mask_names} - {None}
        found.append((affixes, len(mask_cores & {affixes.image_core(name) for name in image_names})))
    return sorted(found, key=lambda item: (-item[1], item[0].length))


def _image_affixes(names: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Nothing, and what many images' names begin or end with, cut where a word begins or ends."""
    yield "", ("",)
    if len(names) < 2:
        return
    beginning = _common_beginning(names)
    ending = _common_beginning([name[::-1] for name in names])[::-1]
    endings = [ending[match.start() :] for match in re.finditer(r"[_\-. ]", ending)]
    beginnings = [beginning[: match.end()] for match in re.finditer(r"[_\-. ]", beginning)]
    # Among other pictures the images are those of one kind: *_sat beside *_mask.
    last = Counter(match[0] for name in names if (match := re.search(r"[_\-. ][^_\-. ]*$", name)))
    first = Counter(match[0] for name in names if (match := re.match(r"[^_\-. ]*[_\-. ]", name)))
    for found, counts in ((endings, last), (beginnings, first)):
        found += [
            affix
            for affix, count in counts.most_common(_MOST_ENDINGS)
            if max(2, _FREQUENT * len(names)) <= count < len(names) and re.search(r"[^\W\d_]", affix)
        ]
    yield from (("", (ending,)) for ending in endings)
    yield from ((beginning, ("",)) for beginning in beginnings)
    splits: dict[str, list[str]] = defaultdict(list)
    # However few a split's names are.
    for ending, count in last.items():
        if count > 1 and (found_split := split_name(ending)):
            splits[found_split[2]].append(ending)
    yield from (("", tuple(sorted(each))) for each in splits.values() if len(each) > 1)


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


def stem_of(path: str) -> str:
    """A file's name without folder and last suffix."""
    return composed(split_suffix(path.rpartition("/")[2])[0])
