"""JSON that people bring along: read within bounds, or refused in one line."""

import codecs
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from components.folders import open_file

MAX_BYTES: Final = 4 << 30
"""COCO's largest list, ``instances_train2017.json``, has 0.45 GB."""
_CHUNK: Final = 1 << 20
_LONGEST_ITEM: Final = 1 << 29
"""Letters of what is read at once: an item of a list, such as the picture that labelme keeps in its file."""
_MOST_VALUES: Final = 1 << 22
"""Of an item, numbers and lists, of which each may take a hundred bytes."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_LONGEST_TOKEN: Final = 16
"""Letters of what is no text and may be cut anywhere: a number, an escape, ``false``."""


def read_json(path: Path, compact: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Reads a whole file; of the lists right in its object one item after the other.

    So memory goes to what is made of the items, not to the text.

    Args:
      path: The file.
      compact: Called with each object as it ends; what it returns takes the object's place.

    Raises:
      ValueError: it is no JSON, or too large; the message says what and where, but not which file.
      OSError: it cannot be read.
    """
    with open_file(path) as file:
        # Not asked of the path: of one in a bucket that would be a request more.
        size = file.seek(0, os.SEEK_END)
        if size > MAX_BYTES:
            raise ValueError(f"{size:,} bytes; no more than {MAX_BYTES:,} are read")
        file.seek(0)
        try:
            return _Text(file, compact).document()
        except RecursionError:
            raise ValueError("nested deeper than any annotation") from None


class _Text:
    """A file's text, of which only the part that is being read is in memory."""

    def __init__(self, file: IO[bytes], compact: Callable[[dict[str, Any]], Any] | None):
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder(object_hook=compact).raw_decode
        self._compact = compact
        self._text = ""
        self._place = 0
        self._ended = False
        self._line, self._column = 1, 1
        """Of the text's first letter."""

    def document(self) -> Any:
        if self._next() != "{":
            content = self._value()
        else:
            self._place += 1
            content = dict(self._members())
            content = content if self._compact is None else self._compact(content)
        if self._next():
            raise self._error("Extra data", self._place)
        return content

    def _members(self) -> Iterator[tuple[str, Any]]:
        if self._takes("}"):
            return
        while True:
            if self._next() != '"':
                raise self._error("Expecting property name enclosed in double quotes", self._place)
            name = self._value()
            if not self._takes(":"):
                raise self._error("Expecting ':' delimiter", self._place)
            if self._takes("["):
                yield name, list(self._items())
            else:
                yield name, self._value()
            if self._takes("}"):
                return
            if not self._takes(","):
                raise self._error("Expecting ',' delimiter", self._place)

    def _items(self) -> Iterator[Any]:
        if self._takes("]"):
            return
        while True:
            yield self._value()
            if self._takes("]"):
                return
            if not self._takes(","):
                raise self._error("Expecting ',' delimiter", self._place)

    def _next(self) -> str:
        """The next letter that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None, "it matches nothing, too"
            self._place = match.end()
            if self._place < len(self._text) or not self._read_on():
                return self._text[self._place : self._place + 1]

    def _takes(self, letter: str) -> bool:
        found = self._next() == letter
        self._place += found
        return found

    def _value(self) -> Any:
        self._next()
        while True:
            cut = len(self._text) - _LONGEST_TOKEN
            try:
                value, end = self._scan(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._ended or not (error.pos > cut or error.msg.startswith("Unterminated string")):
                    raise self._error(error.msg, error.pos) from None
            else:
                # A number may go on.
                if self._ended or end <= cut:
                    self._place = end
                    return value
            self._read_on()
            self._check_item()

    def _check_item(self) -> None:
        """Refuses what would take gigabytes, before it is made."""
        length = len(self._text) - self._place
        # Of each chunk there may be one too much.
        if length > _LONGEST_ITEM:
            raise self._error(f"an item of more than {_LONGEST_ITEM:,} letters", self._place)
        values = sum(self._text.count(mark, self._place) for mark in ",[{")
        if length > _CHUNK << 3 and values > _MOST_VALUES:
            raise self._error(f"an item of more than {_MOST_VALUES:,} values", self._place)

    def _read_on(self) -> bool:
        """Adds as much as there is of what is not read, a chunk at least; returns whether there was more."""
        rest = self._text[self._place :]
        lines = self._text.count("\n", 0, self._place)
        self._column = self._column_of(self._place)
        self._line += lines
        data = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not data
        try:
            text = self._decode(data, self._ended)
        except UnicodeDecodeError as error:
            # What the decoder has not passed on ends where the file has been read to.
            place = self._file.tell() - len(error.object) + error.start
            raise ValueError(f"no JSON: not UTF-8 at byte {place:,} ({error.reason})") from None
        self._text, self._place = rest + text, 0
        return not self._ended

    def _column_of(self, place: int) -> int:
        line_start = self._text.rfind("\n", 0, place)
        return place - line_start if line_start >= 0 else self._column + place

    def _error(self, found: str, place: int) -> ValueError:
        line = self._line + self._text.count("\n", 0, place)
        return ValueError(f"no JSON: {found} in line {line}, column {self._column_of(place)}")
