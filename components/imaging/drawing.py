"""Pictures for people: text in any script, legends, classes laid over images, pictures in rows and columns.

Imports neither TensorFlow nor matplotlib.
"""

import io
import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ImageDraw, ImageFont

from components.imaging.deep import as_picture, is_deep_png, read_png, unstacked
from components.imaging.exif import orientation_of, turned
from components.imaging.palette import Color
from components.imaging.reading import RGB, Reading
from components.pillow import Image
from components.shares import percent

_OPACITY: Final = 0.5
_FORMATS: Final = ("JPEG", "PNG", "BMP", "GIF")
"""Those of an answer, or that are sent; Pillow starts other programs for some."""
_JPEG_QUALITY: Final = 90
_PNG_BEGINNING: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_EIGHT_BIT_GRAYSCALE: Final = b"\x08\0"
_NO_CHARACTER: Final = "\uffff"
"""No font has it; each draws for it what it draws for all that it lacks."""
_JOINERS: Final = "\u200c\u200d"
"""Invisible, yet part of words in Persian and in the scripts of India."""


def with_palette(mask_bytes: bytes, colors: Sequence[Color]) -> bytes:
    """Returns the mask as a PNG with a palette, so that any viewer shows the classes' colours.

    Args:
        mask_bytes: PNG of class ids, one 8-bit channel.
        colors: RGB, one a class; at most 256.

    Raises:
        ValueError: the mask is no such PNG.
    """
    colored = io.BytesIO()
    # Without `bits`, Pillow packs the pixels of a small palette.
    class_map(_grayscale_ids(mask_bytes), colors).save(colored, "PNG", bits=8)
    return colored.getvalue()


def with_raw_values(mask_bytes: bytes, raw_values: Sequence[int | Color]) -> bytes:
    """Returns the mask as a PNG of what stands for the classes in the data that they come from.

    Args:
        mask_bytes: PNG of class ids, one 8-bit channel.
        raw_values: one a class: numbers give one channel, of 16 bits where 8 do not hold them, colours RGB.

    Raises:
        ValueError: the mask is no such PNG, or has a class without a raw value.
    """
    class_ids = _grayscale_ids(mask_bytes)
    if class_ids.max() >= len(raw_values):
        raise ValueError(f"the mask has class {class_ids.max()}, and the raw values are of {len(raw_values)}")
    table = np.array(raw_values, np.uint16)
    if table.max() <= 255:
        table = table.astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(table[class_ids]).save(encoded, "PNG")
    return encoded.getvalue()


def _grayscale_ids(mask_bytes: bytes) -> np.ndarray:
    if not mask_bytes.startswith(_PNG_BEGINNING):
        raise ValueError("the mask is not a PNG")
    # The header's depth and colour type; Pillow spreads fewer bits over 0 … 255.
    if mask_bytes[24:26] != _EIGHT_BIT_GRAYSCALE:
        raise ValueError("the mask is not a PNG of one 8-bit channel")
    return read_class_ids(mask_bytes)


def read_class_ids(mask_bytes: bytes) -> np.ndarray:
    """Returns a mask's pixels, uint8 [H, W], with a palette or without.

    Raises:
        ValueError: it cannot be read.
    """
    return np.array(_open(mask_bytes, "the mask"))


def overlay(
    image_bytes: bytes,
    mask_bytes: bytes,
    names: Sequence[str],
    colors: Sequence[Color],
    class_fraction: Sequence[float],
    *,
    reading: Reading = RGB,
) -> bytes:
    """Returns a JPEG of the image with its classes laid over it and a legend below, as `labelled` draws it.

    Args:
        image_bytes: the encoded image; of an animation, the first frame.
        mask_bytes: PNG of class ids at the image's size.
        names: one for every class id.
        colors: one for every class id.
        class_fraction: [C], the shares that the legend tells.
        reading: how the model reads the image; of bands, the first three are drawn.

    Raises:
        ValueError: the image cannot be read here, or its size is not the mask's.
    """
    if reading.bands is not None:
        image = as_picture(unstacked(read_png(image_bytes), len(reading.bands)), reading.value_range)
    elif is_deep_png(image_bytes):
        image = as_picture(read_png(image_bytes), reading.value_range)
    else:
        image = as_rgb(_open(image_bytes, "the image"))
    if reading.upright:
        image = turned(image, orientation_of(image_bytes))
    jpeg = io.BytesIO()
    labelled(image, read_class_ids(mask_bytes), names, colors, class_fraction).save(
        jpeg, "JPEG", quality=_JPEG_QUALITY
    )
    return jpeg.getvalue()


def as_rgb(image: Image.Image) -> Image.Image:
    """Returns a picture in RGB; of 16 bits a channel, which Pillow would clip, the upper 8."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def class_map(class_ids: np.ndarray, colors: Sequence[Color]) -> Image.Image:
    """Returns class ids, uint8 [H, W], as a picture whose pixels they are and whose palette the colours."""
    picture = Image.fromarray(class_ids)
    picture.putpalette([channel for color in colors for channel in color])
    return picture


def labelled(
    image: Image.Image,
    class_ids: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
    class_fraction: Sequence[float],
) -> Image.Image:
    """Returns an image, its classes tinted and outlined, and below it their names and shares, largest first.

    Args:
        image: RGB.
        class_ids: uint8 [H, W].
        names: one for every class id.
        colors: one for every class id.
        class_fraction: [C], the shares that the legend tells.

    Raises:
        ValueError: the two are not of one size.
    """
    height, width = class_ids.shape
    if image.size != (width, height):
        raise ValueError(f"the image is {image.width} × {image.height}, its mask {width} × {height}")
    # An outline is where a pixel's class differs from that of its right or lower neighbour.
    outlines = np.zeros(class_ids.shape, bool)
    outlines[:, :-1] = class_ids[:, :-1] != class_ids[:, 1:]
    outlines[:-1] |= class_ids[:-1] != class_ids[1:]
    opacity = np.where(outlines, 255, round(_OPACITY * 255)).astype(np.uint8)
    tinted = Image.composite(class_map(class_ids, colors).convert("RGB"), image, Image.fromarray(opacity))
    shown = sorted((-share, class_id) for class_id, share in enumerate(class_fraction) if share > 0)
    items = [(f"{names[class_id]} {percent(-share)}", colors[class_id]) for share, class_id in shown]
    return grid([[tinted], [legend(items, width, max(12, min(image.size) // 40))]])


def legend(items: Sequence[tuple[str, Color]], width: int, size: int) -> Image.Image:
    """Returns names beside their colours, in as many lines as ``width`` asks for; ``size`` is the font's."""
    gap = size // 2
    placed: list[tuple[Image.Image, tuple[int, int]]] = []
    x, y = 0, gap
    for name, color in items:
        words = text(name, size)
        entry = Image.new("RGB", (3 * gap + size + words.width, words.height), "white")
        entry.paste("black", (gap, 0, gap + size, size))
        entry.paste(color, (gap + 1, 1, gap + size - 1, size - 1))
        entry.paste(words, (2 * gap + size, 0))
        if x and x + entry.width > width:
            x, y = 0, y + entry.height
        placed.append((entry, (x, y)))
        x += entry.width
    result = Image.new("RGB", (width, y + _line_height(size)), "white")
    for entry, place in placed:
        result.paste(entry, place)
    return result


def grid(rows: Sequence[Sequence[Image.Image]], gap: int = 0) -> Image.Image:
    """Returns pictures in rows and columns on white, ``gap`` pixels between them and around."""
    columns = range(max(map(len, rows)))
    widths = [max(row[column].width for row in rows if column < len(row)) + gap for column in columns]
    heights = [max(picture.height for picture in row) + gap for row in rows]
    canvas = Image.new("RGB", (sum(widths) + gap, sum(heights) + gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(picture, (sum(widths[:x]) + gap, sum(heights[:y]) + gap))
    return canvas


def text(words: str, size: int) -> Image.Image:
    r"""Returns a line of text, black on white, as wide as it is; its letters stand ``size`` below the top.

    What DejaVu Sans lacks, such as Chinese, is drawn in a font of this machine that has it. What no font has
    is written as its code, such as ``\u6728``: a box would say the same of every name.
    """
    runs = _runs(words, size)
    # A pixel on either side: some letters, T for one, reach beyond their own width.
    width = math.ceil(sum(font.getlength(run) for font, run in runs)) + 2
    line = Image.new("RGB", (width, _line_height(size)), "white")
    draw, x = ImageDraw.Draw(line), 1.0
    for font, run in runs:
        draw.text((x, size), run, "black", font, anchor="ls")
        x += font.getlength(run)
    return line


def _line_height(size: int) -> int:
    return size * 3 // 2


def _runs(words: str, size: int) -> list[tuple[ImageFont.FreeTypeFont, str]]:
    """What to draw one after the other, each with a font that has all of it."""
    drawn: list[tuple[ImageFont.FreeTypeFont, str]] = []
    for character in unicodedata.normalize("NFC", words):
        font = _font_with(character, size)
        code = character.encode("unicode_escape").decode()
        drawn += [(font, character)] if font else [(_font(_dejavu(), size), sign) for sign in code]
    return [(font, "".join(sign for _, sign in run)) for font, run in groupby(drawn, itemgetter(0))]


@cache
def _font_with(character: str, size: int) -> ImageFont.FreeTypeFont | None:
    # A line break is no part of a line; a lone surrogate is no character.
    if not character.isprintable() and character not in _JOINERS:
        return None
    for path in _fonts():
        with suppress(OSError):  # Of a font of bitmaps there are some sizes only.
            if _has(path, size, character):
                return _font(path, size)
    return None


def _fonts() -> Iterator[str]:
    """The fonts' files, the first choice first; the others are looked for only where it is not enough."""
    yield _dejavu()
    yield from _installed_fonts()


def _has(path: str, size: int, character: str) -> bool:
    # Character by character: otherwise a vowel sign without its consonant gets something to stand on.
    font = _font(path, size, layout_engine=ImageFont.Layout.BASIC)
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))


@cache
def _dejavu() -> str:
    """Matplotlib's own font, found without importing it: it has Latin, Greek, Cyrillic, Arabic and more."""
    spec = find_spec("matplotlib")
    assert spec and spec.origin
    return str(Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")


# One object a font and size: neighbours in one font are drawn together, as their script may ask for.
_font = cache(ImageFont.truetype)


@cache
def _installed_fonts() -> tuple[str, ...]:
    # Takes a second, which only names need that DejaVu cannot write.
    from matplotlib.font_manager import findSystemFonts

    # Apple's last resort has a box for every character.
    return tuple(sorted(path for path in findSystemFonts() if "LastResort" not in path))


def _open(encoded: bytes, what: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        image.load()
        return image
    except Exception as error:  # Pillow's decoders raise a dozen types over damaged bytes.
        raise ValueError(f"{what} cannot be read: {error}") from None
