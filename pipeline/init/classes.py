"""Which raw labels are classes, with what names, and which count nowhere: as told, or proposed."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import ImageColor

from components.image_mask_example_gen.config import RawLabel
from pipeline.init import InitError
from pipeline.init.label_values import RawLabels

_IGNORED_BY_CUSTOM: Final[Mapping[RawLabel, str]] = {
    255: "by custom, 255 beside small ids marks what is not labelled",
    65535: "by custom, 65535 beside small ids marks what is not labelled",
    (224, 224, 192): "the colour of PASCAL VOC's borders",
}
_COLOR_NAMES: Final = {ImageColor.getrgb(name): name for name in sorted(ImageColor.colormap)}
_BINARY_NAMES: Final = ("background", "object")
_MOST_PARTED: Final = 0.55
_SELDOM_INSIDE: Final = 0.6
"""Void in CamVid and the border in Oxford-IIIT Pet are parted more often (0.60, 0.82) and inside less often
(0.13, 0.47) than classes; of thin things, the poles, few runs (0.23) part two others."""
_SMALL_IDS: Final = 64
_SHOWN: Final = 12

_NUMBER: Final = r"\d{1,5}"
_BEFORE = re.compile(rf"({_NUMBER}(?:[\s,;]+{_NUMBER}){{2}}|{_NUMBER})[\s,;:]+(\D.*)")
_AFTER = re.compile(rf"(.*?)(?:[\s,;:]+({_NUMBER}(?:[\s,;]+{_NUMBER}){{2}})|\s*[,;:\t]\s*({_NUMBER}))")
_THREE_NUMBERS = re.compile(rf"(?<!\d){_NUMBER}(?:\s*[\s,;]\s*{_NUMBER}){{2}}(?!\d)")
_SEPARATORS = " ,;:\t"


@dataclass(frozen=True)
class ClassNames:
    """Names in the order given."""

    names: tuple[str, ...]
    values: dict[str, RawLabel] | None = None
    """The raw label of each name where the file tells it."""


@dataclass(frozen=True)
class Labels:
    """The recipe's keys that say what masks mean."""

    values: dict[str, RawLabel]
    """Raw label of each class, in the order of their ids."""
    ignored: tuple[RawLabel, ...] = ()
    """Raw labels that count nowhere."""
    reason: str = ""
    """Why those are ignored."""
    doubts: tuple[str, ...] = ()
    """What to look at before the values are believed, a sentence each."""

    def dataset_keys(self) -> dict[str, Any]:
        """Returns the keys of the recipe's ``dataset`` block."""
        keys: dict[str, Any] = {}
        raws = list(self.values.values())
        if raws == list(range(len(raws))):
            keys["classes"] = list(self.values)
        else:
            keys["label_values"] = {name: _plain(raw) for name, raw in self.values.items()}
        if self.ignored:
            # There is one ignore_label; what else counts nowhere has a name that no class has.
            keys["ignore_label"] = _plain(self.ignored[-1])
        if len(self.ignored) > 1:
            keys["classes"] = list(self.values)
            keys["label_values"] = {name: _plain(raw) for name, raw in self.values.items()} | {
                _name_of(raw, "ignored"): _plain(raw) for raw in self.ignored[:-1]
            }
        return keys


def propose_labels(found: RawLabels, given: ClassNames | None) -> Labels:
    """Says which raw labels are classes and which count nowhere.

    Raises:
        InitError: the names given do not fit the labels found.
    """
    if given is None:
        return _without_names(found)
    if given.values is not None:
        return _by_values(found, given.values)
    return _by_order(found, given.names)


def describe(found: RawLabels) -> str:
    """The raw labels with their pixel shares, most first."""
    most = sorted(found.values, key=lambda value: -found.pixels[value])
    shown = ", ".join(f"{word(value)} ({found.share(value):.1%})" for value in most[:_SHOWN])
    return shown + (f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else "")


def word(raw: RawLabel) -> str:
    """A raw label as YAML has it."""
    return str(_plain(raw))


def _without_names(found: RawLabels) -> Labels:
    ignored = tuple(value for value in found.values if _is_ignored_by_custom(value, found))
    classes = [value for value in found.values if value not in ignored]
    if len(classes) == 2 and not found.in_colors:
        names = dict(zip(_BINARY_NAMES, classes, strict=True))
    else:
        names = {_name_of(value, "class"): value for value in classes}
    made_up = "the names are made up: give them with --classes, or write them here"
    return Labels(names, ignored, _reason(ignored), doubts=(made_up, *_doubts(found, ignored)))


def _by_values(found: RawLabels, values: dict[str, RawLabel]) -> Labels:
    if any(isinstance(value, tuple) != found.in_colors for value in values.values()):
        told, held = ("numbers", "colours") if found.in_colors else ("colours", "numbers")
        raise InitError(f"--classes: the file tells {told}, but the masks hold {held}: {describe(found)}")
    if not set(values.values()) & set(found.values):
        raise InitError(
            f"--classes: none of the values told stands in the masks; they hold {describe(found)}"
        )
    rest = tuple(value for value in found.values if value not in values.values())
    return Labels(values, rest, "no class is told to have it" if rest else "")


def _by_order(found: RawLabels, names: tuple[str, ...]) -> Labels:
    values = found.values
    numbered: dict[str, RawLabel]
    customary = tuple(value for value in values if _is_ignored_by_custom(value, found))
    rest = [value for value in values if value not in customary]
    below = all(isinstance(value, int) and value < len(names) for value in rest)
    if below and not (len(names) == len(rest) and 0 not in rest):
        numbered = {name: value for value, name in enumerate(names)}
        unseen = ", ".join(name for name, value in numbered.items() if value not in rest)
        doubts = (
            (f"no mask read holds {unseen}: are names given in the order of the values?",) if unseen else ()
        )
        return Labels(numbered, customary, _reason(customary), doubts=doubts)
    for named, ignored in ((values, ()), (rest, customary)):
        if len(names) == len(named):
            what = "colours, by red, green and blue" if found.in_colors else "values"
            doubt = f"names were dealt out in the order of the {what}: look at preview.png"
            return Labels(dict(zip(names, named, strict=True)), ignored, _reason(ignored), (doubt,))
    if not found.in_colors and len(names) == len(values) - 1:
        # Masks count what is void last, if it is not 255.
        numbered = dict(zip(names, values[:-1], strict=True))
        return Labels(numbered, values[-1:], "the one value without a name")
    raise InitError(
        f"--classes gives {len(names)} names, but the masks read hold {len(values)} "
        f"{'colours' if found.in_colors else 'values'}: {describe(found)}. Give a name for each, or a file "
        "whose lines tell name and value"
    )


def _reason(ignored: tuple[RawLabel, ...]) -> str:
    return "; ".join(_IGNORED_BY_CUSTOM[value] for value in ignored)


def _is_ignored_by_custom(value: RawLabel, found: RawLabels) -> bool:
    if value not in _IGNORED_BY_CUSTOM or len(found.values) < 3:
        return False
    if isinstance(value, tuple):
        return True
    ids = [other for other in found.values if isinstance(other, int) and other != value]
    # 0, 1, 2 … with gaps are ids, 0, 128 and 255 shades.
    return max(ids) < max(_SMALL_IDS, 2 * len(ids))


def _doubts(found: RawLabels, ignored: tuple[RawLabel, ...]) -> Iterator[str]:
    """What may be no class, though nothing says so."""
    classes = [value for value in found.values if value not in ignored]
    if len(classes) < 3:
        return
    if (0, 0, 0) in classes:
        yield "black often means not labelled; if so, move [0, 0, 0] to ignore_label"
    # Colours have no order, and in masks of numbers what is no class comes last.
    shape = found.shapes.get(classes[-1])
    if (
        shape is not None
        and not found.in_colors
        and shape.inside < _SELDOM_INSIDE * shape.pixels
        and shape.partings > _MOST_PARTED * shape.crossings
    ):
        yield (
            f"{word(classes[-1])}, the highest value, lies in thin strips between others: if it means border "
            "or not labelled rather than a class, make it the ignore_label"
        )


def _name_of(raw: RawLabel, start: str) -> str:
    if not isinstance(raw, tuple):
        return f"{start}_{raw}"
    red, green, blue = raw
    return f"{start}_{_COLOR_NAMES.get(raw, f'{red:02x}{green:02x}{blue:02x}')}"


def _plain(raw: RawLabel) -> int | list[int]:
    return list(raw) if isinstance(raw, tuple) else raw


def read_class_names(given: str) -> ClassNames:
    """Reads what was given as ``--classes``.

    It is either names with commas between them, or the path of a text file with a name a line. A line of
    the file may tell the raw value or colour as well, before or after the name: ``road,7`` or ``7 road``,
    ``road,128,64,128`` or ``128 64 128 road``.

    Raises:
        InitError: names are missing, given twice, or only some lines tell a value.
    """
    # Not Path's: of a long list of names, or of a user that there is not, those would raise.
    path = os.path.expanduser(given)
    if os.path.isfile(path):
        return _from_file(Path(path))
    if "," not in given:
        raise InitError(
            f"--classes: there is no file {given!r}, and two names at least are needed; write them as a,b,c"
        )
    return _checked(ClassNames(tuple(name.strip() for name in given.split(","))))


def _from_file(path: Path) -> ClassNames:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InitError(f"--classes: {path} is no text file of names: {error}") from None
    lines = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    # CVAT's lines end in fields that may be empty: road:128,64,128::
    found = [_line(line.rstrip(_SEPARATORS)) for line in lines]
    for name, _ in found:
        if _THREE_NUMBERS.search(name):
            raise InitError(f"--classes: {path}: {name!r} is more than a name and its value or colour")
    with_value = [item for item in found if item[1] is not None]
    if len(with_value) == len(found) - 1 and len(found) > 2 and found[0][1] is None:
        # What columns are called.
        found = with_value
    if not with_value:
        return _checked(ClassNames(tuple(lines)))
    values = {name: value for name, value in found if value is not None}
    if len(with_value) != len(found):
        without = next(name for name, value in found if value is None)
        raise InitError(f"--classes: {path} tells the value of some classes but not of {without!r}")
    if len({type(value) for value in values.values()}) > 1:
        raise InitError(f"--classes: {path} mixes numbers and colours; use one of them throughout")
    return _checked(ClassNames(tuple(name for name, _ in found), values))


def _line(line: str) -> tuple[str, RawLabel | None]:
    if match := _BEFORE.fullmatch(line):
        return match[2].strip(_SEPARATORS), _raw(match[1])
    if match := _AFTER.fullmatch(line):
        return match[1].strip(_SEPARATORS), _raw(match[2] or match[3])
    return line, None


def _raw(text: str) -> RawLabel:
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else numbers[0]


def _checked(classes: ClassNames) -> ClassNames:
    names = classes.names
    if not all(names):
        raise InitError("--classes: a name is empty; write the names as a,b,c")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InitError(f"--classes: {', '.join(repeated)} is given more than once; names must differ")
    if len(names) < 2:
        raise InitError(
            f"--classes: {names[0]} is one name; two are needed at least, or nothing is told apart"
        )
    return classes
