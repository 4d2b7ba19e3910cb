"""What is written for the person who runs the pipeline: the one exception, and text that is safe to print."""

import re
from collections.abc import Mapping
from typing import Any, Final

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which terminals obey; what turns the direction of writing; lone surrogates."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LONGEST_LINE: Final = 10_000


def printable(text: str) -> str:
    r"""Returns a text of one line whose control characters are escaped, ``\x1b``, ``\n``.

    It may come from anywhere: names of files, contents of lists. Bytes of a file name that are not UTF-8,
    lone surrogates to Python, are written as ``\xNN``.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def undecodable(text: str) -> str:
    """Returns the first byte of a file's name that is not UTF-8, to Python a lone surrogate; or nothing."""
    found = _SURROGATE.search(text)
    return found[0] if found else ""


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(match[0])[1:-1]


def shortened(text: str, length: int) -> str:
    """Returns a text of at most so many characters; an ellipsis stands for the rest."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def printable_lines(text: str) -> str:
    """Returns a text whose lines are `printable`, and none too long for a terminal."""
    return "\n".join(printable(shortened(line, _LONGEST_LINE)) for line in text.split("\n"))


class StageError(Exception):
    """A stage cannot go on; the message says what, where, and what would be right."""

    rejected_files: tuple[Mapping[str, Any], ...] = ()
    """Input files that led to it, ready for JSON, where a message cannot hold them all."""

    def __init__(self, message: str):
        super().__init__(printable_lines(message))
