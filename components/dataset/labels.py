"""The label set: what class ids mean and how they are drawn."""

from typing import Final, Self

from pydantic import Field, model_validator

from components.dataset.features import IGNORE_LABEL
from components.settings import Settings

MAX_CLASSES = IGNORE_LABEL
"""Class ids share a byte with the ignore label."""

Color = tuple[int, int, int]

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
    colors = list(_FIRST_COLORS[:size])
    for class_id in range(len(colors), size):
        red = green = blue = 0
        bits = class_id
        for shift in range(7, -1, -1):
            red |= (bits & 1) << shift
            green |= (bits >> 1 & 1) << shift
            blue |= (bits >> 2 & 1) << shift
            bits >>= 3
        colors.append((red, green, blue))
    return tuple(colors)


class LabelSet(Settings):
    """Names and colours of the classes, in the order of their ids 0 … C-1.

    Serialises with ``model_dump_json`` and ``model_validate_json``; the same JSON travels in
    component parameters and in a model's ``assets.extra/labels.json``.
    """

    names: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    """Class names; two at least, or there is nothing to tell apart."""
    colors: tuple[Color, ...] = ()
    """RGB, 0 … 255, one a class; empty means the default palette."""

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> tuple[Color, ...]:
        """The colours to draw with, one a class."""
        return self.colors or default_palette(self.num_classes)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(f"class names must be distinct; repeated: {', '.join(repeated)}")
        if self.colors and len(self.colors) != len(self.names):
            raise ValueError(
                f"{len(self.colors)} colours for {len(self.names)} classes; give one a class or none"
            )
        return self
