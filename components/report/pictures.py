"""Pictures small enough to travel within a page."""

import base64
import io
from collections.abc import Sequence
from typing import Final

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.dataset.labels import Color
from components.pillow import Image

RIGHT_COLOR: Final[Color] = (214, 227, 236)
"""Of pixels whose class was predicted."""
WRONG_COLOR: Final[Color] = (213, 94, 0)
"""Of pixels whose class was not; vermillion of the palette by Okabe and Ito."""

_RIGHT, _WRONG = 0, 1
_QUALITY: Final = 78


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Returns the size of a thumbnail whose longer side is ``side``; nothing is enlarged."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def photograph(encoded: bytes, size: tuple[int, int]) -> str:
    """Returns an encoded image as a data URI, at the size given."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", size)
        # Of 16 bits a channel the upper 8 are shown.
        deep = image.mode.startswith("I")
        shallow = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
        small = shallow.convert("RGB").resize(size, Image.Resampling.BOX)
    return _data_uri(small, "webp", quality=_QUALITY, method=6)


def class_map(class_ids: np.ndarray, colors: Sequence[Color]) -> str:
    """Returns class ids, uint8 [height, width], as a data URI; ignored pixels are transparent."""
    return _paletted(class_ids, colors)


def error_map(truth: np.ndarray, prediction: np.ndarray) -> str:
    """Returns where two masks, uint8 [height, width] each, agree and where not, as a data URI.

    Pixels that the truth ignores are transparent.
    """
    wrong = np.where(truth == prediction, _RIGHT, _WRONG).astype(np.uint8)
    return _paletted(np.where(truth == IGNORE_LABEL, IGNORE_LABEL, wrong), (RIGHT_COLOR, WRONG_COLOR))


def shrunk(class_ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns class ids, uint8 [height, width], at another size, every pixel one of the old ones."""
    return np.asarray(Image.fromarray(class_ids).resize(size, Image.Resampling.NEAREST))


def told_apart(colors: Sequence[Color]) -> tuple[Color, ...]:
    """Returns the colours, each changed so little that nobody sees it where two classes share one.

    The page reads class ids from colours.
    """
    apart: list[Color] = []
    for red, green, blue in colors:
        code = red << 16 | green << 8 | blue
        while (color := (code >> 16 & 255, code >> 8 & 255, code & 255)) in apart:
            code += 1
        apart.append(color)
    return tuple(apart)


def _paletted(indices: np.ndarray, colors: Sequence[Color]) -> str:
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    flat = [channel for color in colors for channel in color]
    picture.putpalette(flat + [0] * (3 * 256 - len(flat)))
    return _data_uri(picture, "png", optimize=True, transparency=IGNORE_LABEL)


def _data_uri(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
