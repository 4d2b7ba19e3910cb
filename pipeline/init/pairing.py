"""Pairs of image and mask by their names: the patterns by which the ingestion itself will pair the files.

The ingestion's own scan decides between those that follow from the names.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product, starmap
from pathlib import Path, PurePosixPath
from typing import Final

from components.errors import printable
from components.folders import split_suffix
from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.plan import stable_rank
from components.image_mask_example_gen.report import Reason
from components.image_mask_example_gen.suffixes import MASKS
from pipeline.init import InitError
from pipeline.init.affixes import Affixes, affixes_of, stem_of
from pipeline.init.class_masks import (
    Kind,
    as_classes,
    classes_of_folders,
    classes_of_words,
    named_folders,
    numbered_classes,
)
from pipeline.init.class_words import MOST_CLASSES
from pipeline.init.files import Folder, natural, some, some_counts, suffix_of
from pipeline.init.leftovers import other_files, passed_over, unused
from pipeline.init.listing import Listing, Pairing
from pipeline.init.mask_kinds import Relation, class_names, compare, is_still, mean_area, plainness
from pipeline.init.name_patterns import escape, without_split
from pipeline.init.patterns import (
    MOST_KINDS,
    common_folders,
    image_patterns,
    joined,
    mask_patterns,
    suffix_patterns,
)

_COMPARED: Final = 10
_ALIKE: Final = 10
"""From so many images on with equally many masks, these may be classes rather than objects."""
_MOSTLY: Final = 0.7


def pair(images: Folder, masks: Folder) -> Pairing:
    """Finds the patterns that pair most files.

    Names decide which patterns are tried, and the ingestion's own scan decides between them. In one folder
    for both, the names of files tell them apart, else those of folders. Where images have masks of several
    kinds, one for each class makes these classes, and one for each object is united; of several that mark
    the same (label ids beside colours, two people's drawings), the plainest is taken.

    Raises:
        InitError: no image meets a mask.
    """
    images, masks = _without(images, masks), _without(masks, images)
    listing = Listing(images, masks)
    search = _Search(listing, in_one_folder=images.path == masks.path)
    candidates = ((images, masks), *_told_apart_by_folders(images, masks))
    pairings = [pairing for each in candidates if (pairing := search.pair(*each))]
    if not pairings and images.path == masks.path and (found := search.of_scenes()):
        pairings = [found]
    if pairings:
        best = max(
            pairings, key=lambda each: (_looks_right(each), len(each.entries), len(each.files | each.besides))
        )
        best = classes_of_folders(listing, best) or best
        return best.noting(
            *unused(listing, best),
            other_files=other_files(listing, best),
            doubts=(*best.doubts, *passed_over(listing, best)),
            may_be_classes=named_folders(listing, best),
        )
    if listing.problems:
        raise InitError(
            f"images and masks do not meet one to one: {listing.problems[0]} "
            "Or write a recipe whose patterns fit (docs/own-data.md)"
        )
    shown = f"images are named {some(images.files, counted=True)}; masks {some(masks.files, counted=True)}"
    example = printable(PurePosixPath(images.files[0]).stem)
    meant = (
        f"{printable(images.files[0])} would match {example}.png, or {example} with another ending, such as"
    )
    raise InitError(
        f"no image meets a mask: {shown}. Files are paired by name: {meant} {example}_mask.png"
        f"{_beside(images, masks)}"
    )


def _without(folder: Folder, other: Folder) -> Folder:
    """Takes the files of a folder further down out: those there are of the other kind."""
    if folder.path == other.path or not other.path.is_relative_to(folder.path):
        return folder
    below = other.path.relative_to(folder.path).as_posix() + "/"
    files = tuple(path for path in folder.files if not path.startswith(below))
    return replace(folder, files=files) if files else folder


def _looks_right(pairing: Pairing) -> bool:
    """Whether most masks are plainer pictures than their images, in a sample."""
    sample = sorted(pairing.entries, key=lambda entry: stable_rank(entry.key, "plainness"))[:_COMPARED]
    images, masks = (
        [plainness(pairing.root, [path])[:3] for path in each]
        for each in ([entry.image for entry in sample], [entry.mask for entry in sample])
    )
    right = sum(mask < image or mask[0] for image, mask in zip(images, masks, strict=True))
    return right > _MOSTLY * len(sample)


def _beside(images: Folder, masks: Folder) -> str:
    kinds = Counter(suffix_of(path) or "without suffix" for path in {*images.others, *masks.others})
    kinds -= Counter(dict.fromkeys(MASKS, len(images.files) + len(masks.files)))
    return f". Not looked at: {some_counts(kinds)}" if kinds else ""


def _told_apart_by_folders(images: Folder, masks: Folder) -> Iterator[tuple[Folder, Folder]]:
    """Yields what could be the images and what the masks of one folder that was named for both.

    The deepest folders are looked at first. Where kinds of pictures have
    a folder each (``*/images``, ``*/masks``), the least plain pictures are the images.
    """
    if images.path != masks.path:
        return
    readable = frozenset(images.files)
    for level in reversed(range(max(path.count("/") for path in masks.files))):
        kinds: dict[str, list[str]] = defaultdict(list)
        for path in masks.files:
            if path.count("/") <= level:
                continue
            # Train and val are no kinds of pictures.
            kinds[without_split(PurePosixPath(path).parts[level])].append(path)
        if 2 <= len(kinds) <= MOST_KINDS:
            *others, photos = sorted(kinds.values(), key=lambda files: plainness(masks.path, files))
            yield (
                replace(images, files=tuple(path for path in photos if path in readable)),
                replace(masks, files=tuple(sorted(path for files in others for path in files))),
            )


class _Search:
    """Tries patterns on the files of two folders."""

    def __init__(self, listing: Listing, *, in_one_folder: bool):
        self.listing, self.root, self.in_one_folder = listing, listing.root, in_one_folder

    def pair(self, images: Folder, masks: Folder) -> Pairing | None:
        """Pairs by names, else by the folders of several masks."""
        if not images.files:
            return None
        if classes := numbered_classes(self.listing, images, masks):
            return classes
        found = []
        for find in (self._kinds_by_names, self._kinds_by_folders):
            if kinds := find(images, masks):
                found.append(self._tidied(self._resolved(kinds)))
            if found and len(found[-1].entries) > len(images.files) / 2:
                return found[-1]
        # Not by chance, as names of one letter are part of most others.
        several = self._best(images, masks, Affixes())
        if several and (united := self._several(several)):
            found.append(united)
        return max(found, key=lambda pairing: len(pairing.entries), default=None)

    def of_scenes(self) -> Pairing | None:
        """Pairs pictures that have the same few names in each scene's folder: the least plain are images."""
        depths = {path.count("/") for path in self.listing.pictures}
        kinds: dict[str, list[str]] = defaultdict(list)
        for path in self.listing.pictures:
            kinds[path.rpartition("/")[2]].append(path)
        if len(depths) > 1 or not 2 <= len(kinds) <= MOST_KINDS or min(map(len, kinds.values())) < 2:
            return None
        folders = "*/" * depths.pop()
        *others, photos = sorted(kinds, key=lambda name: plainness(self.root, kinds[name]))
        pairings = {
            name: self.listing.scan(folders + escape(photos), folders + escape(name)) for name in others
        }
        found = [Kind(split_suffix(name)[0], pairing) for name, pairing in pairings.items() if pairing]
        if len(found) > 1 and (classes := as_classes(self.listing, found)):
            return classes
        # However few scenes lack it, the plainest is the mask.
        return _naming_others(found[0].pairing, found[1:]) if found else None

    def _kinds_by_names(self, images: Folder, masks: Folder) -> list[Kind]:
        """The masks that pair most images, by what their names add, and words that do so for some."""
        found = affixes_of(images, masks)
        enough = found[0][1] / 2 if found else 0
        kinds: dict[frozenset[str], Kind] = {}
        for affixes, count in found:
            is_word = class_names([affixes.mask_prefix + affixes.mask_suffix]) is not None
            if count < enough and not (count > 1 and is_word and affixes.is_parted):
                continue
            pairing = self._best(images, masks, affixes)
            if pairing is None:
                continue
            kind = Kind(affixes.mask_prefix + affixes.mask_suffix, pairing)
            if self.in_one_folder and (turned := self._turned(pairing)):
                kind = Kind(affixes.image_prefix + affixes.image_suffixes[0], turned)
            key = frozenset(kind.pairing.mask_of.values())
            if any(key & other for other in kinds) and count < enough:
                continue
            # In one folder masks pair with masks, too; the photo is the least plain.
            if key not in kinds or (
                self.in_one_folder and self._plainness(kind.pairing) > self._plainness(kinds[key].pairing)
            ):
                kinds[key] = kind
            every = len(pairing.files) >= len(self.listing.pictures)
            if every and not (self.in_one_folder or pairing.unpaired):
                break
        if self.in_one_folder and len(kinds) > 1:
            right = [kind for kind in kinds.values() if _looks_right(kind.pairing)]
            return right or list(kinds.values())
        return list(kinds.values())

    def _kinds_by_folders(self, images: Folder, masks: Folder) -> list[Kind]:
        """Masks of the same names in folders side by side, each with its images."""
        for level in reversed(range(max(path.count("/") for path in masks.files))):
            folders: dict[str, list[str]] = defaultdict(list)
            names = set()
            deep = [path for path in masks.files if path.count("/") > level]
            for path in deep:
                parts = PurePosixPath(path).parts
                folders[parts[level]].append(path)
                names.add((parts[:level], PurePosixPath(*parts[level + 1 :]).with_suffix("")))
            if not 2 <= len(folders) <= MOST_CLASSES or len(names) == len(deep):
                continue
            kinds = []
            for name, files in folders.items():
                of_names = self._kinds_by_names(images, replace(masks, files=tuple(files)))
                if of_names:
                    kinds.append(
                        Kind(name, max(of_names, key=lambda kind: len(kind.pairing.entries)).pairing)
                    )
            if kinds:
                return kinds
        return []

    def _resolved(self, kinds: list[Kind]) -> Pairing:
        """Makes one pairing of several kinds of masks."""
        most = max(len(kind.pairing.entries) for kind in kinds)
        # With one kind of mask only, nothing needs to be opened.
        if len(kinds) > 1 and (telling := self._without_still(kinds)):
            return telling
        if len(kinds) > 1 and (classes := as_classes(self.listing, kinds)):
            return classes
        kinds = [kind for kind in kinds if len(kind.pairing.entries) == most]
        if self.in_one_folder and len(kinds) > 1:
            # Of three that pair with each other, the photo is the least plain.
            plain = [self._plainness(kind.pairing) for kind in kinds]
            kinds = [kind for kind, each in zip(kinds, plain, strict=True) if each == max(plain)]
        if len(kinds) > 1:
            kinds.sort(key=lambda kind: plainness(self.root, [entry.mask for entry in kind.pairing.entries]))
        chosen, *others = kinds
        # In one folder, the other way round pairs as many.
        others = [
            kind for kind in others if chosen.pairing.mask_of.keys().isdisjoint(kind.pairing.mask_of.values())
        ]
        if united := self._united(chosen):
            return united
        return _naming_others(self._several(chosen.pairing) or chosen.pairing, others)

    def _without_still(self, kinds: list[Kind]) -> Pairing | None:
        """Leaves out masks that mark the same in every picture, and all that others for most images mark."""
        still = [is_still(self.root, list(kind.pairing.mask_of.values())) for kind in kinds]
        left_out = [kind for kind, is_one in zip(kinds, still, strict=True) if is_one]
        telling = [kind for kind, is_one in zip(kinds, still, strict=True) if not is_one]
        most, pairs = (
            max((len(kind.pairing.entries) for kind in each), default=0) for each in (left_out, telling)
        )
        if not left_out or pairs < max(1, most / 2):
            return None
        if not all(starmap(self._holds, product(left_out, telling))):
            return None
        pairing = self._resolved(telling)
        files = {mask for kind in left_out for mask in kind.pairing.mask_of.values()}
        note = (
            f"{some(sorted(files), counted=True)} mark the same in every picture, as a camera's field of "
            f"view does; taken are {pairing.dataset['masks']}"
        )
        return pairing.noting(note, besides=pairing.besides | files)

    def _holds(self, kind: Kind, other: Kind) -> bool:
        """Whether masks mark all that those of another kind do, and more, wherever an image has both."""
        here, there = kind.pairing.mask_of, other.pairing.mask_of
        relation = compare(self.root, here, there)
        if relation is not Relation.INSIDE:
            return relation is Relation.NEVER_BOTH
        return mean_area(self.root, [*here.values()]) > mean_area(self.root, [*there.values()])

    def _united(self, kind: Kind) -> Pairing | None:
        """The pattern that takes further masks of an image in, one an object, where their names count up."""
        pairing = kind.pairing
        pattern = str(pairing.dataset["masks"])
        begin = FilePattern(pattern).beginning
        base = re.sub(r"\d+$", "", kind.label.removeprefix(begin))
        if not base or pattern.rpartition("/")[2].count("*") != 1:
            return None
        cores = {
            PurePosixPath(entry.mask).stem.removesuffix(kind.label.removeprefix(begin))
            for entry in pairing.entries
        }
        counted = re.compile(rf"(.*){re.escape(base)}[ _\-.]*\(?\d+\)?", re.DOTALL)
        paired = {*pairing.mask_of.keys(), *pairing.mask_of.values()}
        further = [
            path
            for path in self.listing.pictures
            if path not in paired
            and (match := counted.fullmatch(split_suffix(path.rpartition("/")[2])[0]))
            and match[1] in cores
        ]
        if not further:
            return None
        head, _, tail = pattern.rpartition("*")
        of_base = escape(base)
        united = self.listing.scan(
            pairing.dataset["images"], f"{head}*{of_base}*{PurePosixPath(tail).suffix}"
        )
        several = [entry for entry in united.entries if entry.parts] if united else []
        if united is None or not several or len(united.entries) < len(pairing.entries):
            return None
        relation, note = _relation_of_parts(self.root, several)
        if relation in (Relation.APART, Relation.OVERLAPPING):
            return united.noting(note)
        note = (
            f"{len(several)} images have several masks, {relation.value}: not used are "
            f"{some(further, counted=True)}; taken are {pattern}"
        )
        return pairing.noting(note, besides=frozenset(further))

    def _several(self, pairing: Pairing) -> Pairing | None:
        """Masks that folders alone bring to an image; of several that mark the same, those of one name."""
        several = [entry for entry in pairing.entries if entry.parts]
        if not several:
            return None
        endings = {file: stem_of(file) for entry in pairing.entries for file in entry.mask_files}
        head, _, suffix = str(pairing.dataset["masks"]).rpartition("*")
        if classes := classes_of_words(self.listing, pairing.dataset["images"], head, suffix, endings):
            return classes
        relation, note = _relation_of_parts(self.root, several)
        if relation is not Relation.SAME:
            return pairing.noting(note)
        names = Counter(PurePosixPath(part.path).name for entry in several for part in entry.parts)
        most = max(names.values())
        name = min((name for name, count in names.items() if count == most), key=natural)
        folders = str(pairing.dataset["masks"]).rpartition("/")[0]
        single = self.listing.scan(pairing.dataset["images"], joined(folders, escape(name)))
        if single is None or len(single.entries) < len(pairing.entries):
            raise InitError(
                f"{len(several)} images have several masks that mark the same, such as "
                f"{some(several[0].mask_files, counted=True)}; leave one of each in the folder"
            )
        further = {part.path for entry in several for part in entry.parts} - single.files
        note = f"{len(several)} images have several masks, {relation.value}: taken are {name}"
        return single.noting(note, besides=frozenset(further))

    def _best(self, images: Folder, masks: Folder, affixes: Affixes) -> Pairing | None:
        best: Pairing | None = None
        patterns = list(image_patterns(images, masks, affixes, self.root))
        for image_pattern, mask_pattern in product(patterns, mask_patterns(masks, affixes, self.root)):
            pairing = self.listing.scan(image_pattern, mask_pattern)
            if pairing is None:
                continue
            if best is None or _worth(pairing) > _worth(best):
                best = pairing
            if not (best.unpaired or _overlap(best)) and len(best.files) >= len(self.listing.pictures):
                break
        return best

    def _plainness(self, pairing: Pairing) -> tuple[int, ...]:
        """Of the images."""
        return plainness(self.root, list(pairing.mask_of))[:3]

    def _turned(self, pairing: Pairing) -> Pairing | None:
        """The other way round, where what was found as images are the plainer pictures."""
        images, masks = (
            plainness(self.root, list(each)) for each in zip(*pairing.mask_of.items(), strict=True)
        )
        if images[:3] >= masks[:3]:
            return None
        return self.listing.scan(pairing.dataset["masks"], pairing.dataset["images"])

    def _tidied(self, pairing: Pairing) -> Pairing:
        """Says the same in plainer patterns, and leaves out folders in which no image has a mask."""
        lone = [item.file for item in pairing.unpaired if item.reason is Reason.IMAGE_WITHOUT_MASK]
        if not (lone or self.in_one_folder):
            return pairing
        folders = {PurePosixPath(entry.image).parent for entry in pairing.entries}
        few = any(PurePosixPath(file).parent not in folders for file in lone)
        images, masks = pairing.dataset["images"], pairing.dataset["masks"]
        if not (few or self.in_one_folder):
            return pairing
        start = common_folders([entry.image for entry in pairing.entries], few) or images.rpartition("/")[0]
        names = [images.rpartition("/")[2]]
        if self.in_one_folder:
            # Told apart by their folders, images need no more.
            used = [entry.image for entry in pairing.entries]
            names = [*(f"*{suffix}" for suffix in suffix_patterns(used, "")[::-1]), *names]
        mask_patterns = [masks]
        if isinstance(masks, str) and (below := common_folders([entry.mask for entry in pairing.entries])):
            mask_patterns.insert(0, joined(below, masks.rpartition("/")[2]))
        pairs = set(pairing.mask_of.items())
        for name, mask_pattern in product(names, mask_patterns):
            if (image_pattern := joined(start, name)) == images and mask_pattern == masks:
                break
            tidied = self.listing.scan(image_pattern, mask_pattern)
            if tidied and _worth(tidied) >= _worth(pairing) and set(tidied.mask_of.items()) == pairs:
                return replace(tidied, notes=pairing.notes, doubts=pairing.doubts, besides=pairing.besides)
        return pairing


def _naming_others(pairing: Pairing, others: Sequence[Kind]) -> Pairing:
    if not others:
        return pairing
    shown = ", ".join(sorted(str(kind.pairing.dataset["masks"]) for kind in others))
    note = f"images have masks of other kinds, too: {shown}; taken are {pairing.dataset['masks']}"
    besides = frozenset(mask for kind in others for mask in kind.pairing.mask_of.values())
    return pairing.noting(note, besides=besides)


def _relation_of_parts(root: Path, several: Sequence[Entry]) -> tuple[Relation, str]:
    """How the first two masks of images lie, and what to say if all are united."""
    first, second = ({entry.image: entry.parts[at].path for entry in several} for at in (0, 1))
    files = sum(len(entry.parts) for entry in several)
    note = f"{len(several)} images have several masks, {files} files: what they mark is united"
    if len({len(entry.parts) for entry in several}) == 1 and len(several) >= _ALIKE:
        note += "; each has as many: if they are classes, give dataset.masks a pattern for each"
    return compare(root, first, second), note


def _worth(pairing: Pairing) -> tuple[int, int, bool]:
    return len(pairing.entries), -len(pairing.unpaired), not _overlap(pairing)


def _overlap(pairing: Pairing) -> bool:
    """Whether the pattern of the images finds masks, too."""
    images = FilePattern(pairing.dataset["images"])
    return images.match(pairing.entries[0].mask) is not None
