"""Which pair belongs to train, val and test: by share, or as the data itself says."""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, combinations, takewhile
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag, field_validator, model_validator

from components.dataset.features import SPLITS
from components.errors import StageError, printable
from components.folders import open_file
from components.image_mask_example_gen.layouts.file_pattern import composed, folders_regex
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.report import Reason, Rejection
from components.settings import Settings

OFFICIAL: Final = "the dataset's own list"
TABLES: Final = (".csv", ".tsv")
"""Suffixes of files with rows of cells."""

# YAML and --set know lists only, which strict validation would not take for a tuple.
_OneOrMore = Annotated[
    tuple[str, ...],
    Strict(False),
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]


class DeclaredSplit(Settings):
    """What the data itself says is in a split, in one of four ways; paths are under ``dataset.root``."""

    folder: _OneOrMore | None = None
    """Folder of the split's images, such as ``images/val``, or several; ``*`` stands for any name in it,
    ``**`` for any folders."""
    list: _OneOrMore | None = None
    """Text file or table (``.csv``, ``.tsv``, with headings or without) that names the split's pairs, one a
    line, or several: a name or a path of image or mask, with suffix or without; further columns are passed
    over."""
    csv: str | None = None
    """Table with headings and a row a pair, which names it in any column; with ``column`` and ``value``."""
    column: str | None = None
    """Heading in ``csv`` of what says the split."""
    value: _OneOrMore | None = None
    """What stands there for this split, or several such words."""
    pattern: str | None = None
    """Regular expression searched in the path of the image."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        ways = [key for key in ("folder", "list", "csv", "pattern") if getattr(self, key) is not None]
        if len(ways) != 1:
            given = " and ".join(ways) or "none"
            raise ValueError(f"a declared split has one of folder, list, csv and pattern; here is {given}")
        table = [self.csv is not None, self.column is not None, self.value is not None]
        if any(table) and not all(table):
            raise ValueError("csv, column and value go together: {csv: split.csv, column: split, value: val}")
        for path in (*(self.folder or ()), *self.files):
            if not path or path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"{path!r} must stay under dataset.root")
        if self.pattern is not None:
            check_regex(self.pattern)
        for folder in self.folder or ():
            folders_regex(folder)
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The files that say it, relative to the root."""
        return (*(self.list or ()), *((self.csv,) if self.csv is not None else ()))

    def __str__(self) -> str:
        """Says it in a few words."""
        if self.folder is not None:
            return f"folder {', '.join(self.folder)}"
        if self.list is not None:
            return f"list {', '.join(self.list)}"
        if self.csv is not None:
            return f"{self.csv}, {self.column} = {' or '.join(self.value or ())}"
        return f"names that match {self.pattern!r}"


_Declared = Annotated[DeclaredSplit, Tag("declared")]
# Told apart beforehand, so that a block with a mistake is not told that it is no number.
_EITHER = Discriminator(
    lambda value: {dict: "declared", DeclaredSplit: "declared", float: "share", int: "share"}.get(
        type(value)
    ),
    custom_error_type="no_split",
    custom_error_message="should be a share such as 0.15, or what the data declares: {folder: images/val}",
)


class SplitConfig(Settings):
    """How examples are divided: by share, or as the data says.

    A dataset with official lists keeps them; where only its val is official, that is the test split.
    """

    train: DeclaredSplit | None = None
    """What is learnt from; null is all that is in neither of the others. Where it is declared, pairs in no
    split are set aside."""
    val: Annotated[Annotated[float, Field(ge=0.0, lt=1.0), Tag("share")] | _Declared, _EITHER] = 0.15
    """For checkpoint choice: the fraction of all pairs, of the training split's where that or test is
    declared; or what the data says."""
    test: Annotated[Annotated[float, Field(gt=0.0, lt=1.0), Tag("share")] | _Declared, _EITHER] = 0.15
    """What only the Evaluator sees: the fraction likewise, or what the data says."""
    seed: int = Field(default=0, ge=0)
    """Another seed, another division."""
    group: str | None = None
    """Regular expression searched in the key; keys with the same match (its first group, where it has
    one) stay in one split, for example ``^(seq\\d+)_`` for the frames of one video. What the data declares
    is kept as it is. ``cityscapes``: null for ``^([^_]+)_``, a city."""

    @field_validator("group")
    @classmethod
    def _group_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            check_regex(value)
        return value

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        shares = [share for share in (self.val, self.test) if isinstance(share, float)]
        if sum(shares) >= 1.0:
            raise ValueError(f"val ({self.val}) and test ({self.test}) leave nothing to train on; lower one")
        return self

    @property
    def declared(self) -> dict[str, DeclaredSplit]:
        """The splits that the data declares, by name."""
        given = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in given.items() if isinstance(split, DeclaredSplit)}

    @property
    def files(self) -> tuple[str, ...]:
        """The files that decide about the splits, relative to the root."""
        return tuple(dict.fromkeys(path for split in self.declared.values() for path in split.files))


def check_regex(pattern: str) -> None:
    """Raises ValueError for what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error


class Declared(NamedTuple):
    """A scan whose entries know their split where the data declares it."""

    scan: Scan
    """``official_split`` is ``val``, ``test``, or else what train is made of."""
    origins: dict[str, str]
    """Of each declared split, what declares it."""


def declare(scan: Scan, config: SplitConfig, root: Path) -> Declared:
    """Gives each entry the split that the recipe's declarations or else the dataset's own lists say.

    Where train is declared, pairs in no split are set aside as unlisted, and so are images without a mask: a
    test set without labels does not count as damage. A name in a list that no pair has is rejected.

    Raises:
      StageError: a list cannot be read, names two pairs, or has a pair that is in another split, too; or a
        declared split has no pair.
    """
    declared = config.declared
    origins = {name: str(split) for name, split in declared.items()}
    names, official_origins = _official_names(scan.entries, config)
    origins = official_origins | origins
    if not declared:
        entries = [replace(entry, official_split=names.get(entry.official_split)) for entry in scan.entries]
        return Declared(replace(scan, entries=entries), origins)

    members = _Members(scan, root)
    splits: dict[str, str] = {}
    for name, split in declared.items():
        for image in members.of(split, f"dataset.splits.{name}"):
            if splits.setdefault(image, name) != name:
                raise StageError(
                    f"{printable(image)} is in {splits[image]} ({origins[splits[image]]}) and in {name} "
                    f"({split}); a picture belongs to one split: take it out of one of them"
                )
    entries = []
    aside: list[Rejection] = []
    for entry in scan.entries:
        official = names.get(entry.official_split)
        # A declaration takes the place of the dataset's own list, which may hold more.
        if entry.image not in splits and (official or "train") in declared:
            found = f"in no split that the data declares; its mask {entry.mask} stays aside as well"
            aside.append(Rejection(entry.image, Reason.UNLISTED, found))
        else:
            entries.append(replace(entry, official_split=splits.get(entry.image, official)))
    present = Counter(entry.official_split for entry in entries)
    for name, split in declared.items():
        if not present[name]:
            raise StageError(f"dataset.splits.{name}: no pair of image and mask is in it ({split})")
    # An official split all of which a declaration has claimed is none: a share is drawn in its place.
    origins = {name: origin for name, origin in origins.items() if name in declared or present[name]}
    rejected = [_if_wanted(item, members, splits, "train" in declared) for item in scan.rejected]
    divided = replace(scan, entries=entries, rejected=[*rejected, *aside, *members.missing])
    return Declared(divided, origins)


def _official_names(
    entries: Sequence[Entry], config: SplitConfig
) -> tuple[dict[str | None, str], dict[str, str]]:
    """Returns the split of each official one, and of each split that one makes, what declares it."""
    official = {entry.official_split for entry in entries} - {None}
    names: dict[str | None, str] = {"train": "train", "trainval": "train", "test": "test", "val": "val"}
    origins = {names[name]: OFFICIAL for name in official}
    if "val" in official and "test" not in official and "test" not in config.declared:
        names["val"] = "test"
        origins.pop("val")
        origins["test"] = f"{OFFICIAL} of val, as it has none of test"
    elif config.val == 0.0:
        names["val"] = "train"
        origins.pop("val", None)
    return names, origins


def _if_wanted(item: Rejection, members: "_Members", splits: dict[str, str], all_declared: bool) -> Rejection:
    """An unpaired file that no split asks for is none that is missing a partner."""
    if item.reason not in _UNPAIRED or not all_declared or members.wants(item, splits):
        return item
    return Rejection(item.file, Reason.UNLISTED, f"in no split that the data declares, and {item.found}")


_UNPAIRED: Final = (Reason.IMAGE_WITHOUT_MASK, Reason.MASK_WITHOUT_IMAGE)


class _Members:
    """Finds what declared splits consist of: the images of pairs, and files whose partner is missing."""

    def __init__(self, scan: Scan, root: Path):
        self._root = root
        self._entries = scan.entries
        self._unpaired = [item.file for item in scan.rejected if item.reason in _UNPAIRED]
        self._by_path = False
        self._tables: dict[tuple[str, int], list[Line]] = {}
        """By path and column of the split, the rows of a table."""
        self.missing: list[Rejection] = []
        """Names in lists that no file has."""

    @cached_property
    def _names(self) -> "PairNames":
        return PairNames(self._entries, self._unpaired)

    def of(self, split: DeclaredSplit, key: str) -> Iterator[str]:
        """Yields the image of each pair, and each unpaired file, that is in the split."""
        if split.folder is not None or split.pattern is not None:
            self._by_path = True
            yield from filter(_path_test(split), (*(each.image for each in self._entries), *self._unpaired))
        elif split.list is not None:
            for path in split.list:
                yield from self._listed(path, listed_names(self._root, path, f"{key}.list", self._names))
        else:
            yield from self._listed(str(split.csv), self._table_rows(split, key))

    def wants(self, item: Rejection, splits: dict[str, str]) -> bool:
        """Whether a split asks for an unpaired file; no path of an image tells that of a mask."""
        return item.file in splits or (self._by_path and item.reason is Reason.MASK_WITHOUT_IMAGE)

    def _listed(self, path: str, lines: Iterable["Line"]) -> Iterator[str]:
        for number, spellings in lines:
            found = self._names.find_first(spellings)
            if len(found) > 1:
                raise StageError(
                    f"{path}, line {number}: {printable(spellings[0])!r} names {len(found)} pairs, "
                    f"{printable(found[0])} and {printable(found[1])}; write the folder with the name"
                )
            if not found and not (number == 1 and is_table(path)):  # Headings are no name.
                where = f"{path}, line {number}; no file has this name"
                self.missing.append(Rejection(spellings[0], Reason.LISTED_ONLY, where))
            yield from found

    def _table_rows(self, split: DeclaredSplit, key: str) -> Iterator["Line"]:
        """Yields the rows of a split's table, as ``list`` has lines.

        Raises:
          StageError: it cannot be read, has no such column, or no such value in it.
          AmbiguousColumnsError: two of its columns name pairs, and not the same.
        """
        path = str(split.csv)
        rows = read_table(read_declaration(self._root, path, f"{key}.csv"))
        headings = rows[0] if rows else []
        if split.column not in headings:
            raise StageError(
                f"{key}.column: {path} has no column {split.column!r}; it has {', '.join(headings) or 'none'}"
            )
        place = headings.index(str(split.column))
        chosen = {
            number
            for number, row in enumerate(rows[1:], start=2)
            if len(row) > place and row[place].strip() in (split.value or ())
        }
        if not chosen:
            values = sorted({row[place].strip() for row in rows[1:] if len(row) > place})
            raise StageError(
                f"{key}.value: {' or '.join(split.value or ())} stands nowhere in the column {split.column} "
                f"of {path}; there is {', '.join(values[:5]) or 'nothing'}"
            )
        # Three splits of one table are one choice of its column.
        if (path, place) not in self._tables:
            self._tables[path, place] = table_names(path, rows, self._names, place)
        yield from (line for line in self._tables[path, place] if line[0] in chosen)


def _path_test(split: DeclaredSplit) -> Callable[[str], bool]:
    if split.pattern is not None:
        regex = re.compile(split.pattern)
        return lambda path: regex.search(path) is not None
    below = [re.compile(folders_regex(folder) + ".*", re.DOTALL) for folder in split.folder or ()]
    return lambda path: any(regex.fullmatch(path) for regex in below)


class PairNames:
    """Finds pairs by what a list calls them: a name, or a path whose beginning may be another machine's."""

    def __init__(self, entries: Sequence[Entry], unpaired: Sequence[str] = ()):
        self._files: dict[str, dict[str, set[str]]] = {}
        """By the name in lower case: the images and how their pairs may be called, suffixes left out."""
        self._folders: set[str] = set()
        """Folders in lower case that hold any pair, at whatever depth."""
        for entry in entries:
            for called in (*map(_stemmed, map(_slashed, (entry.image, entry.mask))), _slashed(entry.key)):
                self._add(entry.image, called)
                self._folders.update(map(str, PurePosixPath(called.casefold()).parents))
        for file in unpaired:
            self._add(file, _stemmed(_slashed(file)))

    def _add(self, file: str, called: str) -> None:
        name = called.casefold().rpartition("/")[2]
        self._files.setdefault(name, {}).setdefault(file, set()).add(called)

    def find(self, name: str) -> list[str]:
        """Returns the images (of unpaired masks: these) that agree with most of the name's last parts.

        Upper and lower case count only where nothing else tells two of them apart. A name with a folder
        beside a pair's own is not that pair's: where ``val/1.png`` is missing, ``train/1.png`` is not it.
        """
        name = _slashed(name)
        for called in (name, _stemmed(name)):
            files = {
                file: others
                for file, others in self._files.get(called.rpartition("/")[2].casefold(), {}).items()
                if not self._lies_elsewhere(called, others)
            }
            if len(files) == 1:
                return list(files)
            if files:
                agreeing = {
                    file: max(_agreement(called, other) for other in others) for file, others in files.items()
                }
                most = max(agreeing.values())
                return [file for file, count in agreeing.items() if count == most]
        return []

    def find_first(self, spellings: Iterable[str]) -> list[str]:
        """Returns what the first of some spellings finds that finds anything."""
        return next(filter(None, map(self.find, spellings)), [])

    def _lies_elsewhere(self, name: str, others: Collection[str]) -> bool:
        """Whether the name has a folder that lies beside a pair's own, and is none of its own."""
        paths = [other.casefold().split("/") for other in others]
        agreeing = [_agreement(name, other)[0] for other in others]
        most = max(agreeing)
        foreign = set(name.casefold().split("/")[:-most]).difference(*(path[:-1] for path in paths))
        ends = zip(paths, agreeing, strict=True)
        above = [path[: -most - 1] for path, count in ends if count == most < len(path)]
        return any("/".join([*outer, folder]) in self._folders for outer in above for folder in foreign)


def _slashed(path: str) -> str:
    return composed(path.replace("\\", "/").removeprefix("./")).rstrip("/")


def _stemmed(path: str) -> str:
    """Leaves out a suffix; the decimals of a number are none."""
    stem, dot, suffix = path.rpartition(".")
    has_suffix = dot and "/" not in suffix and stem and not stem.endswith("/") and not _NUMBER.fullmatch(path)
    return stem if has_suffix else path


_NUMBER: Final = re.compile(r"[\d.,+-]+(?:e[+-]?\d+)?", re.IGNORECASE)


def _agreement(one: str, other: str) -> tuple[int, int]:
    """The number of last parts that agree, in any case and exactly."""
    ends = list(zip(reversed(one.split("/")), reversed(other.split("/")), strict=False))
    in_any_case = takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), ends)
    return sum(1 for _ in in_any_case), sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))


Line = tuple[int, Sequence[str]]
"""Number of a line, and what may be the name in it, the likeliest first."""


def listed_names(root: Path, path: str, key: str, names: PairNames) -> Iterator[Line]:
    """Yields the lines of a list, comments and empty ones left out; the first of a table may be its headings.

    Raises:
      StageError: it cannot be read.
      AmbiguousColumnsError: it is a table, and two of its columns name pairs, and not the same.
    """
    text = read_declaration(root, path, key)
    if is_table(path):
        yield from table_names(path, read_table(text), names)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if (line := line.strip()) and not line.startswith("#"):
            # Names may have blanks, and a line may have columns.
            columns = [column for column in re.split(r"[\s,;]+", line) if column]
            yield number, tuple(text.strip("\"'") for text in (line, *columns))


class AmbiguousColumnsError(StageError):
    """Two columns of a table name pairs, and not the same."""


def table_names(
    path: str, rows: Sequence[Sequence[str]], names: PairNames, split_column: int | None = None
) -> list[Line]:
    """Returns the rows of a table with the cells of the columns that name its pairs.

    One choice holds for the whole table: in a single row, the number of a row or patient may be the name of
    another row's pair. A column that names less than half as many pairs as another does so by accident.

    Args:
      path: the table, for messages.
      rows: its cells, the headings first, where it has any.
      names: what the pairs may be called.
      split_column: the column that says the split, where one does; the first row holds headings then.

    Raises:
      AmbiguousColumnsError: two columns fit, and name different pairs in a row.
    """
    first = 0 if split_column is None else 1
    cells = [[cell.strip() for cell in row] for row in rows]
    headings = cells[0] if cells else []
    named: dict[str, str | None] = {}
    for cell in set(chain.from_iterable(cells[first:])):
        # What several pairs share tells none of them: image.png in each case's folder.
        found = names.find(cell)
        named[cell] = found[0] if len(found) == 1 else None
    columns = [
        _Column.of(place, cells, first, named)
        for place in range(max(map(len, cells), default=0))
        if place != split_column
    ]
    chosen = _likeliest(columns)
    for one, other in combinations(chosen, 2):
        if one.contradicts(other):
            called = (_called(each.place, headings, names) for each in (one, other))
            raise AmbiguousColumnsError(
                f"{path}: column {next(called)} and column {next(called)} both name pairs, and not the same "
                "in each row; leave the one that tells the file, or write its names with their suffix"
            )
    chosen = chosen or sorted(columns, key=lambda column: not column.has_words)
    places = [column.place for column in chosen]
    lines = (
        (number, tuple(row[place] for place in places if len(row) > place and row[place]))
        for number, row in enumerate(cells[first:], start=first + 1)
    )
    return [line for line in lines if line[1]]


class _Column(NamedTuple):
    """What the cells of a column name."""

    place: int
    found: list[str | None]
    """Of each row, the pair that its cell means."""
    pairs: int
    """The number of pairs that it names, each counted once."""
    has_words: bool
    """Whether most of its cells are more than numbers."""
    has_heading: bool
    has_blanks: bool

    @classmethod
    def of(
        cls, place: int, rows: Sequence[Sequence[str]], first: int, named: Mapping[str, str | None]
    ) -> Self:
        cells = [row[place] if len(row) > place else "" for row in rows]
        filled = [cell for cell in cells[first:] if cell]
        found = [named[cell] if cell else None for cell in cells[first:]]
        return cls(
            place,
            found,
            pairs=len(set(filter(None, found))),
            has_words=2 * sum(not _NUMBER.fullmatch(cell) for cell in filled) > len(filled),
            has_heading=bool(cells[0]) and not cells[0].startswith("Unnamed:"),
            # A heading may be blank, and an empty line has no cells.
            has_blanks=not all(cell for cell, row in zip(cells[1:], rows[1:], strict=True) if any(row)),
        )

    @property
    def repeats(self) -> bool:
        """Whether it names a pair in two rows."""
        return self.pairs < sum(map(bool, self.found))

    def contradicts(self, other: Self) -> bool:
        """Whether both name a pair in some row, and not the same."""
        return any(one and two and one != two for one, two in zip(self.found, other.found, strict=True))


def _likeliest(columns: Sequence[_Column]) -> list[_Column]:
    """The columns that may name the pairs of a table."""
    most = max((column.pairs for column in columns), default=0)
    likely = [column for column in columns if column.pairs and 2 * column.pairs >= most]
    marks: tuple[Callable[[_Column], bool], ...] = (
        lambda column: column.has_words or column.has_heading,  # pandas numbers rows without one.
        lambda column: not column.has_blanks,  # Unlike what only some pairs have: a duplicate, a predecessor.
        lambda column: column.has_words,
        lambda column: not column.repeats,  # Unlike ages and counts.
    )
    for mark in marks:
        likely = list(filter(mark, likely)) or likely
    return likely


def _called(place: int, headings: Sequence[str], names: PairNames) -> str:
    """A column's heading, or its number where it has none."""
    heading = headings[place] if len(headings) > place else ""
    return printable(heading) if heading and not names.find(heading) else str(place + 1)


def is_table(path: str) -> bool:
    """Whether a file's name says that it has rows of cells."""
    return path.lower().endswith(TABLES)


def read_table(text: str) -> list[list[str]]:
    """Splits a table into rows of cells, by the separator that its headings have most of."""
    head = text.partition("\n")[0]
    # A cell may hold a whole mask, as run lengths or points; all of the text is in memory anyway.
    csv.field_size_limit(sys.maxsize)
    return list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count)))


def read_declaration(root: Path, path: str, key: str) -> str:
    """Reads a list or table; what is no UTF-8 stays as names of files have it.

    Raises:
      StageError: it cannot be read; the message begins with ``key``.
    """
    try:
        with open_file(root / path) as file:
            return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape").read()
    except OSError as error:
        raise StageError(f"{key}: {path} cannot be read under {root}: {error.strerror}") from error
