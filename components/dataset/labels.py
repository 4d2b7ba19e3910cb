"""The label set: what class ids mean and how they are drawn."""

from typing import Self

from pydantic import Field, model_validator

from components.dataset.features import IGNORE_LABEL
from components.imaging.palette import Color, default_palette
from components.settings import Settings

MAX_CLASSES = IGNORE_LABEL
"""Class ids share a byte with the ignore label."""


class LabelSet(Settings):
    """Names, colours and raw values of the classes, in the order of their ids 0 … C-1.

    Serialises with ``model_dump_json`` and ``model_validate_json``; the same JSON travels in
    component parameters and in a model's ``assets.extra/labels.json``.
    """

    names: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    """Class names; two at least, or there is nothing to tell apart."""
    colors: tuple[Color, ...] = ()
    """RGB, 0 … 255, one a class; empty means the default palette."""
    raw_values: tuple[int | Color, ...] = ()
    """What stands for each class in the data's own masks, all numbers (0 … 65535) or all colours; empty where
    nobody knows."""

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
        if self.raw_values and len(self.raw_values) != len(self.names):
            raise ValueError(
                f"{len(self.raw_values)} raw values for {len(self.names)} classes; give one a class or none"
            )
        return self
