"""The colours that classes are drawn in."""

from collections.abc import Sequence
from itertools import count
from typing import Final

Color = tuple[int, int, int]

IGNORED_COLOR: Final[Color] = (224, 224, 224)
"""Of pixels that have no class."""

_FIRST_COLORS: Final[tuple[Color, ...]] = (
    (0, 0, 0),
    (204, 102, 119),
    (51, 34, 136),
    (221, 204, 119),
    (17, 119, 51),
    (136, 204, 238),
    (136, 34, 85),
    (68, 170, 153),
    (153, 153, 51),
    (170, 68, 153),
    (221, 221, 221),
)
"""Black and the scheme "muted", which people with any one kind of cone missing can tell apart.
Source: Paul Tol, "Colour Schemes", SRON/EPS/TN/09-002."""


def default_palette(size: int) -> tuple[Color, ...]:
    """Returns ``size`` distinct RGB colours, of which the first 11 can be told apart by the colour-blind.

    The others are those of the PASCAL VOC colour map: the bits of the class id are dealt out to the high
    bits of red, green and blue in turn, so neighbouring ids differ strongly.
    Source: PASCAL VOC 2012 development kit, ``VOClabelcolormap``.
    """
    return (*_FIRST_COLORS[:size], *map(_voc_color, range(len(_FIRST_COLORS), size)))


def _voc_color(class_id: int) -> Color:
    red, green, blue = (
        sum((class_id >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def with_ignored(colors: Sequence[Color]) -> tuple[Color, ...]:
    """Returns a colour for each of the 256 values of a mask: the classes', then black, then that of 255."""
    return (*colors, *[(0, 0, 0)] * (255 - len(colors)), IGNORED_COLOR)


def told_apart(colors: Sequence[Color]) -> tuple[Color, ...]:
    """Returns the colours, each changed so little that nobody sees it where two classes share one.

    For where class ids are read back from colours.
    """
    apart: list[Color] = []
    for red, green, blue in colors:
        # The lowest bits of blue first, which eyes are least sensitive to.
        near = ((red, green, blue ^ change) for change in count())
        apart.append(next(color for color in near if color not in apart))
    return tuple(apart)
