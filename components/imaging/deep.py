"""Pixels of more than 8 bits: how they become the 8 that a network sees. TensorFlow is not needed."""

import logging
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import numpy as np

from components.imaging.reading import PNG_SIGNATURE, ValueRange
from components.pillow import Image

_PERCENTILES: Final = (0.1, 99.9)
"""A few hot or dead pixels must not decide."""
_END_DIGITS: Final = 3
"""A range's ends are read with steps of a thousandth of it, or finer."""
_HIGHEST: Final = float(np.finfo(np.float32).max)
_USUAL_BITS: Final = (8, 10, 12, 14, 16)
_DEPTH: Final = slice(24, 25)

# libpng's warnings, of a colour profile that does not fit for example, name no file, and pixels are as good.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)


def is_deep_png(encoded: bytes) -> bool:
    """Whether bytes are a PNG of 16 bits a channel."""
    return encoded[:4] == PNG_SIGNATURE[:4] and encoded[_DEPTH] == b"\x10"


def read_png(encoded: bytes) -> np.ndarray:
    """Decodes a PNG of 8 or 16 bits, of which Pillow keeps 8: [height, width] or [height, width, 2 … 4].

    Raises:
        ValueError: it is damaged.
    """
    from imagecodecs import PngError, png_decode

    try:
        return np.asarray(png_decode(encoded))
    except PngError as error:
        raise ValueError(str(error)) from None


def write_png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 [height, width] or [height, width, 1, 3 or 4]."""
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(pixels), level=3))


def stacked(pixels: np.ndarray) -> np.ndarray:
    """Returns bands, [height, width, bands], one below the other: [bands * height, width]."""
    return np.moveaxis(pixels, -1, 0).reshape(-1, pixels.shape[1])


def unstacked(stack: np.ndarray, bands: int) -> np.ndarray:
    """Returns the bands of a stack, [height, width, bands].

    Raises:
        ValueError: it is none of so many.
    """
    return np.moveaxis(stack.reshape(bands, -1, stack.shape[1]), 0, -1)


def colors_of(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels [height, width, …] without alpha: [height, width, 1 or 3]."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :1] if pixels.shape[2] < 3 else pixels[..., :3]


def used_range(pixels: np.ndarray) -> tuple[float, float] | None:
    """Returns the lowest and the highest value, outliers and what is not finite left out; None without any.

    Integers of integers.
    """
    if pixels.dtype.kind == "u":
        low, high = (int(np.percentile(pixels, percent, method="nearest")) for percent in _PERCENTILES)
        return low, high
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return None
    first, last = (float(np.percentile(finite, percent, method="nearest")) for percent in _PERCENTILES)
    return first, last


def joined(ranges: Iterable[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Returns the range that some pictures use together, None where they are not deep or have no number."""
    known = [each for each in ranges if each is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def range_to_set(used: tuple[float, float]) -> ValueRange:
    """Returns ``dataset.value_range`` for what pictures use: short numbers that cut nothing of it off.

    They are rounded outwards, by steps of a thousandth of the range or less; integers stay.
    """
    first, last = used
    if first == last:
        return first, first + 1
    if isinstance(first, int) and isinstance(last, int):
        return used
    step = Decimal(1).scaleb((Decimal(last) - Decimal(first)).adjusted() - _END_DIGITS)

    def rounded(end: float, direction: str) -> float:
        # In decimals, as a multiple of 0.001 in binary ends in a digit nobody wants to read.
        number = float(Decimal(end).quantize(step, direction)) + 0.0  # No -0.0.
        return number if abs(number) <= _HIGHEST else end

    return rounded(first, ROUND_FLOOR), rounded(last, ROUND_CEILING)


def spread(pixels: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Returns deep pixels as the network sees them: uint8; ``components.imaging.decode`` does the same.

    Of floats NaN is 0.
    """
    low, high = value_range
    with np.errstate(over="ignore"):
        scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(np.nan_to_num(scaled, nan=0.0)), 0, 255).astype(np.uint8)


def as_picture(pixels: np.ndarray, value_range: ValueRange | None) -> Image.Image:
    """Returns pixels as a picture in RGB, for people: of many bands the first three, of two the first.

    Args:
        pixels: [height, width, …]; 8 bits are shown as they are.
        value_range: of all others; None for the bits that they need, of floats for what they use.
    """
    shown = colors_of(pixels)
    if pixels.dtype != np.uint8:
        shown = spread(shown, value_range or _range_to_show(shown))
    return Image.fromarray(np.broadcast_to(shown, (*shown.shape[:2], 3)).copy())


def _range_to_show(pixels: np.ndarray) -> ValueRange:
    used = used_range(pixels) or (0.0, 0.0)
    if pixels.dtype.kind != "u":
        return range_to_set(used)
    bits = next(bits for bits in _USUAL_BITS if used[1] < 1 << bits)
    return 0.0, (1 << bits) - 1.0
