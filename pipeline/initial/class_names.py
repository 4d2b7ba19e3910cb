"""The option ``--classes``: names, or a file of them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from components.image_mask_example_gen.config import RawLabel
from pipeline.initial.errors import InitError

_NUMBER = r"\d{1,5}"
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
