"""Words for classes in masks' names, which may number objects, too: ``a_leaf_0``, ``a_leaf_1``."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from pipeline.init.mask_kinds import class_names
from pipeline.init.name_patterns import escape

MOST_CLASSES: Final = 64
_SEPARATOR: Final = re.compile(r"[_\-. ]")
_NUMBERED: Final = re.compile(r"(.*?)([_\-. ]*(?:\d+|\(\d+\)))?", re.DOTALL)
_IS_WORD: Final = re.compile(r"(?=.*[^\W\d_]{2})\D+", re.DOTALL)


def by_word(endings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Sorts masks by the words that their names end in, with the number after it that each has, if any.

    Args:
        endings: what the names of masks have beside their images' names.

    Returns:
        Nothing where words tell no classes: one only, letters that count up, or as many as masks nearly.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file, ending in endings.items():
        match = _NUMBERED.fullmatch(ending)
        if match is None or not _IS_WORD.fullmatch(match[1]):
            return {}
        found[match[1]][file] = match[2] or ""
    is_told = 2 <= len(found) <= min(MOST_CLASSES, len(endings) / 2) and class_names(list(found)) is not None
    return dict(found) if is_told else {}


def number_patterns(numbers: Collection[str]) -> Iterator[str]:
    """Yields what may find the numbers after a word, some of which may be missing."""
    if not any(numbers):
        yield ""
        return
    before = {re.sub(r"\(?\d.*", "", number) for number in numbers}
    between = escape(before.pop()) if len(before) == 1 else ""
    yield from (f"{between}*", f"{between}[0-9]*")


def ending_after(stem: str, names: Collection[str]) -> str | None:
    """What a mask's name has after the longest name of an image that it begins with, from a separator on."""
    places = [match.start() for match in _SEPARATOR.finditer(stem)]
    # A copy's mask has a longer name than that of the picture, and it is the copy's: a_flip beside a.
    return next((stem[place:] for place in (len(stem), *reversed(places)) if stem[:place] in names), None)


def has_name(stem: str, names: Collection[str]) -> bool:
    """Whether some words of a mask's name are the name of an image."""
    begins = [0, *(match.end() for match in _SEPARATOR.finditer(stem))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(stem)), len(stem)]
    return any(stem[begin:end] in names for begin in begins for end in ends if begin < end)
