"""PNGs and TIFFs written byte by byte, as no library writes them."""

import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType

_NO_TAGS: Mapping[int, int] = MappingProxyType({})


def png(width: int, height: int, rows: bytes = b"", *, bits: int = 8, color_type: int = 0) -> bytes:
    """Returns a PNG with a header of this size, whatever rows there are; each begins with its filter, 0.

    Args:
        width: in pixels.
        height: in pixels.
        rows: packed as ``bits`` ask.
        bits: of a channel.
        color_type: 0 gray, 2 RGB, 4 gray and alpha, 6 RGB and alpha.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(tags: Mapping[int, int] = _NO_TAGS, pixels: bytes = bytes(48), following: int = 0) -> bytes:
    """Returns a gray TIFF of 8 x 6 pixels, or what other tags make of it.

    Args:
        tags: 256 and 257 the sides, 258 bits of a channel, 262 its colours (2: RGB), 274 orientation, 277
            channels, 278 rows of a strip, and others of TIFF 6.0.
        pixels: packed as the tags ask.
        following: where the next page is said to be.
    """
    usual = {256: 8, 257: 6, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 6, 279: len(pixels)} | dict(tags)
    usual[273] = 8 + 2 + 12 * len(usual) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(usual.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(usual))
    return head + entries + struct.pack("<I", following) + pixels
