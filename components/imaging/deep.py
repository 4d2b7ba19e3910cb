"""Pixels of more than 8 bits: how they become the 8 that a network sees. TensorFlow is not needed."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from components.imaging.reading import PNG_SIGNATURE, ValueRange
from components.pillow import Image

_PERCENTILES: Final = (0.1, 99.9)
"""A few hot or dead pixels must not decide."""
_USUAL_BITS: Final = (8, 10, 12, 14, 16)
_DEPTH: Final = slice(24, 25)


def is_deep_png(encoded: bytes) -> bool:
    """Whether bytes are a PNG of 16 bits a channel."""
    return encoded[:4] == PNG_SIGNATURE[:4] and encoded[_DEPTH] == b"\x10"


def read_deep_png(encoded: bytes) -> np.ndarray:
    """Decodes a PNG of 16 bits a channel: uint16 [height, width] or [height, width, 2 … 4]; Pillow keeps 8.

    Raises:
        ValueError: it is damaged.
    """
    from imagecodecs import PngError, png_decode

    try:
        return np.asarray(png_decode(encoded))
    except PngError as error:
        raise ValueError(str(error)) from None


def write_deep_png(pixels: np.ndarray) -> bytes:
    """Encodes uint16 [height, width] or [height, width, 3 or 4], of which Pillow can the first alone."""
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(pixels), level=3))


def colors_of(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels [height, width, …] without alpha: [height, width, 1 or 3]."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :1] if pixels.shape[2] < 3 else pixels[..., :3]


def used_range(pixels: np.ndarray) -> tuple[int, int]:
    """Returns the lowest and the highest value of deep pixels, alpha and outliers left out."""
    colors = colors_of(pixels)
    low, high = (int(np.percentile(colors, percentile, method="nearest")) for percentile in _PERCENTILES)
    return low, high


def joined(ranges: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """Returns the range of what some pictures, None where they are not deep, use together."""
    known = [each for each in ranges if each is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def spread(pixels: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Returns deep pixels as the network sees them: uint8; ``components.imaging.decode`` does the same."""
    low, high = value_range
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def as_picture(pixels: np.ndarray, value_range: ValueRange | None) -> Image.Image:
    """Returns deep pixels as a picture in RGB, for people; without a range, by the bits that it needs."""
    if value_range is None:
        bits = next(bits for bits in _USUAL_BITS if used_range(pixels)[1] < 1 << bits)
        value_range = (0.0, (1 << bits) - 1.0)
    shown = spread(colors_of(pixels), value_range)
    return Image.fromarray(np.broadcast_to(shown, (*shown.shape[:2], 3)).copy())
