"""Lists and tables that name a split's pairs: which files they are read as, and which pairs they mean."""

import csv
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, takewhile
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Self

from components.errors import StageError, printable
from components.image_mask_example_gen.layouts.file_pattern import composed
from components.image_mask_example_gen.layouts.layout import Entry
from components.text_files import read_names, windows_spelling

TABLES: Final = (".csv", ".tsv")
"""Suffixes of files with rows of cells."""


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
        One that is no UTF-8 is that of the same bytes, or else what Windows-1252 reads in them.
        """
        spellings = filter(None, (name, windows_spelling(name)))
        return next(filter(None, map(self._find, map(_slashed, spellings))), [])

    def _find(self, name: str) -> list[str]:
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
    text = read_names(root, path, key)
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
    lines = text.splitlines()
    # A cell may hold a whole mask, as run lengths or points; all of the text is in memory anyway.
    csv.field_size_limit(sys.maxsize)
    return list(csv.reader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count)))
