"""The orientation that a camera wrote beside its pixels, and pixels turned by it.

``components.imaging.decode`` reads it the same way in TensorFlow's graph. Sources: Exif 2.32, table 4 and
section 4.6; ITU-T T.81, annex B; PNG (third edition), section 11.3.4.5.
"""

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np

from components.imaging.reading import JPEG_SIGNATURE, PNG_SIGNATURE
from components.pillow import Image

ORIENTATION: Final = 0x0112
"""The tag. 1 is upright; 5 to 8 swap width and height."""
MOST_SEGMENTS: Final = 100
"""Segments of a JPEG or chunks of a PNG that are passed before the pixels."""
SHORT: Final = 3
LONG: Final = 4
"""The tag's possible types."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(data: bytes) -> int:
    """Returns the EXIF orientation of a JPEG or PNG, 1 … 8, 1 where there is none; the pixels are not read.

    It is looked for where it stands by convention, before the pixels; a file's first kilobytes will do.
    """
    block = _exif_block(data)
    order: Literal["little", "big"]
    match block[:2]:
        case b"II":
            order = "little"
        case b"MM":
            order = "big"
        case _:
            return 1
    first = int.from_bytes(block[4:8], order) + 2
    count = min(int.from_bytes(block[first - 2 : first], order), (len(block) - first) // 12)
    for start in range(first, first + 12 * count, 12):
        tag, kind = (int.from_bytes(block[at : at + 2], order) for at in (start, start + 2))
        if tag == ORIENTATION and kind in (SHORT, LONG):
            value = int.from_bytes(block[start + 8 : start + (10 if kind == SHORT else 12)], order)
            return value if 1 <= value <= 8 else 1
    return 1


def swaps_sides(orientation: int) -> bool:
    """Whether an upright picture's width is its stored height."""
    return orientation >= 5


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """Returns a stored picture as it stands upright."""
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def turned_back(picture: Image.Image, orientation: int) -> Image.Image:
    """Returns an upright picture as it was stored."""
    return turned(picture, {6: 8, 8: 6}.get(orientation, orientation))


def turned_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The same for pixels [height, width, …]."""
    if swaps_sides(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def exif_block(orientation: int) -> bytes:
    """Returns EXIF that says an orientation and nothing else, as a PNG's chunk ``eXIf`` holds it."""
    entry = b"".join(part.to_bytes(2) for part in (ORIENTATION, SHORT, 0, 1, orientation, 0))
    return b"MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)


def _exif_block(data: bytes) -> bytes:
    """What follows the mark "Exif", from its byte order on; empty where there is none."""
    steps = _segments if data[:3] == JPEG_SIGNATURE else _chunks if data[:4] == PNG_SIGNATURE[:4] else None
    for _, block in zip(range(MOST_SEGMENTS), steps(data) if steps else (), strict=False):
        if block:
            return block
    return b""


def _segments(data: bytes) -> Iterator[bytes]:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] not in (0xDA, 0xD9):
        if data[position + 1] == 0xFF:
            position += 1
            yield b""
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        is_exif = data[position + 1] == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0"
        yield data[position + 10 : end] if is_exif else b""
        position = end


def _chunks(data: bytes) -> Iterator[bytes]:
    position = 8
    while position + 8 <= len(data) and data[position + 4 : position + 8] not in (b"IDAT", b"IEND"):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        yield data[position + 8 : end] if data[position + 4 : position + 8] == b"eXIf" else b""
        position = end + 4
