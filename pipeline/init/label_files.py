"""Files of class names as annotation tools and known datasets write them: names, raw values, colours.

What a file is follows from what stands in it: JSON, YAML, a MATLAB file, or lines, with columns named or not.
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any, Final

import yaml

from components.dataset.labels import MAX_CLASSES
from components.folders import open_file
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.label_mapping import raw_word
from components.image_mask_example_gen.matlab import MatlabError, read_variables
from components.imaging.palette import Color
from components.text_files import decode_text
from pipeline.init import InitError

SUFFIXES: Final = (".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".mat")

_LARGEST: Final = 4_000_000
"""Bytes; the longest lists of classes have thousands of lines."""
_DEEPEST: Final = 3
_LISTS: Final = ("classes", "labels", "categories", "label_classes", "names", "id2label")
"""Under which JSON and YAML keep their classes."""
_NAMES: Final = (
    *("name", "class_name", "label_name", "title"),
    *("class", "label", "category", "classes", "labels"),
)
_VALUES: Final = (
    *("id", "idx", "index", "png_index", "value", "pixel_value"),
    *("class_id", "label_id", "class", "label"),
)
_COLORS: Final = ("color", "colour", "color_rgb", "rgb", "hex", "hex_color", "hexcode")
_CHANNELS: Final = (("r", "g", "b"), ("red", "green", "blue"))
_BACKGROUND_KEYS: Final = ("png_index",)
"""Hasty numbers the objects from 1, and 0 is the background."""

_NUMBER: Final = r"\d{1,5}"
_THREE: Final = rf"[\[(]?\s*{_NUMBER}(?:\s*[\s,;]\s*{_NUMBER}){{2}}\s*[\])]?"
_HEX: Final = r"(?:#|0x)[0-9a-fA-F]{6}"
_BEFORE = re.compile(rf"({_THREE}|{_HEX}|{_NUMBER})[\s,;:]+(\D.*)")
_AFTER = re.compile(rf"(.*?)(?:[\s,;:]+({_THREE}|{_HEX})|\s*[,;:\t]\s*({_NUMBER}))")
_BLANK_AND_NUMBER = re.compile(rf"(.*\S)\s+({_NUMBER})")
_CVAT = re.compile(r"([^:]+):(\d+,\d+,\d+):[^:]*:[^:]*")
_THREE_NUMBERS = re.compile(rf"(?<!\d){_NUMBER}(?:\s*[\s,;]\s*{_NUMBER}){{2}}(?!\d)")
_ONE_MORE_NUMBER = re.compile(r"[,;:\t]\s*\d+$")
_SEPARATORS = " ,;:\t"


@dataclass(frozen=True)
class ClassNames:
    """Names in the order given."""

    names: tuple[str, ...]
    values: Mapping[str, int] | None = None
    """The raw value of each name, where the file tells it."""
    colors: Mapping[str, Color] | None = None
    """The colour of each name, where the file tells it."""
    zero_is_background: bool = False
    """Whether the tool that wrote the file leaves 0 to what no object covers."""
    lines: tuple[str, ...] = field(default=(), compare=False)
    """The names where the values are none but parts of them: ``grade 2`` and ``stage 3``."""

    @property
    def told(self) -> bool:
        """Whether more than the order says which name is whose."""
        return self.values is not None or self.colors is not None

    @property
    def raws(self) -> Mapping[str, RawLabel]:
        """Values where the file tells them, else colours; empty where it tells neither."""
        return self.values or self.colors or {}


def read_label_file(path: Path) -> ClassNames:
    """Reads a file of class names.

    Raises:
        InitError: it is none; the message says why, without the path.
    """
    try:
        with open_file(path) as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InitError(f"cannot be read: {error.strerror or error}") from None
    if len(data) > _LARGEST:
        raise InitError(f"more than {_LARGEST:,} bytes; a list of classes is short")
    kind = path.suffix.lower()
    if kind == ".mat":
        return _from_cells(data)
    text = _text(data)
    if kind in (".json", ".yaml", ".yml") or text.lstrip().startswith(("{", "[{", '["')):
        return _from_tree(text, yaml.safe_load if kind in (".yaml", ".yml") else json.loads)
    return _from_lines(text)


def read_class_names(given: str) -> ClassNames:
    """Reads what was given as ``--classes``: names with commas between them, or the path of a file of them.

    Raises:
        InitError: names are missing, given twice, or the file is none of names.
    """
    # Not Path's: of a long list of names, or of a user that there is not, those would raise.
    path = os.path.expanduser(given)
    if os.path.isfile(path):
        try:
            return read_label_file(Path(path))
        except InitError as error:
            raise InitError(f"--classes: {path}: {error}") from None
    if "," not in given:
        raise InitError(
            f"--classes: there is no file {given!r}, and two names at least are needed; write them as a,b,c"
        )
    try:
        return _checked(ClassNames(tuple(name.strip() for name in given.split(","))))
    except InitError as error:
        raise InitError(f"--classes: {error}; write the names as a,b,c") from None


def _checked(classes: ClassNames) -> ClassNames:
    """Returns the names, which differ, and have values and colours that do.

    Raises:
        InitError: they do not.
    """
    names = classes.names
    if not names:
        raise InitError("it names no class")
    if not all(names):
        raise InitError("a name is empty")
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InitError(f"{', '.join(repeated)} is given more than once; names must differ")
    if len(names) > MAX_CLASSES and not classes.told:
        raise InitError(f"{len(names):,} names; there can be no more than {MAX_CLASSES} classes")
    for told in (classes.values, classes.colors):
        owners: dict[int | Color, str] = {}
        for name, raw in (told or {}).items():
            if raw in owners:
                raise InitError(
                    f"{owners[raw]!r} and {name!r} are both {raw_word(raw)}; classes must differ in it"
                )
            owners[raw] = name
    return classes


def _text(data: bytes) -> str:
    try:
        text = decode_text(data)
    except UnicodeDecodeError:
        raise InitError("no text file of names in UTF-8; save it as one") from None
    if "\0" in text:
        raise InitError("no text file of names: it holds zero bytes")
    return text


def _from_cells(data: bytes) -> ClassNames:
    """A MATLAB file's one cell array of strings."""
    lists = {}
    try:
        for variable in read_variables(data):
            if cells := variable.texts(_LARGEST):
                lists[variable.name] = cells
    except MatlabError as error:
        raise InitError(f"no MATLAB 5 file: {error}") from None
    if len(lists) != 1:
        found = f"has {len(lists)}: {', '.join(lists)}" if lists else "has none"
        raise InitError(f"names are read from a MATLAB file's one list of strings; this one {found}")
    [cells] = lists.values()
    return _checked(ClassNames(tuple(cell.strip() for cell in cells)))


# JSON and YAML


def _from_tree(text: str, load: Any) -> ClassNames:
    try:
        tree = load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InitError(f"it cannot be read: {reason}") from None
    found = _classes_in(tree, 0)
    if found is None:
        raise InitError(
            f"no classes in it: looked for a list or mapping of names, itself or under {', '.join(_LISTS)}"
        )
    return _checked(found)


def _classes_in(tree: Any, depth: int) -> ClassNames | None:
    if isinstance(tree, list):
        if all(isinstance(item, str) for item in tree):
            return ClassNames(tuple(map(str.strip, tree)))
        if all(isinstance(item, dict) for item in tree):
            return _from_rows([{_word(key): value for key, value in item.items()} for item in tree])
        return None
    if not isinstance(tree, dict) or depth > _DEEPEST:
        return None
    for key in _LISTS:
        if isinstance(tree.get(key), list | dict):
            return _classes_in(tree[key], depth + 1)
    return _from_mapping(tree)


def _from_mapping(tree: Mapping[Any, Any]) -> ClassNames | None:
    """``{name: value}``, ``{name: colour}``, ``{value: name}`` or ``{value: {"name": …}}``."""
    if not tree:
        return None
    keys = [_whole(key) for key in tree]
    if all(key is not None for key in keys):
        items = list(tree.values())
        if all(isinstance(item, str) for item in items):
            names = [item.strip() for item in items]
            return _put_together(names, keys, [None] * len(names))
        if all(isinstance(item, dict) for item in items):
            rows = [{_word(k): v for k, v in item.items()} for item in items]
            return _from_rows([{**row, "id": key} for row, key in zip(rows, keys, strict=True)])
        return None
    names = [str(key).strip() for key in tree]
    values = [_whole(item) for item in tree.values()]
    colors = [_color(item) for item in tree.values()]
    if any(value is None and color is None for value, color in zip(values, colors, strict=True)):
        return None
    found = _put_together(names, values, colors)
    if found.colors is None or any(len(set(color)) > 1 for color in found.colors.values()):
        return found
    # Supervisely's numbers are grays, and what no object covers has 0.
    grays = {name: color[0] for name, color in found.colors.items()}
    return ClassNames(found.names, grays, found.colors, zero_is_background=True)


# Text


def _from_lines(text: str) -> ClassNames:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and (not line.startswith("#") or re.match(_HEX + r"\b", line))]
    if not lines:
        raise InitError("it names no class")
    if (table := _table(lines)) is not None:
        return _checked(_from_rows(table))
    found = [_line(line) for line in lines]
    if all(item[1:] == (None, None) for item in found) and (with_values := _ending_in_values(lines)):
        return replace(
            _checked(_put_together(*map(list, zip(*with_values, strict=True)))), lines=tuple(lines)
        )
    for name, *raws in found:
        if _THREE_NUMBERS.search(name) or (raws != [None, None] and _ONE_MORE_NUMBER.search(name)):
            raise InitError(f"{name!r} is more than a name and its value or colour")
    if (
        len(found) > 2
        and found[0][1:] == (None, None)
        and all(item[1:] != (None, None) for item in found[1:])
    ):
        # What columns are called.
        found = found[1:]
    names = [name for name, *_ in found]
    if all(item[1:] == (None, None) for item in found):
        _check_one_column(lines)
        return _checked(ClassNames(tuple(lines)))
    return _checked(_put_together(names, [value for _, value, _ in found], [color for *_, color in found]))


def _ending_in_values(lines: Sequence[str]) -> list[tuple[str, int | None, Color | None]]:
    """Names and values where each line is ``road 7``; empty where the numbers may be parts of names.

    They may where names or numbers repeat, as in ``zone 1`` and ``zone 2``, or in ``road 1`` and ``roof 1``.
    """
    found = [(match[1], _whole(match[2])) for line in lines if (match := _BLANK_AND_NUMBER.fullmatch(line))]
    names, values = {name for name, _ in found}, {value for _, value in found}
    if len(lines) < 2 or None in values or not len(names) == len(values) == len(lines):
        return []
    return [(name, value, None) for name, value in found]


def _check_one_column(lines: Sequence[str]) -> None:
    for delimiter in "\t;,":
        columns = {line.count(delimiter) for line in lines}
        if len(lines) > 1 and len(columns) == 1 and columns != {0}:
            raise InitError(
                f"a table that begins with {lines[0]!r}, and no column is known to tell values or colours: "
                "name the columns there (name,value or name,r,g,b or name,hex), or write a name a line"
            )


def _table(lines: Sequence[str]) -> list[dict[str, Any]] | None:
    """Rows by the names of their columns, None where no first line names them."""
    for delimiter in "\t;,|:":
        head = [_word(field) for field in _fields(lines[0], delimiter)]
        known = {*_NAMES, *_VALUES, *_COLORS, *_CHANNELS[0], *_CHANNELS[1]}
        if not set(head) & set(_NAMES) or len(lines) < 2:
            continue
        if len(head) == 1 or len(set(head) & known) > 1:
            break
    else:
        return None
    rows = []
    for number, line in enumerate(lines[1:], 2):
        fields = _fields(line, delimiter)
        while len(fields) > len(head) and not fields[-1]:
            fields.pop()
        if len(head) == 1:
            fields = [line]
        if len(fields) != len(head):
            raise InitError(f"line {number} has {len(fields)} fields, not {len(head)} as the first: {line!r}")
        rows.append(dict(zip(head, fields, strict=True)))
    if "stuff" in head and "idx" in head:
        # ADE20K gives each class all words for it.
        return [row | {"name": re.split(r"[,;]", str(row.get("name")))[0]} for row in rows]
    return rows


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for row in csv.reader([line], delimiter=delimiter) for field in row]
    except csv.Error:
        return [field.strip() for field in line.split(delimiter)]


def _word(head: Any) -> str:
    """A column's name in the one way in which it is looked up."""
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(head).strip(" \t#\"'")).lower())


def _line(line: str) -> tuple[str, int | None, Color | None]:
    # CVAT's lines end in fields that may be empty: road:128,64,128::
    if match := _CVAT.fullmatch(line):
        return match[1].strip(), None, _color(match[2])
    line = line.rstrip(_SEPARATORS)
    if match := _BEFORE.fullmatch(line):
        raw, name = match[1], match[2].strip(_SEPARATORS)
        if (more := _AFTER.fullmatch(name)) and more[2] and _whole(raw) is not None:
            return more[1].strip(_SEPARATORS), _whole(raw), _color(more[2])
        return name, _whole(raw), _color(raw)
    if match := _AFTER.fullmatch(line):
        name, raw = match[1].strip(_SEPARATORS), match[2] or match[3]
        return name, _whole(raw), _color(raw)
    return line, None, None


# What rows and lines say


def _from_rows(rows: Sequence[Mapping[str, Any]]) -> ClassNames:
    if not rows:
        raise InitError("its list of classes is empty")
    columns = set.intersection(*(set(row) for row in rows))
    texts = [key for key in _NAMES if key in columns and any(_whole(row[key]) is None for row in rows)]
    if not texts:
        raise InitError(f"no column or key of names ({', '.join(_NAMES[:4])} …)")
    names = [str(row[texts[0]]).strip() for row in rows]
    value_key = next(
        (
            key
            for key in _VALUES
            if key in columns and key != texts[0] and all(_signed(row[key]) is not None for row in rows)
        ),
        None,
    )
    values = [None if value_key is None else _signed(row[value_key]) for row in rows]
    colors = _colors_of(rows, columns)
    kept = [value is None or value >= 0 for value in values]
    found = _put_together(
        list(compress(names, kept)), list(compress(values, kept)), list(compress(colors, kept))
    )
    background = value_key in _BACKGROUND_KEYS
    return ClassNames(found.names, found.values, found.colors, zero_is_background=background)


def _colors_of(rows: Sequence[Mapping[str, Any]], columns: set[str]) -> list[Color | None]:
    for channels in _CHANNELS:
        if columns.issuperset(channels):
            return [_color([row[channel] for channel in channels]) for row in rows]
    for key in _COLORS:
        if key in columns:
            return [_color(row[key], bare_hex=True) for row in rows]
    return [None] * len(rows)


def _put_together(names: list[str], values: list[int | None], colors: list[Color | None]) -> ClassNames:
    with_value = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    with_color = {name: color for name, color in zip(names, colors, strict=True) if color is not None}
    if len(set(names)) < len(names):
        return _checked(ClassNames(tuple(names)))
    if (with_value or with_color) and len(names) not in (len(with_value), len(with_color)):
        if with_value and with_color:
            raise InitError("it mixes numbers and colours; use one of them throughout")
        without = next(name for name in names if name not in with_value and name not in with_color)
        raise InitError(f"it tells the value or colour of some classes but not of {without!r}")
    return ClassNames(
        tuple(names),
        with_value if len(with_value) == len(names) else None,
        with_color if len(with_color) == len(names) else None,
    )


def _signed(value: Any) -> int | None:
    """A whole number that a mask may hold, or one below 0, as Cityscapes has it, which none does."""
    if isinstance(value, str) and re.fullmatch(r"\s*-\d{1,5}\s*", value):
        return -1
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return -1
    return _whole(value)


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(rf"\s*{_NUMBER}\s*", value, re.ASCII):
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and 0 <= value <= 65_535 else None


def _color(value: Any, *, bare_hex: bool = False) -> Color | None:
    """Red, green and blue of ``[r, g, b]``, ``r,g,b`` or ``#rrggbb``; alpha is left out."""
    if isinstance(value, str):
        text = value.strip()
        if match := re.fullmatch(
            rf"(?:#|0x){'?' if bare_hex else ''}([0-9a-fA-F]{{6}})(?:[0-9a-fA-F]{{2}})?", text
        ):
            return _triple(bytes.fromhex(match[1]))
        numbers = map(int, re.findall(r"\d+", text, re.ASCII))
        return _triple(numbers) if re.fullmatch(_THREE, text, re.ASCII) else None
    if isinstance(value, list | tuple) and len(value) in (3, 4):
        return _triple([_whole(channel) for channel in value[:3]])
    return None


def _triple(channels: Iterable[int | None]) -> Color | None:
    found = [channel for channel in channels if channel is not None]
    if len(found) != 3:
        return None
    if max(found) > 255:
        raise InitError(f"{found} is no colour; red, green and blue are 0 … 255")
    return found[0], found[1], found[2]
