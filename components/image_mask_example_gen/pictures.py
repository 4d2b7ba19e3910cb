"""Opening untrusted pictures: headers before pixels, and words for what is wrong with a file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.image_mask_example_gen import jpeg, png
from components.image_mask_example_gen.rejections import InputRejectedError, Reason
from components.pillow import Image

# Not every format that Pillow reads: some (EPS) start other programs, others are recognised by little.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")

_ORIENTATION = 274

# An Example is a protocol buffer, which cannot hold 2 GB; no sane picture comes near.
_MAX_FILE_BYTES = 1 << 30


def read_file(path: Path) -> bytes:
    """Reads a whole file.

    Raises:
      InputRejectedError: it is empty, cannot be read or is too big for an Example.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputRejectedError(Reason.NOT_DECODABLE, f"cannot be read: {error.strerror}") from error
    if not data:
        raise InputRejectedError(Reason.EMPTY_FILE, "0 bytes")
    if len(data) > _MAX_FILE_BYTES:
        raise InputRejectedError(Reason.NOT_DECODABLE, "more than 1 GiB, which no Example can hold")
    return data


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only; pixels are decoded when they are asked for.

    Raises:
      InputRejectedError: no picture, more than ``max_pixels`` pixels, or a TIFF that is to be turned.
    """
    with rejecting_damage(data):
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    check_pixels(picture.width, picture.height, max_pixels)
    if picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(_ORIENTATION, 1) != 1:
        # Pillow would turn it, and it alone of all formats.
        raise InputRejectedError(
            Reason.NOT_DECODABLE, "TIFF with an orientation tag, which nothing here applies: turn its pixels"
        )
    return picture


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises InputRejectedError for more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        raise InputRejectedError(
            Reason.TOO_MANY_PIXELS,
            f"{width} x {height} = {width * height:,} pixels; dataset.max_pixels allows {max_pixels:,}",
        )


@contextmanager
def rejecting_damage(data: bytes) -> Iterator[None]:
    """Turns whatever a decoder stumbles over into InputRejectedError with the likely cause."""
    try:
        yield
    except InputRejectedError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types over damaged bytes.
        raise damage(data, str(error)) from error


def damage(data: bytes, complaint: str) -> InputRejectedError:
    """Describes a file that no decoder could read.

    Args:
      data: The file.
      complaint: What the decoder said.
    """
    if jpeg.has_signature(data):
        kind, defect = "JPEG", jpeg.find_defect(data)
    elif png.has_signature(data):
        kind, defect = "PNG", png.find_defect(data)
    elif "cannot identify" in complaint:
        return InputRejectedError(
            Reason.NOT_DECODABLE, f"no image format known here; it begins with {data[:8]!r}"
        )
    else:
        kind, defect = "picture", None
    if defect is None:
        truncated = "truncat" in complaint.lower()
        defect = (Reason.TRUNCATED if truncated else Reason.NOT_DECODABLE, f"the decoder says: {complaint}")
    reason, detail = defect
    return InputRejectedError(reason, f"{kind} of {len(data):,} bytes, {detail}")


def as_png(data: bytes, picture: Image.Image) -> bytes:
    """Saves what Pillow reads as PNG, alpha included; 16 bits a channel are kept where they are gray.

    Args:
      data: The file.
      picture: The same, opened.

    Raises:
      InputRejectedError: the file is damaged, or has more than 16 bits a channel.
    """
    defect = damage(data, "")
    if defect.reason is Reason.TRUNCATED:
        raise defect
    with rejecting_damage(data):
        picture.load()
        # A PGM's 16 bits are 32 to Pillow.
        if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
            raise InputRejectedError(
                Reason.NOT_DECODABLE, f"{picture.format} with 32 bits a pixel; an image has 8 or 16 a channel"
            )
        if picture.mode.startswith("I"):
            picture = picture.convert("I;16")
        elif picture.mode not in ("1", "L", "RGB", "RGBA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=3)
    return file.getvalue()
