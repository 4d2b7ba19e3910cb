"""Pictures that no model's graph reads as they are, saved as PNGs without loss."""

import io

import numpy as np
from PIL import PngImagePlugin

from components.image_mask_example_gen.files import (
    InputRejectedError,
    check_bytes,
    check_segments,
    decode,
    is_deep_tiff,
    open_tiff,
    rejecting_damage,
    stored_orientation,
)
from components.image_mask_example_gen.report import Reason
from components.imaging.deep import write_png
from components.imaging.exif import exif_block, orientation_of, turned_back
from components.pillow import Image

_PLANAR = 2
_PNG_HEADER_END = 33


def as_png(data: bytes, picture: Image.Image, max_pixels: int) -> bytes:
    """Saves a picture's pixels without loss, alpha and 16 bits a channel included.

    They stay as they are stored; an orientation is kept beside them, where a model's graph reads it.

    Args:
      data: The file.
      picture: The same, opened.
      max_pixels: The most that it may have, or a tile of it.

    Raises:
      InputRejectedError: the file is damaged or too large, or its pixels have 32 bits.
    """
    if (deep := deep_colors(data, picture, max_pixels)) is not None:
        return with_orientation(write_png(deep), stored_orientation(data, picture))
    # A PGM's 16 bits are 32 to Pillow.
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
        raise InputRejectedError(
            Reason.NOT_DECODABLE, f"{picture.format} with 32 bits a pixel; an image has 8 or 16 a channel"
        )
    mode = None
    is_deep = picture.mode.startswith("I")
    if not is_deep and picture.mode not in ("1", "L", "RGB", "RGBA"):
        mode = "RGBA" if picture.has_transparency_data else "RGB"
    orientation = stored_orientation(data, picture)
    pixels = decode(data, picture, mode)
    if is_deep:
        # Pillow's own conversion clips big-endian numbers (I;16B) at 255.
        pixels = Image.fromarray(np.asarray(pixels).astype(np.uint16))
    if picture.format == "TIFF":
        # Of all formats, Pillow turns this one alone.
        pixels = turned_back(pixels, orientation)
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=3)
    return with_orientation(file.getvalue(), orientation)


def deep_colors(data: bytes, picture: Image.Image, max_pixels: int) -> np.ndarray | None:
    """Decodes, as it is stored, what Pillow would cut to 8 bits: a TIFF of 9 to 16 bits a channel in colours.

    Returns:
      uint16 [height, width, 3 or 4]; None for any other picture.

    Raises:
      InputRejectedError: the file is damaged or, as `check_bytes` and `check_segments` see it, too large.
    """
    if picture.mode not in ("RGB", "RGBA", "RGBX") or not is_deep_tiff(picture):
        return None
    with rejecting_damage(data), open_tiff(data) as file:
        page = file.pages.first
        check_bytes(page, max_pixels)
        check_segments(page, data)
        pixels = page.asarray()
        if page.planarconfig == _PLANAR:
            pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise InputRejectedError(
            Reason.NOT_DECODABLE, f"TIFF of {pixels.dtype} in colours; an image has 8 or 16 bits a channel"
        )
    return pixels[..., : 4 if picture.mode == "RGBA" else 3]


def with_orientation(png: bytes, orientation: int) -> bytes:
    """Returns a PNG that says an orientation where a model's graph reads it, which is before the pixels."""
    if orientation == orientation_of(png):
        return png
    file = io.BytesIO(png[:_PNG_HEADER_END])
    file.seek(_PNG_HEADER_END)
    PngImagePlugin.putchunk(file, b"eXIf", exif_block(orientation))
    return file.getvalue() + png[_PNG_HEADER_END:]
