"""Pairs of image and mask by their names: the patterns by which the ingestion itself will pair the files.

What the names of masks have that those of their images lack, such as ``_mask``, is found by vote; the
ingestion's own scan then decides between the patterns that follow from it.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Final

from components.errors import StageError
from components.folders import split_suffix
from components.image_mask_example_gen.layouts import folder as folder_layout
from components.image_mask_example_gen.layouts.file_pattern import FilePattern, composed
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.plan import stable_rank
from components.image_mask_example_gen.report import Reason, Rejection, printable
from components.image_mask_example_gen.suffixes import MASKS, PICTURES, UNREAD_PICTURES
from pipeline.init import InitError
from pipeline.init.files import Folder, natural, some, some_counts
from pipeline.init.mask_kinds import (
    Relation,
    class_names,
    compare,
    compare_all,
    mean_area,
    plainness,
)
from pipeline.init.splits import folder_pattern, without_split

_SUFFIXES: Final = 3
_VOTERS: Final = 100
_LONGEST_NAME: Final = 80
"""Beyond this only the names' ends are looked at: their substrings grow with the square."""
_TRIED: Final = 12
_MOST_KINDS: Final = 8
"""Of more folders side by side, each is a scene rather than a kind of picture."""
_MOST_CLASSES: Final = 64
_FREQUENT: Final = 0.1
"""An ending that this part of the names has may be a kind of picture."""
_MOST_ENDINGS: Final = 6
_COMPARED: Final = 10
_ALIKE: Final = 10
"""From so many images on with equally many masks, these may be classes rather than objects."""
_MOSTLY: Final = 0.7


@dataclass(frozen=True)
class Affixes:
    """What surrounds the name that an image and its mask share."""

    image_prefix: str = ""
    image_suffix: str = ""
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

    dataset: dict[str, Any]
    """The keys ``layout``, ``root``, ``images`` and ``masks`` of the recipe's ``dataset`` block."""
    entries: tuple[Entry, ...]
    """Paths are relative to ``dataset["root"]``."""
    unpaired: tuple[Rejection, ...]
    """Files that match a pattern and have no partner."""
    files: frozenset[str] = frozenset()
    """All that match a pattern."""
    besides: frozenset[str] = frozenset()
    """Masks that match none and are named in the notes."""
    notes: tuple[str, ...] = ()
    """What was decided between several kinds of masks, and what is not used, a line each."""

    @property
    def root(self) -> Path:
        return Path(self.dataset["root"])

    @property
    def layout(self) -> folder_layout.Folder:
        """What reads the files."""
        return folder_layout.Folder(self.dataset["images"], self.dataset["masks"], ())

    @property
    def mask_of(self) -> dict[str, str]:
        return {entry.image: entry.mask for entry in self.entries}


@dataclass(frozen=True)
class _Kind:
    """Masks that differ from others of the same images in a part of their names, or in their folder."""

    label: str
    pairing: Pairing


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
    search = _Search(images, masks)
    candidates = ((images, masks), *_told_apart_by_folders(images, masks))
    pairings = [pairing for each in candidates if (pairing := search.pair(*each))]
    if pairings:
        best = max(
            pairings, key=lambda each: (_looks_right(each), len(each.entries), len(each.files | each.besides))
        )
        return replace(best, notes=(*best.notes, *search.unused(best)))
    if search.problems:
        raise InitError(f"images and masks do not meet one to one: {search.problems[0]}")
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
    kinds = Counter(_suffix(path) or "without suffix" for path in {*images.others, *masks.others})
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
        if 2 <= len(kinds) <= _MOST_KINDS:
            *others, photos = sorted(kinds.values(), key=lambda files: plainness(masks.path, files))
            yield (
                replace(images, files=tuple(path for path in photos if path in readable)),
                replace(masks, files=tuple(sorted(path for files in others for path in files))),
            )


class _Search:
    """Tries patterns on the files of two folders, listed once."""

    def __init__(self, images: Folder, masks: Folder):
        self.in_one_folder = images.path == masks.path
        self.root = Path(os.path.commonpath([images.path, masks.path]))
        files: set[str] = set()
        for each in (images, masks):
            base = each.path.relative_to(self.root).as_posix()
            files |= {_joined("" if base == "." else base, path) for path in each.files + each.others}
        self.listing = sorted(files)
        self.pictures = [path for path in self.listing if _suffix(path) in MASKS]
        self.problems: list[str] = []
        """Why the ingestion would not go on with patterns that were tried."""

    def scan(self, images: str, masks: str | Mapping[str, str]) -> Pairing | None:
        """What the ingestion makes of two patterns; None for nothing, or if it would not go on."""
        dataset = {"layout": "folder", "root": str(self.root), "images": images, "masks": masks}
        try:
            found: Scan = folder_layout.Folder(images, masks, ()).scan_listed(self.listing)
        except StageError as error:
            self.problems.append(str(error))
            return None
        if not found.entries:
            return None
        return Pairing(
            dataset, tuple(found.entries), tuple(found.rejected), frozenset(found.files), notes=found.notes
        )

    def pair(self, images: Folder, masks: Folder) -> Pairing | None:
        """Pairs by names, else by the folders of several masks."""
        if not images.files:
            return None
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

    def _kinds_by_names(self, images: Folder, masks: Folder) -> list[_Kind]:
        """The masks that pair most images, by what their names add, and words that do so for some."""
        found = _all_affixes(images, masks)
        enough = found[0][1] / 2 if found else 0
        kinds: dict[frozenset[str], _Kind] = {}
        for affixes, count in found:
            is_word = class_names([affixes.mask_prefix + affixes.mask_suffix]) is not None
            if count < enough and not (count > 1 and is_word and affixes.is_parted):
                continue
            pairing = self._best(images, masks, affixes)
            if pairing is None:
                continue
            kind = _Kind(affixes.mask_prefix + affixes.mask_suffix, pairing)
            if self.in_one_folder and (turned := self._turned(pairing)):
                kind = _Kind(affixes.image_prefix + affixes.image_suffix, turned)
            key = frozenset(kind.pairing.mask_of.values())
            if any(key & other for other in kinds) and count < enough:
                continue
            # In one folder masks pair with masks, too; the photo is the least plain.
            if key not in kinds or (
                self.in_one_folder and self._plainness(kind.pairing) > self._plainness(kinds[key].pairing)
            ):
                kinds[key] = kind
            if not (self.in_one_folder or pairing.unpaired) and len(pairing.files) >= len(self.pictures):
                break
        if self.in_one_folder and len(kinds) > 1:
            right = [kind for kind in kinds.values() if _looks_right(kind.pairing)]
            return right or list(kinds.values())
        return list(kinds.values())

    def _kinds_by_folders(self, images: Folder, masks: Folder) -> list[_Kind]:
        """Masks of the same names in folders side by side, each with its images."""
        for level in reversed(range(max(path.count("/") for path in masks.files))):
            folders: dict[str, list[str]] = defaultdict(list)
            names = set()
            deep = [path for path in masks.files if path.count("/") > level]
            for path in deep:
                parts = PurePosixPath(path).parts
                folders[parts[level]].append(path)
                names.add((parts[:level], PurePosixPath(*parts[level + 1 :]).with_suffix("")))
            if not 2 <= len(folders) <= _MOST_CLASSES or len(names) == len(deep):
                continue
            kinds = []
            for name, files in folders.items():
                of_names = self._kinds_by_names(images, replace(masks, files=tuple(files)))
                if of_names:
                    kinds.append(
                        _Kind(name, max(of_names, key=lambda kind: len(kind.pairing.entries)).pairing)
                    )
            if kinds:
                return kinds
        return []

    def _resolved(self, kinds: list[_Kind]) -> Pairing:
        """Makes one pairing of several kinds of masks."""
        most = max(len(kind.pairing.entries) for kind in kinds)
        # With one kind of mask only, nothing needs to be opened.
        if len(kinds) > 1 and (classes := self._as_classes(kinds)):
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
        pairing = chosen.pairing
        if others:
            shown = ", ".join(sorted(str(kind.pairing.dataset["masks"]) for kind in others))
            note = f"images have masks of other kinds, too: {shown}; taken are {pairing.dataset['masks']}"
            besides = frozenset(mask for kind in others for mask in kind.pairing.mask_of.values())
            pairing = replace(pairing, notes=(*pairing.notes, note), besides=besides)
        return pairing

    def _as_classes(self, kinds: list[_Kind]) -> Pairing | None:
        """One pattern a class, where masks hold one value each and do not mark the same."""
        names = class_names([kind.label for kind in kinds])
        if names is None:
            return None
        relations = compare_all(self.root, [kind.pairing.mask_of for kind in kinds])
        if relations & {Relation.SAME, Relation.NOT_BINARY} or relations == {Relation.NEVER_BOTH}:
            return None
        # The larger first: the smaller lies on top.
        areas = [mean_area(self.root, [entry.mask for entry in kind.pairing.entries]) for kind in kinds]
        ordered = sorted(
            zip(names, kinds, areas, strict=True), key=lambda each: (-round(each[2], 2), natural(each[0]))
        )
        largest = max(kinds, key=lambda kind: len(kind.pairing.entries))
        patterns = {name: kind.pairing.dataset["masks"] for name, kind, _ in ordered}
        pairing = self.scan(largest.pairing.dataset["images"], patterns)
        if pairing is None:
            return None
        note = (
            f"images have a mask file for each of {len(names)} classes, by their names: {', '.join(patterns)}"
        )
        if relations - {Relation.APART, Relation.NEVER_BOTH}:
            note += "; some lie over each other, and there the later of dataset.masks counts"
        return replace(pairing, notes=(*pairing.notes, note))

    def _united(self, kind: _Kind) -> Pairing | None:
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
            for path in self.pictures
            if path not in paired
            and (match := counted.fullmatch(split_suffix(path.rpartition("/")[2])[0]))
            and match[1] in cores
        ]
        if not further:
            return None
        head, _, tail = pattern.rpartition("*")
        of_base = _escape(base)
        united = self.scan(pairing.dataset["images"], f"{head}*{of_base}*{PurePosixPath(tail).suffix}")
        several = [entry for entry in united.entries if entry.parts] if united else []
        if united is None or not several or len(united.entries) < len(pairing.entries):
            return None
        relation, note = _relation_of_parts(self.root, several)
        if relation in (Relation.APART, Relation.OVERLAPPING):
            return replace(united, notes=(*united.notes, note))
        note = (
            f"{len(several)} images have several masks, {relation.value}: not used are "
            f"{some(further, counted=True)}; taken are {pattern}"
        )
        return replace(pairing, notes=(*pairing.notes, note), besides=frozenset(further))

    def _several(self, pairing: Pairing) -> Pairing | None:
        """Masks that folders alone bring to an image; of several that mark the same, those of one name."""
        several = [entry for entry in pairing.entries if entry.parts]
        if not several:
            return None
        relation, note = _relation_of_parts(self.root, several)
        if relation is not Relation.SAME:
            return replace(pairing, notes=(*pairing.notes, note))
        names = Counter(PurePosixPath(part.path).name for entry in several for part in entry.parts)
        most = max(names.values())
        name = min((name for name, count in names.items() if count == most), key=natural)
        folders = str(pairing.dataset["masks"]).rpartition("/")[0]
        single = self.scan(pairing.dataset["images"], _joined(folders, _escape(name)))
        if single is None or len(single.entries) < len(pairing.entries):
            raise InitError(
                f"{len(several)} images have several masks that mark the same, such as "
                f"{some(several[0].mask_files, counted=True)}; leave one of each in the folder"
            )
        further = {part.path for entry in several for part in entry.parts} - single.files
        note = f"{len(several)} images have several masks, {relation.value}: taken are {name}"
        return replace(single, notes=(*single.notes, note), besides=frozenset(further))

    def _best(self, images: Folder, masks: Folder, affixes: Affixes) -> Pairing | None:
        best: Pairing | None = None
        patterns = list(_image_patterns(images, masks, affixes, self.root))
        for image_pattern, mask_pattern in product(patterns, _mask_patterns(masks, affixes, self.root)):
            pairing = self.scan(image_pattern, mask_pattern)
            if pairing is None:
                continue
            if best is None or _worth(pairing) > _worth(best):
                best = pairing
            if not (best.unpaired or _overlap(best)) and len(best.files) >= len(self.pictures):
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
        return self.scan(pairing.dataset["masks"], pairing.dataset["images"])

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
        start = _common_folders([entry.image for entry in pairing.entries], few) or images.rpartition("/")[0]
        names = [images.rpartition("/")[2]]
        if self.in_one_folder:
            # Told apart by their folders, images need no more.
            used = [entry.image for entry in pairing.entries]
            names = [*(f"*{suffix}" for suffix in _suffix_patterns(used, "")[::-1]), *names]
        mask_patterns = [masks]
        if isinstance(masks, str) and (below := _common_folders([entry.mask for entry in pairing.entries])):
            mask_patterns.insert(0, _joined(below, masks.rpartition("/")[2]))
        pairs = set(pairing.mask_of.items())
        for name, mask_pattern in product(names, mask_patterns):
            if (image_pattern := _joined(start, name)) == images and mask_pattern == masks:
                break
            tidied = self.scan(image_pattern, mask_pattern)
            if tidied and _worth(tidied) >= _worth(pairing) and set(tidied.mask_of.items()) == pairs:
                return replace(tidied, notes=pairing.notes, besides=pairing.besides)
        return pairing

    def unused(self, pairing: Pairing) -> Iterator[str]:
        """Says what lies in the folders and is not used, by folder and suffix."""
        named = pairing.files | pairing.besides | {item.file for item in pairing.unpaired}
        left = [path for path in self.listing if path not in named]
        kinds = {
            "pictures that match no pattern": [p for p in left if _suffix(p) in MASKS],
            "pictures in formats that are not read here": [p for p in left if _suffix(p) in UNREAD_PICTURES],
        }
        for what, files in kinds.items():
            if files:
                patterns = (f"{PurePosixPath(path).parent}/*{PurePosixPath(path).suffix}" for path in files)
                groups = Counter(pattern.removeprefix("./") for pattern in patterns)
                shown = f"{some_counts(groups)} (such as {printable(files[0])})"
                beside = ""
                if _suffix(files[0]) in MASKS and len(files) >= len(pairing.entries):
                    taken = pairing.dataset["masks"]
                    beside = f"; if the masks are there, not at {taken}, name their folder as --masks"
                yield f"{len(files)} {what} are not used: {shown}{beside}"
        rest = Counter(
            _suffix(path) or "without suffix" for path in left if _suffix(path) not in MASKS | UNREAD_PICTURES
        )
        if rest:
            yield f"{rest.total()} other files are not used: {some_counts(rest)}"


def _relation_of_parts(root: Path, several: Sequence[Entry]) -> tuple[Relation, str]:
    """How the first two masks of images lie, and what to say if all are united."""
    first, second = ({entry.image: entry.parts[at].path for entry in several} for at in (0, 1))
    files = sum(len(entry.parts) for entry in several)
    note = f"{len(several)} images have several masks, {files} files: what they mark is united"
    if len({len(entry.parts) for entry in several}) == 1 and len(several) >= _ALIKE:
        note += "; each has as many: if they are classes, give dataset.masks a pattern for each"
    return compare(root, first, second), note


def _common_folders(files: Sequence[str], few: bool = False) -> str:
    """A pattern for the folders of these files alone; empty where they lie in differently deep ones.

    Where it shall name ``few``, those of a level stand in it by name.
    """
    folders = {PurePosixPath(file).parent.parts for file in files}
    if len({len(parts) for parts in folders}) > 1:
        return ""
    pattern = []
    for names in zip(*sorted(folders), strict=True):
        part = folder_pattern(names)
        unique = sorted(set(names))
        if few and part == "*" and len(unique) <= _MOST_KINDS and not re.search("[,{}]", "".join(unique)):
            part = f"{{{','.join(unique)}}}"
        pattern.append(part)
    return "/".join(pattern)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _worth(pairing: Pairing) -> tuple[int, int, bool]:
    return len(pairing.entries), -len(pairing.unpaired), not _overlap(pairing)


def _overlap(pairing: Pairing) -> bool:
    """Whether the pattern of the images finds masks, too."""
    images = FilePattern(pairing.dataset["images"])
    return images.match(pairing.entries[0].mask) is not None


def _all_affixes(images: Folder, masks: Folder) -> list[tuple[Affixes, int]]:
    """What names add, with the number of pairs that come of it, as far as names tell."""
    image_names, mask_names = ([_stem(path) for path in each.files] for each in (images, masks))
    found = dict(find_affixes(image_names, mask_names))
    if shared := {*_absolute(images)} & {*_absolute(masks)}:
        # Every file would also pair with itself.
        times = Counter(_stem(path) for path in {*_absolute(images)} | {*_absolute(masks)})
        twice = sum(times[stem] > 1 for stem in {_stem(path) for path in shared})
        for affixes in found:
            if affixes.image_prefix == affixes.mask_prefix and affixes.image_suffix == affixes.mask_suffix:
                found[affixes] = min(found[affixes], twice)
    if any(PurePosixPath(name).suffix.lower() in PICTURES or "." in name for name in mask_names[:_VOTERS]):
        # b.jpg.png keeps the whole name of b.jpg.
        whole = find_affixes([composed(PurePosixPath(path).name) for path in images.files], mask_names)
        most = max(found.values(), default=0)
        found |= {affixes: count for affixes, count in whole if count > most and not affixes.image_suffix}
    return sorted(
        ((affixes, count) for affixes, count in found.items() if count),
        key=lambda item: (-item[1], item[0].length),
    )


def _absolute(folder: Folder) -> Iterator[str]:
    return (f"{folder.path}/{path}" for path in folder.files)


def _image_patterns(images: Folder, masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    files = [path for path in images.files if affixes.image_core(_stem(path)) is not None]
    names = [_escape(affixes.image_prefix) + "*"]
    nested = images.path.is_relative_to(masks.path) or masks.path.is_relative_to(images.path)
    if nested and affixes.mask_suffix and not affixes.image_suffix:
        # Masks lie among the images, maybe of several kinds: all their names end in other characters.
        cores = {affixes.image_core(_stem(path)) for path in files}
        last = {affixes.mask_suffix[-1]} | {
            stem[-1]
            for path in masks.files
            if (stem := _stem(path))
            and (cut := re.search(r"[_\-. ][^_\-. ]*$", stem))
            and stem[: cut.start()] in cores
        }
        named = {core for path in masks.files if (core := affixes.mask_core(_stem(path)))}
        names += [names[0] + "[0-9]", f"{names[0]}[!{affixes.mask_suffix[-1]}]"]
        lengths = {len(_stem(path)) for path in files if _stem(path) in named}
        names += ["?" * lengths.pop()] if len(lengths) == 1 else []
        names += [f"{names[0]}[!{''.join(sorted(last - set('!]-^')))}]"] if len(last) > 1 else []
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
            yield f"{folder}{_escape(affixes.mask_prefix)}*{suffix}"


def _folder_patterns(folder: Folder, files: Sequence[str], root: Path) -> list[str]:
    """The part of a pattern up to the last slash."""
    base = folder.path.relative_to(root).as_posix()
    start = "" if base == "." else _escape(base) + "/"
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
    spelled = Counter(split_suffix(path)[1] for path in files)
    # Patterns find files in any case: the most frequent spelling stands for the others.
    suffixes: dict[str, str] = {}
    for suffix, _ in spelled.most_common():
        suffixes.setdefault(suffix.lower(), suffix)
    patterns = [_escape(affix) + suffix for suffix in list(suffixes.values())[:_SUFFIXES]]
    if len(suffixes) > 1:
        words = ",".join(suffix.removeprefix(".") for suffix in suffixes.values())
        patterns.append(f"{_escape(affix)}.{{{words}}}")
    return patterns


def _escape(text: str) -> str:
    return re.sub(r"[*?\[{]", r"[\g<0>]", text)


def _suffix(path: str) -> str:
    return split_suffix(path)[1].lower()


def _stem(path: str) -> str:
    return composed(split_suffix(path.rpartition("/")[2])[0])


def find_affixes(images: Collection[str], masks: Collection[str]) -> list[tuple[Affixes, int]]:
    """Finds what names add to the part that images and masks have in common.

    Every part of a mask's name that is the name of an image is a vote for what stands around it. Names are
    without folder and last suffix.

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
    """Nothing, and what many images' names begin or end with, cut where a word begins or ends."""
    yield "", ""
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
    yield from (("", ending) for ending in endings)
    yield from ((beginning, "") for beginning in beginnings)


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
