"""Untrusted files: bytes to an opened picture, or a rejection with its reason.

Nothing here needs TensorFlow: what only reads or sends files uses it, too.
"""

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import PngImagePlugin, UnidentifiedImageError

from components.bucket import BucketPath
from components.errors import StageError, printable
from components.folders import check_is_file, check_machine, is_of_machine, open_file
from components.image_mask_example_gen.report import Reason
from components.image_mask_example_gen.tiff_segments import (
    JPEG_END,
    JPEG_FILL,
    JPEG_SCAN,
    defect_of_segments,
)
from components.imaging.deep import read_png
from components.imaging.exif import ORIENTATION, orientation_of
from components.imaging.reading import (
    JPEG_SIGNATURE,
    MAX_SIDE,
    MOST_PIXELS,
    MOST_SCANS,
    PNG_SIGNATURE,
    START_OF_SCAN,
)
from components.pillow import Image

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

ANY_SIZE: Final = 1 << 62
"""Pixels; for files whose headers have been looked at, or whose size somebody else judges."""

# Not every format that Pillow reads: some (EPS) start other programs, others are recognised by little.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")

# An Example is a protocol buffer, which cannot hold 2 GB; no sane picture comes near.
MAX_FILE_BYTES: Final = 1 << 30

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 258, 277
_BYTE = 8
_BYTES_OF_PIXEL = 16

_BREAKS_OFF = (Reason.TRUNCATED, "which end before the picture does")

_PNG_DEPTH = 24
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The chunk that ends a file: length, name and checksum."""

_MOST_CHUNKS, _MOST_SEGMENTS = 100_000, 10_000
"""Of a PNG, and of a JPEG before its pixels."""

_SCANS = re.compile(re.escape(START_OF_SCAN))
# In entropy-coded data 0xff is followed by a stuffed 0x00 or a restart marker; anything else ends the scan.
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)


class InputRejectedError(Exception):
    """Raised while one file is read; the caller knows which."""

    def __init__(self, reason: Reason, found: str):
        super().__init__(reason, found)
        self.reason = reason
        self.found = found


def read_file(path: Path) -> bytes:
    """Reads a whole file.

    Raises:
      InputRejectedError: it is empty, cannot be read or is too big for an Example.
      StageError: what hinders says nothing of the file: it is in a bucket, or the machine is at a limit.
    """
    try:
        data = read_bytes(path, "Example")
    except OSError as error:
        if isinstance(path, BucketPath):
            # No damage of one file: the plan has it from the store's own list.
            raise StageError(f"{path} is gone since its folder was listed; start again") from error
        check_machine(error, path)
        raise InputRejectedError(Reason.NOT_DECODABLE, f"cannot be read: {error.strerror}") from error
    if not data:
        raise InputRejectedError(Reason.EMPTY_FILE, "0 bytes")
    return data


def read_bytes(path: Path, holder: str) -> bytes:
    """Reads a whole file into memory of its size.

    Args:
      path: The file.
      holder: What its bytes are for, which cannot hold more than `MAX_FILE_BYTES`.

    Raises:
      InputRejectedError: it is larger.
      OSError: it cannot be read.
    """
    if type(path) is not PosixPath:
        # An object in a bucket, or a record in a file.
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            _check_bytes(size, holder)
            file.seek(0)
            # Asked for as much as may come, Python would take the memory for it before it reads.
            return file.read(size)
    check_is_file(path)
    # Python's own file makes ten calls of these five. At each another thread may take the interpreter, and to
    # get it back takes longer than the call.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Of what was opened, which may have taken the place of what was looked at.
        size = os.fstat(descriptor).st_size
        _check_bytes(size, holder)
        parts = []
        while size and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _check_bytes(size: int, holder: str) -> None:
    if size > MAX_FILE_BYTES:
        raise InputRejectedError(Reason.NOT_DECODABLE, f"more than 1 GiB, which no {holder} can hold")


def read_picture(path: Path, max_pixels: int) -> tuple[bytes, Image.Image]:
    """Reads a whole file, and of its picture the header; see `read_file` and `open_picture`."""
    data = read_file(path)
    return data, open_picture(data, max_pixels)


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header of a mask, or of an image that stands as it is stored; see `open_image`.

    Raises:
      InputRejectedError: no picture, more than ``max_pixels`` pixels, or a TIFF that is to be turned.
    """
    picture = open_image(data, max_pixels)
    if picture.format == "TIFF" and stored_orientation(data, picture) != 1:
        # Pillow would turn it, and it alone of all formats.
        raise InputRejectedError(
            Reason.NOT_DECODABLE, "TIFF with an orientation tag, which no mask may have: turn its pixels"
        )
    return picture


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only; pixels are decoded when they are asked for.

    Raises:
      InputRejectedError: no picture, or more than ``max_pixels`` pixels.
    """
    _check_parts(data)
    with rejecting_damage(data):
        try:
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise _other_tiff(data) or error from None
        except Image.DecompressionBombError as error:
            # Some read headers and leave sizes to others; Pillow does not.
            most = min(max_pixels, MOST_PIXELS)
            raise _too_many_pixels(int(re.findall(r"\d+", str(error))[0]), most) from None
    check_pixels(picture.width, picture.height, max_pixels)
    return picture


def _check_parts(data: bytes) -> None:
    """Refuses what takes decoders minutes: millions of segments or chunks, and scans without end.

    Raises:
      InputRejectedError: a JPEG or PNG of that kind.
    """
    if data.startswith(PNG_SIGNATURE):
        what, most = "chunks", _MOST_CHUNKS
        parts = sum(1 for _ in islice(_chunks(data), most + 1))
    elif data.startswith(JPEG_SIGNATURE):
        what, most = "segments", _MOST_SEGMENTS
        parts = sum(1 for _ in islice(_segments(data), most + 1))
        # In half the time of bytes.count.
        scans = sum(1 for _ in islice(_SCANS.finditer(data), MOST_SCANS + 1))
        if scans > MOST_SCANS:
            what, most, parts = "scans", MOST_SCANS, scans
    else:
        return
    if parts > most:
        raise InputRejectedError(Reason.NOT_DECODABLE, f"more than {most:,} {what}, which is no picture's")


def _chunks(data: bytes) -> Iterator[int]:
    position = len(PNG_SIGNATURE)
    while position < len(data):
        yield position
        position += 12 + int.from_bytes(data[position : position + 4])


def _segments(data: bytes) -> Iterator[int]:
    """Where the segments before the pixels begin, and each byte that Pillow looks at to find one."""
    position = 2
    while position + 2 <= len(data):
        yield position
        marker = data[position + 1]
        if data[position] != JPEG_FILL or marker in (0, JPEG_FILL):
            position += 1
        elif marker in (JPEG_SCAN, JPEG_END):
            return
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])


def _other_tiff(data: bytes) -> InputRejectedError | None:
    """Says what a TIFF holds that nothing here reads; None for what is none."""
    if not data.startswith(TIFF_SIGNATURES):
        return None
    try:
        with open_tiff(data) as file:
            page = file.pages.first
            bands, bits = page.samplesperpixel, page.bitspersample
    except MemoryError:
        raise
    except Exception:  # a damaged TIFF, of which the other reader has said that it knows none
        return None
    return InputRejectedError(
        Reason.NOT_DECODABLE,
        f"TIFF with {bands} bands of {bits} bits; 1 (gray), 3 (RGB), or these with alpha are read, "
        "of 8 or 16 bits",
    )


@contextmanager
def open_tiff(source: bytes | Path) -> "Iterator[TiffFile]":
    """Opens a TIFF with tifffile, which raises anything of what is none."""
    from tifffile import TiffFile

    # What it would say of odd tags belongs to nobody's terminal.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    opened = io.BytesIO(source) if isinstance(source, bytes) else open_file(source)
    with opened as stream, TiffFile(stream) as file:
        yield file


def bands_left_out(picture: Image.Image) -> int:
    """Returns how many bands of an opened TIFF are not read, such as the infrared one beside RGB."""
    samples = getattr(picture, "tag_v2", {}).get(_SAMPLES_PER_PIXEL, 1)
    return max(0, samples - len(picture.getbands()))


def is_deep_tiff(picture: Image.Image) -> bool:
    """Whether an opened picture is a TIFF with more than 8 bits a channel, whatever Pillow makes of them."""
    return max(getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (1,))) > _BYTE


def stored_orientation(data: bytes, picture: Image.Image) -> int:
    """Returns the EXIF orientation of an opened image, 1 … 8, wherever its format keeps it; 1 for none."""
    found = orientation_of(data)
    elsewhere = picture.format in ("TIFF", "WEBP") or (picture.format == "PNG" and b"eXIf" in data)
    if found == 1 and elsewhere:
        try:
            found = picture.getexif().get(ORIENTATION, 1)
        except MemoryError:
            raise
        except Exception:  # EXIF is whatever a camera or an editor made of it.
            return 1
    return found if found in range(1, 9) else 1


def check_bytes(page: "TiffPage", max_pixels: int) -> None:
    """Raises InputRejectedError where a TIFF's numbers take more than 16 bytes for each of ``max_pixels``.

    As many pixels as are allowed may have eight bands of 16 bits. A tile may be larger than its picture.
    """
    most = _BYTES_OF_PIXEL * max_pixels
    samples = page.samplesperpixel * max(1, page.imagedepth) * max(1, page.bitspersample // _BYTE)
    needed = samples * max(page.imagewidth * page.imagelength, page.tilewidth * page.tilelength)
    if needed > most:
        raise InputRejectedError(
            Reason.TOO_MANY_PIXELS,
            f"TIFF whose numbers take {needed:,} bytes; dataset.max_pixels allows {most:,}, "
            f"{_BYTES_OF_PIXEL} for each of {max_pixels:,} pixels",
        )


def check_segments(page: "TiffPage", data: bytes) -> None:
    """Raises InputRejectedError where a strip or tile says that it is larger than the page says it is."""
    if defect := defect_of_segments(page, data):
        raise InputRejectedError(*defect)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises InputRejectedError for no pixels, more than ``max_pixels``, or more than `MAX_SIDE` a side."""
    if not (0 < width <= ANY_SIZE and 0 < height <= ANY_SIZE):
        # Lists may say numbers of thousands of digits, which nobody can print.
        raise InputRejectedError(Reason.NOT_DECODABLE, "width or height is no number of pixels")
    if width * height > max_pixels:
        raise _too_many_pixels(width * height, max_pixels, f"{width} x {height} = ")
    if max(width, height) > MAX_SIDE:
        raise InputRejectedError(
            Reason.TOO_MANY_PIXELS, f"{width} x {height} pixels; no model takes more than {MAX_SIDE:,} a side"
        )


def _too_many_pixels(count: int, max_pixels: int, product: str = "") -> InputRejectedError:
    return InputRejectedError(
        Reason.TOO_MANY_PIXELS, f"{product}{count:,} pixels; dataset.max_pixels allows {max_pixels:,}"
    )


@contextmanager
def rejecting_damage(data: bytes) -> Iterator[None]:
    """Turns whatever a decoder stumbles over into InputRejectedError with the likely cause.

    Not so where the machine is at a limit. What a file claims to be is bounded before it is decoded: by
    `check_pixels`, and in a TIFF that Pillow does not decode by `check_bytes` and `check_segments`.
    """
    try:
        yield
    except (InputRejectedError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types over damaged bytes.
        if isinstance(error, OSError) and is_of_machine(error):
            raise
        raise damage(data, str(error)) from error


@contextmanager
def naming_in_memory_error(file: str) -> Iterator[None]:
    """Has a MemoryError, which says nothing by itself, say what was read: it may be the largest file."""
    try:
        yield
    except MemoryError:
        raise MemoryError(f"while {printable(file)} was read") from None


def damage(data: bytes, complaint: str) -> InputRejectedError:
    """Describes a file that no decoder could read.

    Args:
      data: The file.
      complaint: What the decoder said.
    """
    kind = (
        "JPEG" if data.startswith(JPEG_SIGNATURE) else "PNG" if data.startswith(PNG_SIGNATURE) else "picture"
    )
    if kind == "picture" and "cannot identify" in complaint:
        return InputRejectedError(
            Reason.NOT_DECODABLE, f"no image format known here; it begins with {data[:8]!r}"
        )
    reason, detail = find_defect(data) or _in_words(complaint)
    return InputRejectedError(reason, f"{kind} of {len(data):,} bytes, {detail}")


def find_defect(data: bytes) -> tuple[Reason, str] | None:
    """Looks whether a JPEG or PNG is whole, without decoding it; None where it is, and for other formats.

    Of a PNG this finds what Pillow passes by when it reads pixels: a checksum, a missing end.
    """
    if data.startswith(JPEG_SIGNATURE):
        return _find_jpeg_defect(data)
    if not data.startswith(PNG_SIGNATURE):
        return None
    complaint = ""
    try:
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
    except MemoryError:
        raise
    except Exception as error:  # of half a dozen types
        complaint = str(error)
    # It reads no further than the end's name, and a file that is cut shortly before it is broken to it.
    if "bad header checksum" not in complaint and data.rfind(_PNG_END) < 0:
        return _BREAKS_OFF
    return _in_words(complaint) if complaint else None


def _in_words(complaint: str) -> tuple[Reason, str]:
    reason = Reason.TRUNCATED if "truncat" in complaint.lower() else Reason.NOT_DECODABLE
    return reason, f"the decoder says: {complaint}"


def _find_jpeg_defect(data: bytes) -> tuple[Reason, str] | None:
    """Walks the segments and scans to the end marker; a tenth of what decoding costs.

    Damage inside the coded pixels that leaves the structure whole is invisible here, as it is to libjpeg,
    which fills in what it cannot decode and goes on. Source: ITU-T T.81, annex B.
    """
    position = 2
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return Reason.NOT_DECODABLE, f"no marker where one should be, at byte {position:,}"
        marker = data[position + 1]
        if marker == JPEG_FILL:
            position += 1
            continue
        if marker == JPEG_END:
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker != JPEG_SCAN:
            continue
        end_of_scan = _JPEG_MARKER_AFTER_SCAN.search(data, position)
        if end_of_scan is None:
            break
        position = end_of_scan.start()
    return _BREAKS_OFF


def decode(data: bytes, picture: Image.Image, mode: str | None = None) -> Image.Image:
    """Decodes a picture's pixels.

    Args:
      data: The file.
      picture: The same, opened.
      mode: What to convert them to, in Pillow's words; None for nothing.

    Raises:
      InputRejectedError: the file is damaged.
    """
    with rejecting_damage(data):
        defect = find_defect(data)
        # Structure that is wrong in a JPEG may still be read, as browsers do.
        if defect and (picture.format == "PNG" or defect[0] is Reason.TRUNCATED):
            raise damage(data, "")
        picture.load()
        return picture.convert(mode) if mode else picture


def decode_gray(data: bytes, picture: Image.Image) -> np.ndarray:
    """Decodes a picture whose mode is ``L``, as `decode` does; 8-bit PNGs in two thirds of the time.

    Args:
      data: The file.
      picture: The same, opened.

    Returns:
      uint8 [height, width].

    Raises:
      InputRejectedError: the file is damaged.
    """
    is_plain = picture.format == "PNG" and data[_PNG_DEPTH] == _BYTE and getattr(picture, "n_frames", 1) == 1
    if is_plain and find_defect(data) is None:
        # What is wrong with the pixels is Pillow's to say, or to overlook.
        with suppress(ValueError):
            pixels = read_png(data)
            # With a transparent colour there is alpha, too.
            if pixels.shape == (picture.height, picture.width):
                return pixels
    return np.asarray(decode(data, picture))
