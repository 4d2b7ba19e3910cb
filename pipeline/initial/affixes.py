"""What the names of masks have that those of their images lack, such as ``_mask``."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from components.image_mask_example_gen.plan import stable_rank

_SAMPLE: Final = 100
_LONGEST_NAME: Final = 80
"""Beyond this only the names' ends are looked at: their substrings grow with the square."""
_TRIED: Final = 12


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
    sample = sorted(mask_names, key=lambda name: stable_rank(name, "affixes"))[:_SAMPLE]
    for prefix, suffix in _image_affixes(sorted(image_names)):
        cores = {core for name in image_names if (core := _inside(name, prefix, suffix)) is not None}
        for name in sample:
            for begin, end in _parts_in(name, cores):
                votes[Affixes(prefix, suffix, name[:begin], name[end:])] += 1
    tried = sorted(votes, key=lambda affixes: (-votes[affixes], affixes.length))[:_TRIED]
    found = [(affixes, _in_common(affixes, image_names, mask_names)) for affixes in tried]
    return sorted(found, key=lambda item: (-item[1], item[0].length))


def _in_common(affixes: Affixes, images: Collection[str], masks: Collection[str]) -> int:
    mask_cores = {affixes.mask_core(name) for name in masks} - {None}
    return len(mask_cores & {affixes.image_core(name) for name in images})


def _image_affixes(names: Sequence[str]) -> Iterator[tuple[str, str]]:
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


def _common_beginning(names: Sequence[str]) -> str:
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
