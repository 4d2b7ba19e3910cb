"""Which pair belongs to train, val and test: by share, or as the data itself says."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag, field_validator, model_validator

from components.dataset.features import SPLITS
from components.errors import StageError, printable
from components.image_mask_example_gen.layouts.file_pattern import folders_regex
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_lists import (
    Line,
    PairNames,
    is_table,
    listed_names,
    read_table,
    table_names,
)
from components.settings import Settings
from components.text_files import encoding_doubt, read_names

OFFICIAL: Final = "the dataset's own list"

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
    def _names(self) -> PairNames:
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

    def _listed(self, path: str, lines: Iterable[Line]) -> Iterator[str]:
        for number, spellings in lines:
            found = self._names.find_first(spellings)
            if len(found) > 1:
                raise StageError(
                    f"{path}, line {number}: {printable(spellings[0])!r} names {len(found)} pairs, "
                    f"{printable(found[0])} and {printable(found[1])}; write the folder with the name"
                )
            if not found and not (number == 1 and is_table(path)):  # Headings are no name.
                where = f"{path}, line {number}; no file has this name{encoding_doubt(spellings)}"
                self.missing.append(Rejection(spellings[0], Reason.LISTED_ONLY, where))
            yield from found

    def _table_rows(self, split: DeclaredSplit, key: str) -> Iterator[Line]:
        """Yields the rows of a split's table, as ``list`` has lines.

        Raises:
          StageError: it cannot be read, has no such column, or no such value in it.
          AmbiguousColumnsError: two of its columns name pairs, and not the same.
        """
        path = str(split.csv)
        rows = read_table(read_names(self._root, path, f"{key}.csv"))
        headings = rows[0] if rows else []
        if split.column not in headings:
            raise StageError(
                f"{key}.column: {path} has no column {split.column!r}; it has {', '.join(headings) or 'none'}"
                f"{encoding_doubt(headings)}"
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
                f"of {path}; there is {', '.join(values[:5]) or 'nothing'}{encoding_doubt(values)}"
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
