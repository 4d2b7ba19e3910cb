"""What folders, lists, tables and the names of files say, each by itself, of how the data is divided."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from components.errors import StageError, printable
from components.image_mask_example_gen.layouts.layout import Entry
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
from components.text_files import encoding_doubt, read_names
from pipeline.init import InitError
from pipeline.init.files import some
from pipeline.init.name_patterns import escape
from pipeline.init.split_files import LISTS, NOT_USED, check_small, of_kind

MOST_FILES: Final = 24
"""Lists or tables that are read, the likeliest first."""
_QUESTION: Final = re.compile(r"(?i)is[_ -]?(train|val|valid|validation|test)(?:ing)?")
"""Heading of a column that says yes or no."""
_YES: Final = frozenset({"true", "1", "1.0", "yes"})
_NO: Final = frozenset({"false", "0", "0.0", "no"})
_MOST_VALUES: Final = 8
_FITS: Final = 0.5
"""From this part of its names, or of the pairs, on, a list speaks of these pairs."""
_MOST_FOLDERS: Final = 4


class Split(NamedTuple):
    declaration: dict[str, Any]
    """As a recipe says it."""
    images: frozenset[str]


@dataclass(frozen=True)
class Source:
    """One place that tells splits apart."""

    kind: str
    """In words, for people."""
    splits: Mapping[str, Split]
    """By name, ``trainval`` among them; those without an image are left out."""

    def images(self, split: str) -> frozenset[str]:
        return self.splits[split].images if split in self.splits else frozenset()


def tells_apart(splits: Collection[str | None]) -> bool:
    """Whether these are splits of one dataset, rather than the one that was named, or names of things."""
    return len(set(splits)) > 1 and bool({"val", "test"} & set(splits))


def in_folders(root: Path, entries: Sequence[Entry], alone: Sequence[str]) -> Source | None:
    """Looks for the outermost folders of images that are named like splits; ``alone`` has no mask.

    Raises:
        InitError: an image's mask lies in another split's, or none of them is for training.
    """
    folders = {path: path.split("/")[:-1] for path in (*(entry.image for entry in entries), *alone)}
    depth = max((len(parts) for parts in folders.values()), default=0)
    for level in range(depth):
        splits = {
            path: split_name(parts[level]) if level < len(parts) else None for path, parts in folders.items()
        }
        if tells_apart([found[0] if found else None for found in splits.values()]):
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
    return Source(
        "folders",
        {
            split: Split(
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


def in_lists(
    root: Path, files: Sequence[str], entries: Sequence[Entry], alone: Sequence[str], unused: list[str]
) -> Source | None:
    """Looks for lists among the files; why one is not used is added to ``unused``."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in of_kind(files, LISTS):
        if found := split_name(PurePosixPath(path).stem):
            groups[str(PurePosixPath(path).parent), found[2]][found[0]].append(path)
    if not groups:
        return None
    names = PairNames(entries, alone)
    pairs = frozenset(entry.image for entry in entries)

    def likely(key: tuple[str, str]) -> tuple[bool, int]:
        # Of equally likely ones the nearest to the data, as the files come.
        return "segmentation" not in key[0].lower(), len(key[1])

    read = [
        _read_group(root, groups[key], names, pairs, plainly_named=key[1] == "{}")
        for key in sorted(groups, key=likely)[:MOST_FILES]
    ]
    unused += [line for group in read for line in group.unused]
    best = max(read, key=lambda group: group.quality)
    if best.quality:
        return Source("lists", best.splits)
    if strange := {path: doubt for group in read for path, doubt in group.strange.items()}:
        unused.append(f"{NOT_USED}: {some(list(strange))} name no pair{max(strange.values())}")
    return None


class _Group(NamedTuple):
    """What lists of one folder and one spelling, such as ``train.txt`` and ``val.txt``, say."""

    splits: dict[str, Split]
    quality: float
    """What part of their lines and of the pairs meet; 0 where they are not to be used."""
    unused: list[str]
    """Why not, a line each."""
    strange: dict[str, str]
    """Lists that name no pair, with a doubt of their encoding: worth a line where no others are used."""


def _read_group(
    root: Path,
    lists: Mapping[str, Sequence[str]],
    names: PairNames,
    pairs: frozenset[str],
    *,
    plainly_named: bool,
) -> _Group:
    """Reads the lists of each split; ``plainly_named`` are those whose names are the splits' alone."""
    splits: dict[str, Split] = {}
    listed = spoken_of = 0
    unused: list[str] = []
    strange: dict[str, str] = {}
    lines_of: dict[str, list[Line]] = {}
    useless: dict[str, str] = {}
    told: set[str] = set()
    for split, paths in lists.items():
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
            splits[split] = Split({"list": _one_or_all(readable)}, members)
            listed, spoken_of = listed + len(lines), spoken_of + len(images)
    united = frozenset().union(*(split.images for split in splits.values()))
    # Where the others name all pairs, one of none is of pictures that are not there, such as the test's.
    if united != pairs:
        for split in sorted(lists.keys() - told - useless.keys()):
            path = lists[split][0]
            doubt = encoding_doubt(name for _, spellings in lines_of[path] for name in spellings)
            if united:
                useless[split] = path
                unused.append(f"{NOT_USED}: {printable(path)} names no pair{doubt}")
            elif doubt or plainly_named or tells_apart(lists):
                strange[path] = doubt
    # One list of all pairs divides nothing.
    divides = united != pairs or not splits.keys() <= {"train", "trainval"}
    quality = 0.0
    # Without the only list of a split the others divide otherwise: where test cannot be read, val would
    # be the test. One beside another, such as a table of masks beside train.txt, is no loss.
    needless = told | ({"trainval"} if "train" in told else set())
    if missing := [path for split, path in useless.items() if split not in needless]:
        if others := [path for path in lines_of if path not in missing]:
            unused.append(f"{NOT_USED}: {some(others)}, as {printable(missing[0])} belongs to them")
    elif united and divides and max(spoken_of / listed, len(united) / len(pairs)) >= _FITS:
        quality = min(1.0, spoken_of / listed) * len(united) / len(pairs)
    return _Group(splits, quality, unused, strange)


def _lines(root: Path, path: str, names: PairNames) -> list[Line]:
    """Reads a list; raises StageError, which says that it is not used, where it cannot be relied on."""
    check_small(root, path)
    try:
        return list(listed_names(root, path, NOT_USED, names))
    except AmbiguousColumnsError as error:
        raise StageError(f"{NOT_USED}: {error}") from None


def in_tables(
    root: Path, files: Sequence[str], entries: Sequence[Entry], alone: Sequence[str], unused: list[str]
) -> Source | None:
    """Looks for a table among the files; why one is not used is added to ``unused``."""
    names, pairs = None, frozenset(entry.image for entry in entries)
    for path in islice(of_kind(files, TABLES), MOST_FILES):
        try:
            check_small(root, path)
            rows = read_table(read_names(root, path, NOT_USED))
        except StageError as error:
            unused.append(str(error))
            continue
        for column, heading in enumerate(rows[0] if rows else ()):
            cells = {n: row[column].strip() for n, row in enumerate(rows[1:], 2) if len(row) > column}
            values = Counter(cells.values())
            spelt = _spelt(heading, list(islice(values, _MOST_VALUES + 1)))
            if len(values) > _MOST_VALUES or not tells_apart([spelt.get(value) for value in values]):
                continue
            told = f"{NOT_USED}: {printable(path)} tells splits in the column {printable(heading)}"
            if doubt := encoding_doubt([heading]):
                unused.append(told + doubt)
                continue
            names = names or PairNames(entries, alone)
            members: dict[str, set[str]] = defaultdict(set)
            try:
                lines = table_names(path, rows, names, column)
            except AmbiguousColumnsError as error:
                unused.append(f"{NOT_USED}: {error}")
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
                splits[split] = Split({"csv": path, "column": heading, "value": said}, images)
            return Source("tables", splits)
    return None


def _spelt(heading: str, values: Sequence[str]) -> dict[str, str]:
    """The split that each value of a column says: ``val``, or ``True`` under ``is_valid``."""
    if question := _QUESTION.fullmatch(heading.strip()):
        split = SPELLINGS[question[1].lower()]
        other = "test" if split == "train" else "train"
        answers = {**dict.fromkeys(_YES, split), **dict.fromkeys(_NO, other)}
        return {value: answers[value.lower()] for value in values if value.lower() in answers}
    return {value: found[0] for value in values if (found := split_name(value)) and found[2] == "{}"}


def in_names(entries: Sequence[Entry]) -> Source | None:
    """Looks for splits in the names of the files themselves, which then all tell one."""
    found: dict[str, tuple[str, str, str]] = {}
    for entry in entries:
        if (name := split_name(PurePosixPath(entry.image).stem)) is None:
            return None
        found[entry.image] = name
    rests = {rest.partition("{}")[0] for _, _, rest in found.values()}
    if len(rests) != 1 or not tells_apart([split for split, _, _ in found.values()]):
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
        splits[split] = Split({"pattern": pattern}, frozenset(images))
    return Source("names", splits)
