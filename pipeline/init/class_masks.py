"""Masks of several kinds, told apart by words in their names or by folders: whether each kind is a class."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import PurePosixPath
from typing import Final

from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.split_names import split_name
from pipeline.init.affixes import Affixes, stem_of
from pipeline.init.class_words import MOST_CLASSES, by_word, ending_after, number_patterns
from pipeline.init.files import Folder, natural
from pipeline.init.listing import Listing, Pairing
from pipeline.init.mask_kinds import Relation, class_names, compare_all, mean_area
from pipeline.init.name_patterns import escape, folder_pattern
from pipeline.init.patterns import image_patterns, joined, mask_patterns
from pipeline.recipe_yaml import write_yaml

_LOOKED_AT: Final = 3
_MOSTLY: Final = 0.7


@dataclass(frozen=True)
class Kind:
    """Masks that differ from others of the same images in a part of their names, or in their folder."""

    label: str
    pairing: Pairing


def as_classes(listing: Listing, kinds: Sequence[Kind]) -> Pairing | None:
    """One pattern a class, where masks hold one value each and do not mark the same.

    Folders of which each image is in one may be scenes.
    """
    words = class_names([kind.label for kind in kinds])
    names = words or _numbered_folders(kinds)
    if names is None:
        return None
    relations = compare_all(listing.root, [kind.pairing.mask_of for kind in kinds])
    if relations & {Relation.SAME, Relation.NOT_BINARY}:
        return None
    if words is None and not relations <= {Relation.APART, Relation.NEVER_BOTH}:
        return None
    is_split = any(split_name(kind.label) for kind in kinds)
    if relations == {Relation.NEVER_BOTH} and (is_split or _in_own_folders(kinds)):
        return None
    # The larger first: the smaller lies on top.
    areas = [mean_area(listing.root, [entry.mask for entry in kind.pairing.entries]) for kind in kinds]
    ordered = sorted(
        zip(names, kinds, areas, strict=True), key=lambda each: (-round(each[2], 2), natural(each[0]))
    )
    largest = max(kinds, key=lambda kind: len(kind.pairing.entries))
    patterns = {name: kind.pairing.dataset["masks"] for name, kind, _ in ordered}
    pairing = listing.scan(largest.pairing.dataset["images"], patterns)
    if pairing is None:
        return None
    note = f"images have a mask file for each of {len(names)} classes, by their names: {', '.join(patterns)}"
    if relations - {Relation.APART, Relation.NEVER_BOTH}:
        note += "; some lie over each other, and there the later of dataset.masks counts"
    if words is None:
        first, *others = patterns
        merged = write_yaml(dict.fromkeys(others, first))
        doubt = (
            f"numbers tell the folders of masks apart, and what they mark lies apart: {first} and its "
            f"like are taken for classes; if they are objects of one class, add merge_classes: {merged}"
        )
        pairing = replace(pairing, doubts=(*pairing.doubts, doubt))
    return pairing.noting(note)


def _in_own_folders(kinds: Sequence[Kind]) -> bool:
    return len({str(kind.pairing.dataset["masks"]).rpartition("/")[0] for kind in kinds}) == len(kinds)


def _numbered_folders(kinds: Sequence[Kind]) -> tuple[str, ...] | None:
    """Names for masks that lie in a folder each, such as ``class_1``; None where they do not."""
    if not _in_own_folders(kinds):
        return None
    labels = ["_".join(re.findall(r"[^\W_]+", kind.label)) for kind in kinds]
    names = tuple(f"class_{label}" if label.isdigit() else label for label in labels)
    return names if "" not in names and len(set(names)) == len(names) else None


def numbered_classes(listing: Listing, images: Folder, masks: Folder) -> Pairing | None:
    """Masks in whose names a class's word and the number of an object follow their image's name."""
    if images.files == masks.files:
        return None
    names = {stem_of(path) for path in images.files}
    base = masks.path.relative_to(listing.root).as_posix()
    endings = {
        joined("" if base == "." else base, path): ending
        for path in masks.files
        if (ending := ending_after(stem_of(path), names))
    }
    if len(endings) < _MOSTLY * len(masks.files) or all(ending[-1].isalpha() for ending in endings.values()):
        return None
    patterns = product(
        image_patterns(images, masks, Affixes(), listing.root), mask_patterns(masks, Affixes(), listing.root)
    )
    for image_pattern, mask_pattern in patterns:
        head, _, suffix = mask_pattern.rpartition("*")
        if classes := classes_of_words(listing, image_pattern, f"{head}*", suffix, endings):
            return classes
    return None


def classes_of_words(
    listing: Listing, images: str, head: str, suffix: str, endings: Mapping[str, str]
) -> Pairing | None:
    """A class for each word between ``head`` and the numbers of objects before ``suffix``."""
    kinds = []
    for word, numbers in by_word(endings).items():
        patterns = (f"{head}{escape(word)}{number}{suffix}" for number in number_patterns(numbers.values()))
        pattern = next((each for each in patterns if listing.matched(each) == numbers.keys()), None)
        pairing = listing.scan(images, pattern) if pattern else None
        if pairing is None:
            return None
        kinds.append(Kind(word, pairing))
    return as_classes(listing, kinds) if kinds else None


def classes_of_folders(listing: Listing, pairing: Pairing) -> Pairing | None:
    """Of several masks in folders side by side, a class for each folder."""
    for patterns in _patterns_by_folder(pairing, shared=True):
        scans = {
            label: listing.scan(pairing.dataset["images"], pattern) for label, pattern in patterns.items()
        }
        kinds = [Kind(label, found) for label, found in scans.items() if found]
        if len(kinds) < len(patterns):
            continue
        if (classes := as_classes(listing, kinds)) and len(classes.entries) >= len(pairing.entries):
            return classes
    return None


def named_folders(listing: Listing, pairing: Pairing) -> dict[str, str]:
    """A pattern for each folder whose name may be that of a class: each image has masks in one alone."""
    # Where images have such folders, too, a mask's has to stay open to be compared with its image's.
    for ending in ("", "*"):
        for patterns in _patterns_by_folder(pairing, shared=False, ending=ending):
            labels = class_names(list(patterns))
            if labels is None or any(map(split_name, patterns)):
                continue
            by_label = dict(zip(labels, patterns.values(), strict=True))
            tried = _some_of_each(pairing, patterns.values())
            files = [file for image, masks in tried.items() for file in (image, *masks)]
            found = listing.scan(pairing.dataset["images"], by_label, files)
            if found and {entry.image: entry.mask_files for entry in found.entries} == tried:
                return by_label
    return {}


def _patterns_by_folder(pairing: Pairing, *, shared: bool, ending: str = "") -> Iterator[dict[str, str]]:
    """Yields a pattern for each of the folders of masks side by side; ``ending`` follows its name.

    Either images have masks in several of them, or each in one alone.
    """
    masks = pairing.dataset["masks"]
    folders = {PurePosixPath(file).parent.parts for entry in pairing.entries for file in entry.mask_files}
    if not isinstance(masks, str) or len({len(parts) for parts in folders}) > 1:
        return
    for level in range(len(min(folders))):
        images = {
            (entry.image, PurePosixPath(file).parts[level])
            for entry in pairing.entries
            for file in entry.mask_files
        }
        if (len(images) > len(pairing.entries)) != shared:
            continue
        sizes = Counter(name for _, name in images)
        # Of a folder for each image, no name tells a class.
        if not 2 <= len(sizes) <= MOST_CLASSES or min(sizes.values()) < 2:
            continue
        patterns = {}
        for name in sorted(sizes, key=natural):
            alike = (parts for parts in folders if parts[level] == name)
            parts = [folder_pattern(each) for each in zip(*alike, strict=True)]
            parts[level] += ending
            patterns[name] = "/".join((*parts, masks.rpartition("/")[2]))
        yield patterns


def _some_of_each(pairing: Pairing, patterns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """A few images with masks that each pattern finds; of the same names where several folders have them."""
    entries = sorted(pairing.entries, key=lambda entry: PurePosixPath(entry.image).name)
    found = (
        islice((entry for entry in entries if match(entry.mask)), _LOOKED_AT)
        for match in (FilePattern(pattern).match for pattern in patterns)
    )
    return {entry.image: entry.mask_files for each in found for entry in each}
