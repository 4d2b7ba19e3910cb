"""MATLAB 5 files: their variables, read within bounds.

SciPy's reader trusts the file: damaged cells or sparse indices crash the process, and what is compressed is
unpacked however much it becomes. Source of the format: "MAT-File Format", The MathWorks, chapter 1.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import numpy as np

_HEADER: Final = 128
_TAG: Final = 8
_FIRST_BYTES: Final = 1 << 16
"""Of a compressed variable, what holds its size and name."""
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS: Final = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""How the letters of a text are stored."""
_CELL, _CHARACTERS, _SPARSE, _OPAQUE = 1, 4, 5, 17
_FULL: Final = range(6, 16)
"""Classes of matrices that hold each number."""
_COMPLEX: Final = 0x08


class MatlabError(ValueError):
    """The file is no MATLAB 5 file, or a damaged one; the message says why."""


class EndsEarlyError(MatlabError):
    """It ends before its variables do."""


@dataclass(frozen=True)
class Variable:
    """A variable whose values have not been read."""

    name: str
    shape: tuple[int, ...]
    """Empty of an object, such as a string, a table or a date: the file says none."""
    kind: int
    """Its class, as the format numbers them."""
    _flags: int
    _packed: bool
    _content: memoryview
    _order: Literal["<", ">"]

    def numbers(self) -> np.ndarray:
        """Reads a matrix of real numbers, also a sparse one.

        Returns:
          [rows, columns], of the type in which they are stored.

        Raises:
          MatlabError: it is none, or damaged.
        """
        if self.kind not in (*_FULL, _SPARSE) or len(self.shape) != 2:
            raise MatlabError(f"{self.name!r} is no matrix of numbers")
        if self._flags & _COMPLEX:
            raise MatlabError(f"the numbers in {self.name!r} are complex")
        rows, columns = self.shape
        # Eight bytes a number; of a sparse one its row besides.
        parts = self._parts(12 * rows * columns + 4 * columns)
        if self.kind == _SPARSE:
            return self._from_sparse(*(self._array(*next(parts, (0, b""))) for _ in range(3)))
        values = self._array(*next(parts, (0, memoryview(b""))))
        if values.size != rows * columns:
            raise MatlabError(f"{self.name!r} has {values.size:,} numbers for {rows} x {columns}")
        return values.reshape(self.shape, order="F")

    def texts(self, most_bytes: int) -> list[str] | None:
        """Reads a cell array of texts, or a matrix with a text a row; None of anything else.

        Raises:
          MatlabError: it is damaged, or has more bytes.
        """
        if self.kind == _CHARACTERS:
            return self._rows(most_bytes)
        if self.kind != _CELL:
            return None
        found: list[str] = []
        for kind, part in self._parts(most_bytes):
            if kind != _MATRIX:
                raise MatlabError(f"{self.name!r} holds what is no cell")
            # An empty cell has no name and no size.
            rows = _variable(part, False, self._order)._rows(most_bytes) if part else None
            if rows is None or len(rows) > 1:
                return None
            # MATLAB's '' has no rows.
            found += rows or [""]
        return found

    def _rows(self, most_bytes: int) -> list[str] | None:
        if self.kind != _CHARACTERS or len(self.shape) != 2:
            return None
        stored, letters = next(self._parts(most_bytes), (0, memoryview(b"")))
        if stored not in _TEXTS and letters:
            raise MatlabError(f"{self.name!r} holds a text of numbers")
        encoding = _TEXTS.get(stored, "latin-1")
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        text = bytes(letters).decode(encoding, "replace")
        height, width = self.shape
        if len(text) != height * width:
            raise MatlabError(f"{self.name!r} has {len(text):,} letters for {height} x {width}")
        # A column after the other.
        return [text[row::height] for row in range(height)]

    def _parts(self, most_bytes: int) -> Iterator[tuple[int, memoryview]]:
        """What follows the name; all of it together has at most so many bytes."""
        content = self._content
        if self._packed:
            # The tag, and what stands before the values.
            content = _unpacked(content, most_bytes + _FIRST_BYTES)[_TAG:]
        elements = _elements(content, self._order)
        for _ in range(3):
            next(elements)
        return elements

    def _array(self, kind: int, part: memoryview | bytes) -> np.ndarray:
        if kind not in _NUMBERS:
            raise MatlabError(f"{self.name!r} holds no numbers")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if len(part) % dtype.itemsize:
            raise MatlabError(f"{self.name!r} has {len(part)} bytes of numbers of {dtype.itemsize}")
        return np.frombuffer(part, dtype).astype(dtype.newbyteorder("="), copy=False)

    def _from_sparse(self, rows: np.ndarray, starts: np.ndarray, values: np.ndarray) -> np.ndarray:
        height, width = self.shape
        if rows.dtype.kind == "f" or starts.dtype.kind == "f":
            raise MatlabError(f"the sparse {self.name!r} has fractions for places")
        rows, starts = rows.astype(np.int64), starts.astype(np.int64)
        counts = np.diff(starts)
        # The list of rows may have room to spare.
        if starts.size != width + 1 or starts[0] != 0 or (counts < 0).any() or starts[-1] > rows.size:
            raise MatlabError(f"the sparse {self.name!r} does not say which number is in which column")
        rows = rows[: starts[-1]]
        if values.size < rows.size or ((rows < 0) | (rows >= height)).any():
            raise MatlabError(f"the sparse {self.name!r} has numbers outside {height} x {width}")
        full = np.zeros((height, width), values.dtype)
        full[rows, np.repeat(np.arange(width), counts)] = values[: rows.size]
        return full


def read_variables(data: bytes) -> list[Variable]:
    """Reads names and sizes of a file's variables, no values.

    Raises:
      MatlabError: it is no such file, or damaged.
    """
    order: Literal["<", ">"] = "<" if data[126:_HEADER] == b"IM" else ">"
    if data[126:_HEADER] not in (b"IM", b"MI") or data[125 if order == "<" else 124] != 1:
        raise MatlabError("it does not begin as such a file does (MATLAB's option -v7 writes one)")
    found = []
    for kind, part in _elements(memoryview(data)[_HEADER:], order):
        if kind not in (_MATRIX, _COMPRESSED):
            raise MatlabError(f"it holds an element of type {kind}, which is no variable")
        found.append(_variable(part, kind == _COMPRESSED, order))
    return found


def _variable(content: memoryview, packed: bool, order: Literal["<", ">"]) -> Variable:
    beginning = content
    if packed:
        beginning = _unpacked(content, _FIRST_BYTES, whole=False)
        if len(beginning) < _TAG or struct.unpack_from(f"{order}I", beginning)[0] != _MATRIX:
            raise MatlabError("a compressed element is no variable")
        beginning = beginning[_TAG:]
    parts = [part for _, part in islice(_elements(beginning, order), 3)]
    if len(parts) < 3:
        raise EndsEarlyError("it ends within a variable's name and size")
    flags, sizes, name = parts
    if len(flags) != 8:
        raise MatlabError("a variable has no class")
    bits, _ = struct.unpack(f"{order}II", flags)
    kind = bits & 0xFF
    shape: tuple[int, ...] = ()
    if kind == _OPAQUE:
        # Undocumented, as SciPy reads it: no size, and the name is followed by those of what it is made of.
        name = sizes
    else:
        if not sizes or len(sizes) % 4:
            raise MatlabError("a variable has no size")
        shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
        if min(shape) < 0:
            raise MatlabError(f"a variable has the size {list(shape[:4])}")
    return Variable(bytes(name).decode("latin-1"), shape, kind, bits >> 8 & 0xFF, packed, content, order)


def _unpacked(content: memoryview, most_bytes: int, *, whole: bool = True) -> memoryview:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, most_bytes)
    except zlib.error as error:
        raise MatlabError(f"a compressed variable is damaged: {error}") from None
    if whole and not stream.eof:
        if len(found) < most_bytes:
            raise EndsEarlyError("a compressed variable ends early")
        raise MatlabError(f"a compressed variable is larger than its size says, {most_bytes:,} bytes or more")
    return memoryview(found)


def _elements(content: memoryview, order: Literal["<", ">"]) -> Iterator[tuple[int, memoryview]]:
    """Yields type and bytes of each element."""
    position = 0
    while position + _TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind >> 16:
            # A small element: its bytes are in the tag.
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise MatlabError(f"a small element of {size} bytes")
            yield kind, content[position + 4 : position + 4 + size]
            position += _TAG
            continue
        position += _TAG
        if position + size > len(content):
            raise EndsEarlyError("it ends within a variable")
        yield kind, content[position : position + size]
        position += size if kind == _COMPRESSED else size + -size % 8
    if any(content[position:]):
        raise EndsEarlyError("it ends within an element's type and size")
