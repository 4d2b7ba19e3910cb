"""The division that the data itself declares, by folders, lists, tables or the names of files."""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from components.dataset.features import SPLITS
from components.errors import StageError, printable
from components.folders import files_below
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_lists import (
    TABLES,
    AmbiguousColumnsError,
    Line,
    PairNames,
    listed_names,
    read_table,
    table_names,
)
from components.image_mask_example_gen.split_names import SPELLINGS, split_name
from components.image_mask_example_gen.suffixes import PICTURES
from components.text_files import encoding_doubt, read_names
from pipeline.init import InitError
from pipeline.init.files import absolute, may_hold_anything, some, suffix_of
from pipeline.init.name_patterns import escape

_LISTS: Final = frozenset({".txt", ".lst", *TABLES})
_MAY_TELL: Final = _LISTS | {".json"}
_QUESTION: Final = re.compile(r"(?i)is[_ -]?(train|val|valid|validation|test)(?:ing)?")
"""Heading of a column that says yes or no."""
_YES: Final = frozenset({"true", "1", "1.0", "yes"})
_NO: Final = frozenset({"false", "0", "0.0", "no"})
_MOST_FILES: Final = 24
"""Lists or tables that are read, the likeliest first."""
_MOST_BESIDE: Final = 20
"""Folders beside the data's, one level above it."""
_MOST_FILES_OF_ONE: Final = 20_000
"""Looked at in a folder beside the data."""
_MOST_FILES_BESIDE: Final = 200_000
"""In all of them."""
_OF_VOC: Final = "imagesets"
"""Holds nothing but lists, in a folder for each task."""
_LARGEST_FILE: Final = 1 << 26
_MOST_VALUES: Final = 8
_NOT_USED: Final = "not used for the splits"
"""What a line about a list or a table begins with."""
_FITS: Final = 0.5
"""From this part of its names, or of the pairs, on, a list speaks of these pairs."""
_MOST_FOLDERS: Final = 4


@dataclass(frozen=True)
class FoundSplits:
    """What the data declares, as the recipe says it."""

    keys: Mapping[str, Any]
    """For ``dataset.splits``; empty where nothing is declared."""
    notes: tuple[str, ...] = ()
    """What deserves a look, a line each."""


class _Split(NamedTuple):
    declaration: dict[str, Any]
    """As a recipe says it."""
    images: frozenset[str]


@dataclass(frozen=True)
class _Source:
    """One place that tells splits apart."""

    kind: str
    """In words, for people."""
    splits: Mapping[str, _Split]
    """By name, ``trainval`` among them; those without an image are left out."""

    def images(self, split: str) -> frozenset[str]:
        return self.splits[split].images if split in self.splits else frozenset()


@dataclass
class _Files:
    """What may be lists, relative to the root."""

    own: list[str] = field(default_factory=list)
    """The nearest to the data first."""
    others: list[str] = field(default_factory=list)
    """Those of another set, as it seems, or of another form of the masks."""
    cut: list[Path] = field(default_factory=list)
    """Folders beside the data that may hold more of them."""


def find_splits(
    root: Path, folders: Sequence[Path], entries: Sequence[Entry], unpaired: Sequence[Rejection]
) -> FoundSplits:
    """Looks how the data itself divides the pairs.

    Folders come first, then lists, tables, and the names of the files.

    Args:
        root: what the pairs' paths are relative to.
        folders: those of images and of masks.
        entries: the pairs.
        unpaired: what has no partner.

    Raises:
        InitError: folders named like splits cannot be kept apart, or leave nothing to train on.
    """
    alone = [item.file for item in unpaired if item.reason is Reason.IMAGE_WITHOUT_MASK]
    unused: list[str] = []
    files = _find_files(root, folders)
    found = (
        _in_folders(root, entries, alone),
        _in_lists(root, files.own, entries, alone, unused),
        _in_tables(root, files.own, entries, alone, unused),
        _in_names(entries),
    )
    sources = [source for source in found if source is not None]
    if not sources:
        notes = [
            *dict.fromkeys(unused),
            *_too_many(root, files.own),
            *_unread(root, files.own),
            *_elsewhere(root, files, entries, alone),
        ]
        return FoundSplits({}, tuple(notes))
    chosen, *others = sources
    chosen = next(filter(None, (_with_val(chosen, other) for other in others)), chosen)
    keys, notes = _keys(chosen)
    notes += dict.fromkeys(unused)
    notes += [
        f"{other.kind} divide these pairs otherwise than {chosen.kind}, which are taken; say the others in "
        "dataset.splits if they are right"
        for other in others
        if _contradict(chosen, other)
    ]
    declared = frozenset().union(*map(chosen.images, chosen.splits))
    if "train" in keys and (aside := [e.image for e in entries if e.image not in declared]):
        notes.append(
            f"{len(aside)} pairs are in no split that {chosen.kind} declare, and set aside: {some(aside)}"
        )
    return FoundSplits(keys, tuple(notes))


def splits_beside(folder: Path) -> str | None:
    """What to say of other splits that lie beside the one that was named; None where there are none."""
    folder = absolute(folder)
    for path in (folder, folder.parent):
        named = split_name(path.name)
        if named is None or not os.access(path.parent, os.R_OK):
            continue
        beside = sorted(
            each.name
            for each in path.parent.iterdir()
            if (other := split_name(each.name)) and other[2] == named[2] and other[0] != named[0]
            if each.is_dir()
        )
        if beside:
            return (
                f"beside {path.name} lie {', '.join(map(printable, beside))}: name the folder above as "
                "--images and --masks to take them as the data's own splits"
            )
    return None


def _with_val(one: _Source, other: _Source) -> _Source | None:
    """Adds val where another source divides what this one calls train, as lists do beside folders."""
    pool = one.images("train") | one.images("trainval")
    train, val, test = map(other.images, SPLITS)
    own_test = one.images("test")
    if one.images("val") or not (train and val and train | val <= pool and test <= (own_test or pool)):
        return None
    taken = {**other.splits, **({"test": one.splits["test"]} if own_test else {})}
    return _Source(
        f"{one.kind} and {other.kind}", {split: taken[split] for split in SPLITS if split in taken}
    )


def _keys(source: _Source) -> tuple[dict[str, Any], list[str]]:
    """What a recipe says of a source's splits; what is not declared there is a share of train."""
    found = {name: split.declaration for name, split in source.splits.items()}
    notes = []
    if "train" not in found and "trainval" in found and "val" not in found:
        found["train"] = found["trainval"]
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
        notes.append("the data declares val and no test: its val is the test split, and val a share of train")
    return {split: found[split] for split in SPLITS if split in found}, notes


def _contradict(one: _Source, other: _Source) -> bool:
    first, second = (
        {image: split for split in SPLITS for image in source.images(split)} for source in (one, other)
    )
    return any(second.get(image, split) != split for image, split in first.items())


def _tells_apart(splits: Collection[str | None]) -> bool:
    """Whether these are splits of one dataset, rather than the one that was named, or names of things."""
    return len(set(splits)) > 1 and bool({"val", "test"} & set(splits))


def _in_folders(root: Path, entries: Sequence[Entry], alone: Sequence[str]) -> _Source | None:
    folders = {path: path.split("/")[:-1] for path in (*(entry.image for entry in entries), *alone)}
    depth = max((len(parts) for parts in folders.values()), default=0)
    for level in range(depth):
        splits = {
            path: split_name(parts[level]) if level < len(parts) else None for path, parts in folders.items()
        }
        if _tells_apart([found[0] if found else None for found in splits.values()]):
            break
    else:
        return None
    members: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if (found := splits[entry.image]) is not None:
            _check_mask_lies_likewise(entry, found[0])
            members[found[0]].add(entry.image)
    if not members:
        return None
    if not members.keys() & {"train", "trainval"} and all(splits[entry.image] for entry in entries):
        raise InitError(
            f"the folders of the pairs are named {' and '.join(sorted(members))}, and none is for training; "
            "name the folder above them as --images and --masks, or one of them"
        )
    return _Source(
        "folders",
        {
            split: _Split(
                {"folder": _folders({tuple(folders[image][: level + 1]) for image in images})},
                frozenset(images),
            )
            for split, images in members.items()
        },
    )


def _check_mask_lies_likewise(entry: Entry, split: str) -> None:
    found = [name[0] for part in entry.mask.split("/")[:-1] if (name := split_name(part))]
    if found and split not in found:
        raise InitError(
            f"the image {printable(entry.image)} lies in {split} and its mask {printable(entry.mask)} in "
            f"{found[0]}: names alone would mix the splits; give --images and --masks for one split, or give "
            "images and masks the same folders"
        )


def _folders(folders: Collection[tuple[str, ...]]) -> str | list[str]:
    if len(folders) > _MOST_FOLDERS:
        *above, names = map(set, zip(*folders, strict=True))
        outer = [escape(next(iter(level))) if len(level) == 1 else "*" for level in above]
        return _one_or_all(["/".join([*outer, escape(name)]) for name in sorted(names)])
    return _one_or_all(["/".join(map(escape, parts)) for parts in sorted(folders)])


def _one_or_all(items: Sequence[str]) -> str | list[str]:
    return items[0] if len(items) == 1 else list(items)


def _in_lists(
    root: Path, files: Sequence[str], entries: Sequence[Entry], alone: Sequence[str], unused: list[str]
) -> _Source | None:
    """Looks for lists among the files; why one is not used is added to ``unused``."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in _of_kind(files, _LISTS):
        if found := split_name(PurePosixPath(path).stem):
            groups[str(PurePosixPath(path).parent), found[2]][found[0]].append(path)
    if not groups:
        return None
    names = PairNames(entries, alone)
    pairs = frozenset(entry.image for entry in entries)

    def likely(key: tuple[str, str]) -> tuple[bool, int]:
        # Of equally likely ones the nearest to the data, as the files come.
        return "segmentation" not in key[0].lower(), len(key[1])

    best: tuple[float, _Source] | None = None
    strange: dict[str, str] = {}
    for key in sorted(groups, key=likely)[:_MOST_FILES]:
        splits: dict[str, _Split] = {}
        listed = spoken_of = 0
        lines_of: dict[str, list[Line]] = {}
        useless: dict[str, str] = {}
        told: set[str] = set()
        for split, paths in groups[key].items():
            for path in paths:
                try:
                    lines_of[path] = _lines(root, path, names)
                except StageError as error:
                    unused.append(str(error))
                    useless.setdefault(split, path)
            readable = [path for path in paths if path in lines_of]
            lines = [spellings for path in readable for _, spellings in lines_of[path]]
            images = [image for spellings in lines for image in names.find_first(spellings)]
            if images:
                told.add(split)
            if members := pairs.intersection(images):
                splits[split] = _Split({"list": _one_or_all(readable)}, members)
                listed, spoken_of = listed + len(lines), spoken_of + len(images)
        united = frozenset().union(*(split.images for split in splits.values()))
        # Where the others name all pairs, one of none is of pictures that are not there, such as the test's.
        if united != pairs:
            for split in sorted(groups[key].keys() - told - useless.keys()):
                path = groups[key][split][0]
                doubt = encoding_doubt(name for _, spellings in lines_of[path] for name in spellings)
                if united:
                    useless[split] = path
                    unused.append(f"{_NOT_USED}: {printable(path)} names no pair{doubt}")
                elif doubt or key[1] == "{}" or _tells_apart(groups[key]):
                    strange[path] = doubt
        # Without the only list of a split the others divide otherwise: where test cannot be read, val would
        # be the test. One beside another, such as a table of masks beside train.txt, is no loss.
        needless = told | ({"trainval"} if "train" in told else set())
        if missing := [path for split, path in useless.items() if split not in needless]:
            if others := [path for path in lines_of if path not in missing]:
                unused.append(f"{_NOT_USED}: {some(others)}, as {printable(missing[0])} belongs to them")
            continue
        if not united or max(spoken_of / listed, len(united) / len(pairs)) < _FITS:
            continue
        if united == pairs and splits.keys() <= {"train", "trainval"}:
            continue  # One list of all pairs divides nothing.
        quality = min(1.0, spoken_of / listed) * len(united) / len(pairs)
        if best is None or quality > best[0]:
            best = quality, _Source("lists", splits)
    if not best and strange:
        unused.append(f"{_NOT_USED}: {some(list(strange))} name no pair{max(strange.values())}")
    return best[1] if best else None


def _lines(root: Path, path: str, names: PairNames) -> list[Line]:
    """Reads a list; raises StageError, which says that it is not used, where it cannot be relied on."""
    _check_small(root, path)
    try:
        return list(listed_names(root, path, _NOT_USED, names))
    except AmbiguousColumnsError as error:
        raise StageError(f"{_NOT_USED}: {error}") from None


def _in_tables(
    root: Path, files: Sequence[str], entries: Sequence[Entry], alone: Sequence[str], unused: list[str]
) -> _Source | None:
    """Looks for a table among the files; why one is not used is added to ``unused``."""
    names, pairs = None, frozenset(entry.image for entry in entries)
    for path in islice(_of_kind(files, TABLES), _MOST_FILES):
        try:
            _check_small(root, path)
            rows = read_table(read_names(root, path, _NOT_USED))
        except StageError as error:
            unused.append(str(error))
            continue
        for column, heading in enumerate(rows[0] if rows else ()):
            cells = {n: row[column].strip() for n, row in enumerate(rows[1:], 2) if len(row) > column}
            values = Counter(cells.values())
            spelt = _spelt(heading, list(islice(values, _MOST_VALUES + 1)))
            if len(values) > _MOST_VALUES or not _tells_apart([spelt.get(value) for value in values]):
                continue
            told = f"{_NOT_USED}: {printable(path)} tells splits in the column {printable(heading)}"
            if doubt := encoding_doubt([heading]):
                unused.append(told + doubt)
                continue
            names = names or PairNames(entries, alone)
            members: dict[str, set[str]] = defaultdict(set)
            try:
                lines = table_names(path, rows, names, column)
            except AmbiguousColumnsError as error:
                unused.append(f"{_NOT_USED}: {error}")
                continue
            for number, others in lines:
                if (split := spelt.get(cells.get(number, ""))) is not None:
                    members[split].update(names.find_first(others))
            kept = {split: of for split, images in members.items() if (of := pairs.intersection(images))}
            named = len(frozenset().union(*kept.values()))
            if named < _FITS * len(pairs):
                doubt = encoding_doubt(name for _, spellings in lines for name in spellings)
                unused.append(f"{told}, but names {named} of {len(pairs)} pairs{doubt}")
                continue
            splits = {}
            for split, images in kept.items():
                said = _one_or_all([value for value in spelt if spelt[value] == split])
                splits[split] = _Split({"csv": path, "column": heading, "value": said}, images)
            return _Source("tables", splits)
    return None


def _spelt(heading: str, values: Sequence[str]) -> dict[str, str]:
    """The split that each value of a column says: ``val``, or ``True`` under ``is_valid``."""
    if question := _QUESTION.fullmatch(heading.strip()):
        split = SPELLINGS[question[1].lower()]
        other = "test" if split == "train" else "train"
        answers = {**dict.fromkeys(_YES, split), **dict.fromkeys(_NO, other)}
        return {value: answers[value.lower()] for value in values if value.lower() in answers}
    return {value: found[0] for value in values if (found := split_name(value)) and found[2] == "{}"}


def _in_names(entries: Sequence[Entry]) -> _Source | None:
    found: dict[str, tuple[str, str, str]] = {}
    for entry in entries:
        if (name := split_name(PurePosixPath(entry.image).stem)) is None:
            return None
        found[entry.image] = name
    rests = {rest.partition("{}")[0] for _, _, rest in found.values()}
    if len(rests) != 1 or not _tells_apart([split for split, _, _ in found.values()]):
        return None
    members: dict[str, set[str]] = defaultdict(set)
    spelt: dict[str, set[str]] = defaultdict(set)
    for image, (split, word, rest) in found.items():
        members[split].add(image)
        # What the word is written together with, as in trainimg001, is part of it.
        kind = re.match("[A-Za-z]{2,}", rest.partition("{}")[2])
        spelt[split].add(word + (kind[0] if kind else ""))
    before = re.escape(rests.pop())
    splits = {}
    for split, images in members.items():
        words = "|".join(sorted(spelt[split]))
        either = f"(?:{words})" if "|" in words else words
        pattern = f"(?:^|/){before}{either}(?![a-z]|[A-Z]{{2}})[^/]*$"
        if images != {image for image in found if re.search(pattern, image)}:
            return None
        splits[split] = _Split({"pattern": pattern}, frozenset(images))
    return _Source("names", splits)


def _elsewhere(root: Path, files: _Files, entries: Sequence[Entry], alone: Sequence[str]) -> Iterator[str]:
    """Says which lists or tables divide the data, and lie where others' do, or out of a recipe's reach."""
    if files.cut:
        yield (
            f"{some(map(str, files.cut))}: too many files to look for lists of splits among all of them; "
            f"move such lists into {root} if there are any"
        )
    above = [] if may_hold_anything(root) else list(_near(root.parent))
    for start, near in ((root, files.others), (root.parent, above)):
        for find in (_in_lists, _in_tables):
            if source := find(start, near, entries, alone, []):
                named = {path for each in source.splits.values() for path in _paths(each.declaration)}
                shown = some(sorted(str(start / path) for path in named))
                yield (
                    f"{shown} seem to divide these pairs, and are not used: move them into {root} if they "
                    "are this data's"
                )
                return


def _paths(declaration: Mapping[str, Any]) -> Iterator[str]:
    said = declaration.get("list", declaration.get("csv", ()))
    yield from [said] if isinstance(said, str) else said


def _too_many(root: Path, files: Sequence[str]) -> Iterator[str]:
    """Says which tables were not read, as others lie nearer to the data."""
    if unread := list(_of_kind(files, TABLES))[_MOST_FILES:]:
        yield (
            f"{len(unread)} tables were not read for splits, as {_MOST_FILES} others lie nearer to the data "
            f"({some(unread)}): move one that has a column of splits right into {root}"
        )


def _unread(root: Path, files: Sequence[str]) -> Iterator[str]:
    """Says which JSON files seem to tell splits: no recipe can name them."""
    for path in islice(_of_kind(files, {".json"}), _MOST_FILES):
        try:
            _check_small(root, path)
            content = json.loads(read_names(root, path, path))
        except (StageError, ValueError, RecursionError):
            continue
        keys = content[0] if isinstance(content, list) and content else content
        if isinstance(keys, dict) and _tells_apart([SPELLINGS.get(str(key).lower()) for key in keys]):
            yield (
                f"{printable(path)} seems to divide the data, and no JSON is read for that: to keep its "
                "splits, write a list of each beside it, train.txt, val.txt and test.txt, a name a line"
            )


def _of_kind(files: Iterable[str], suffixes: Collection[str]) -> Iterator[str]:
    return (path for path in files if suffix_of(path) in suffixes)


def _check_small(root: Path, path: str) -> None:
    """Raises StageError for what is no file, or larger than a list."""
    file = root / path
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise StageError(f"{_NOT_USED}: {path} has more than {_LARGEST_FILE >> 20} MiB")
    except OSError as error:
        raise StageError(f"{_NOT_USED}: {path} cannot be read under {root}: {error.strerror}") from None
    if not file.is_file():
        raise StageError(f"{_NOT_USED}: {path} is no file")


def _find_files(root: Path, folders: Sequence[Path]) -> _Files:
    """Looks for what may be lists below the root, which is above both folders or one of them.

    They lie anywhere in the folders, right in those around them, or anywhere in a folder beside these. What
    holds pictures there is most likely another set, whose names are often the same.
    """
    found = _Files()
    if root in folders:
        found.own += _told(files_below(root, onerror=None))
        return found
    around = dict.fromkeys(above for each in folders for above in each.parents if above.is_relative_to(root))
    for folder in sorted(around):
        found.own += _told(_right_in(root, folder))
    for folder in dict.fromkeys(folders):
        start = folder.relative_to(root).as_posix()
        found.own += _told(f"{start}/{path}" for path in files_below(folder, onerror=None))
    left = _MOST_FILES_BESIDE
    in_folders_beside: list[str] = []
    for folder in sorted(around):
        for beside in _folders_in(folder):
            is_of_voc = beside.name.lower() == _OF_VOC
            if beside in folders or beside in around or (may_hold_anything(folder) and not is_of_voc):
                continue
            most = min(left, _MOST_FILES_OF_ONE)
            try:
                files = list(islice(files_below(beside, onerror=None), most + 1))
            except StageError:
                # Its links lead around.
                files = []
                found.cut.append(beside)
            left -= min(len(files), most)
            has_pictures = any(suffix_of(path) in PICTURES for path in files)
            if len(files) > most and not has_pictures:
                found.cut.append(beside)
            is_own = is_of_voc or not (has_pictures or len(files) > most)
            start = beside.relative_to(root).as_posix()
            (in_folders_beside if is_own else found.others).extend(_told(f"{start}/{path}" for path in files))
    # Results of experiments lie deep, and are many.
    found.own += sorted(in_folders_beside, key=lambda path: path.count("/"))
    return found


def _told(files: Iterable[str]) -> Iterator[str]:
    return _of_kind(files, _MAY_TELL)


def _near(root: Path) -> Iterator[str]:
    """Yields what may be lists in the folder above the data, and in its folders where they are few."""
    folders = [] if may_hold_anything(root) else _folders_in(root)
    for folder in (root, *(folders if len(folders) <= _MOST_BESIDE else ())):
        yield from _right_in(root, folder)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and os.access(p, os.R_OK)
        )
    except OSError:
        return []


def _right_in(root: Path, folder: Path) -> Iterator[str]:
    start = folder.relative_to(root).as_posix()
    prefix = "" if start == "." else f"{start}/"
    yield from (prefix + path for path in files_below(folder, onerror=None, depth=0))
