"""The strips and tiles of a TIFF: pictures with headers of their own, which may say anything.

Decoders take memory for what such a header says, whatever the TIFF says around it.
"""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from components.image_mask_example_gen.report import Reason
from components.imaging.reading import JPEG_SIGNATURE, PNG_SIGNATURE

if TYPE_CHECKING:
    from tifffile import TiffPage

_Part = bytes | memoryview
_Size = tuple[int, int, int]
"""Width, height, and how many values a pixel has, if a file may have more than four."""

_BLOCK: Final = 16
"""Encoders may fill sides up to this multiple."""
_MOST_CHANNELS: Final = 4
"""Of PNG, JPEG and WebP, which may well be more than the TIFF says."""
_SPARE_BYTES: Final = 4096

JPEG_SCAN, JPEG_END, JPEG_FILL = 0xDA, 0xD9, 0xFF
"""What follows 0xFF where a scan begins, at the end, and before another marker."""
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_JPEG_ALONE: Final = frozenset({1, *range(0xD0, 0xD8)})
"""Markers without a length."""
_MOST_BYTES_BEFORE_FRAME: Final = 1 << 24

_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_BOXES: Final = b"\0\0\0\x0cjP  "
_MOST_BOXES: Final = 1000

_LERC: Final = b"Lerc2 "
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


def defect_of_segments(page: "TiffPage", data: bytes) -> tuple[Reason, str] | None:
    """Looks whether the strips or tiles of a page are larger than the page says, before they are decoded.

    Args:
      page: The page.
      data: The file.

    Returns:
      None where they are not, or where the page alone says how large they are.
    """
    kind = _KINDS.get(page.compression)
    if kind is None:
        return None
    name, size_of = kind
    if size_of is None:
        return Reason.NOT_DECODABLE, f"TIFF compressed as {name}, which is not read: save it as Deflate"
    if page.is_tiled:
        part, width, height = "tile", page.tilewidth, page.tilelength * max(1, page.tiledepth)
    else:
        part, width, height = "strip", page.imagewidth, min(max(1, page.rowsperstrip), page.imagelength)
    filled = -(-width // _BLOCK) * -(-height // _BLOCK) * _BLOCK * _BLOCK
    most = filled * max(_MOST_CHANNELS, page.samplesperpixel)
    most_bytes = most * (page.dtype.itemsize if page.dtype is not None else 1)
    whole = memoryview(data)
    # Many may be at one place.
    for offset, count in dict.fromkeys(zip(page.dataoffsets, page.databytecounts, strict=False)):
        if not count:
            continue
        try:
            size = size_of(whole[offset : offset + count], most_bytes)
        except (ValueError, zlib.error):
            return Reason.NOT_DECODABLE, f"TIFF with a {part} that is no {name}, as which it is compressed"
        if size is not None and size[0] * size[1] * size[2] > most:
            values = f" of {size[2]:,} values" if size[2] > 1 else ""
            return Reason.NOT_DECODABLE, (
                f"TIFF whose {part}s have {width:,} x {height:,} pixels, and one says of itself "
                f"{size[0]:,} x {size[1]:,}{values}"
            )
    return None


def _number(part: _Part, start: int, length: int, order: str = "big") -> int:
    found = bytes(part[start : start + length])
    if len(found) < length:
        raise ValueError("it ends")
    return int.from_bytes(found, "big" if order == "big" else "little")


def _png(part: _Part, most_bytes: int) -> _Size:
    if part[:8] != PNG_SIGNATURE or part[12:16] != b"IHDR":
        raise ValueError("no PNG")
    return _number(part, 16, 4), _number(part, 20, 4), 1


def _jpeg(part: _Part, most_bytes: int) -> _Size | None:
    """Source: ITU-T T.81, annex B; None where no frame begins, which the decoder will say."""
    if part[:2] != JPEG_SIGNATURE[:2]:
        raise ValueError("no JPEG")
    position = 2
    while position + 9 <= min(len(part), _MOST_BYTES_BEFORE_FRAME):
        marker = part[position + 1]
        if part[position] != JPEG_FILL or marker in (0, JPEG_FILL):
            position += 1
        elif marker in _JPEG_ALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            return _number(part, position + 7, 2), _number(part, position + 5, 2), 1
        elif marker in (JPEG_SCAN, JPEG_END):
            return None
        else:
            position += 2 + _number(part, position + 2, 2)
    if position >= _MOST_BYTES_BEFORE_FRAME:
        raise ValueError("no frame")
    return None


def _jpeg2000(part: _Part, most_bytes: int) -> _Size:
    """Source: ITU-T T.800, annexes A.5.1 and I.4."""
    position = 0
    if part[:8] == _BOXES:
        for _ in range(_MOST_BOXES):
            length, kind, head = _number(part, position, 4), part[position + 4 : position + 8], 8
            if length == 1:
                length, head = _number(part, position + 8, 8), 16
            if kind == b"jp2c":
                position += head
                break
            if length < head:
                raise ValueError("no box")
            position += length
    if part[position : position + 4] != _CODESTREAM:
        raise ValueError("no codestream")
    right, bottom, left, top = (_number(part, position + 8 + 4 * place, 4) for place in range(4))
    return max(0, right - left), max(0, bottom - top), max(1, _number(part, position + 40, 2))


def _webp(part: _Part, most_bytes: int) -> _Size:
    """Source: RFC 9649, section 2, and RFC 6386, section 9.1."""
    kind = part[12:16]
    if part[:4] != b"RIFF" or part[8:12] != b"WEBP":
        raise ValueError("no WebP")
    if kind == b"VP8X":
        return 1 + _number(part, 24, 3, "little"), 1 + _number(part, 27, 3, "little"), 1
    if kind == b"VP8L":
        bits = _number(part, 21, 4, "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 1
    if kind == b"VP8 ":
        return _number(part, 26, 2, "little") & 0x3FFF, _number(part, 28, 2, "little") & 0x3FFF, 1
    raise ValueError("no picture")


def _lerc(part: _Part, most_bytes: int) -> _Size:
    """Source: Esri's Lerc2 header; from version 3 a checksum, from 4 how many values a pixel has."""
    data = bytes(part)
    if data.startswith(_ZSTD):
        import imagecodecs

        try:
            data = bytes(imagecodecs.zstd_decode(data, out=most_bytes + _SPARE_BYTES))
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    elif not data.startswith(_LERC):
        data = zlib.decompressobj().decompress(data, most_bytes + _SPARE_BYTES)
    if not data.startswith(_LERC):
        raise ValueError("no LERC")
    version = _number(data, 6, 4, "little")
    start = 14 if version >= 3 else 10
    rows, columns = _number(data, start, 4, "little"), _number(data, start + 4, 4, "little")
    values = _number(data, start + 8, 4, "little") if version >= 4 else 1
    # Bands follow each other, each with a header.
    return columns, rows, max(1, values) * data.count(_LERC)


_KINDS: Final[dict[int, tuple[str, Callable[[_Part, int], _Size | None] | None]]] = {
    **dict.fromkeys((6, 7, 33007, 34892), ("JPEG", _jpeg)),
    **dict.fromkeys((33003, 33004, 33005, 34712), ("JPEG 2000", _jpeg2000)),
    **dict.fromkeys((34927, 50001), ("WebP", _webp)),
    34887: ("LERC", _lerc),
    34933: ("PNG", _png),
    # They say their sizes further within, and more than once.
    **dict.fromkeys((22610, 34934), ("JPEG XR", None)),
    **dict.fromkeys((50002, 52546), ("JPEG XL", None)),
}
"""By the numbers of TIFF's compressions: those whose decoders are told no size."""
