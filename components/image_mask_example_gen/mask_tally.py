"""What no mask shows alone and all of them do: palettes that differ, repairs, an ignored class."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.image_mask_example_gen.mask import Mask, Palette, PictureMask
from components.image_mask_example_gen.merged_mask import MergedMask
from components.image_mask_example_gen.report import printable
from components.imaging.palette import Color

_FEWEST_MASKS: Final = 2
_AS_LARGE: Final = 0.25
"""What counts nowhere lies in narrow borders; from this part of the object's area on it looks like one."""

logger = logging.getLogger(__name__)


class Shown(NamedTuple):
    """One of the colours that a palette's index has."""

    color: Color
    masks: int
    file: str
    """One of the masks."""


@dataclass
class Presence:
    """Masks of two classes in which one value stands without the other."""

    masks: int = 0
    pixels: int = 0

    def add(self, masks: int, pixels: int) -> None:
        """Counts masks, with the value's pixels."""
        self.masks += masks
        self.pixels += pixels


@dataclass
class MaskTally:
    """Adds up masks as they are read, and tallies of several shards; goes through JSON."""

    repaired_masks: int = 0
    repaired_pixels: int = 0
    shown: dict[int, list[Shown]] = field(default_factory=dict)
    """The colours of each palette index that stands in masks."""
    only_object: Presence = field(default_factory=Presence)
    only_ignored: Presence = field(default_factory=Presence)
    object_and_ignored: int = 0
    """Masks; like the two before it of class 1, where there are two classes."""

    def add(
        self, file: str, mask: Mask, class_ids: np.ndarray, repaired_pixels: int, *, binary: bool
    ) -> None:
        """Counts one mask.

        Args:
          file: Its name, for messages.
          mask: The mask, read.
          class_ids: What became of it, uint8 [height, width].
          repaired_pixels: How many of them were no raw label to the letter.
          binary: Whether there are two classes.
        """
        self.repaired_masks += bool(repaired_pixels)
        self.repaired_pixels += repaired_pixels
        if isinstance(mask, PictureMask | MergedMask):
            self.show(file, mask.palettes)
        if binary:
            # Bytes are searched ten times as fast as arrays.
            pixels = class_ids.tobytes()
            has_object, has_ignored = 1 in pixels, IGNORE_LABEL in pixels
            self.object_and_ignored += has_object and has_ignored
            if has_object and not has_ignored:
                self.only_object.add(1, pixels.count(1))
            elif has_ignored and not has_object and 0 in pixels:
                self.only_ignored.add(1, pixels.count(IGNORE_LABEL))

    def show(self, file: str, palettes: Iterable[Palette]) -> None:
        """Counts one mask's palettes."""
        for palette in palettes:
            for index, color in palette.items():
                self._show(index, Shown(color, 1, printable(file)))

    def merge(self, others: Iterable["MaskTally"]) -> None:
        """Adds tallies of other masks."""
        for other in others:
            self.repaired_masks += other.repaired_masks
            self.repaired_pixels += other.repaired_pixels
            self.only_object.add(other.only_object.masks, other.only_object.pixels)
            self.only_ignored.add(other.only_ignored.masks, other.only_ignored.pixels)
            self.object_and_ignored += other.object_and_ignored
            for index, colors in other.shown.items():
                for shown in colors:
                    self._show(index, shown)

    def _show(self, index: int, shown: Shown) -> None:
        colors = self.shown.setdefault(index, [])
        for place, known in enumerate(colors):
            if known.color == shown.color:
                masks, file = known.masks + shown.masks, min(known.file, shown.file)
                colors[place] = Shown(known.color, masks, file)
                return
        colors.append(shown)

    def check(self, tolerance: int) -> None:
        """Says what was repaired and what looks wrong.

        Args:
          tolerance: ``dataset.label_tolerance``.

        Raises:
          StageError: palettes differ, so a number is not the same class in all masks.
        """
        if difference := palette_difference(self.shown):
            raise StageError(
                f"The masks' palettes differ: {difference}. A number does not mean the same in all of them: "
                "give dataset.label_values a [red, green, blue] for each class; or, if the numbers are right "
                "whatever colours they show, dataset.mask_values: index."
            )
        if self.repaired_masks:
            logger.info(
                "%d masks were smeared: %s of their pixels, up to %d off a class's value, were taken for it",
                self.repaired_masks,
                f"{self.repaired_pixels:,}",
                tolerance,
            )
        alone, ignored = self.only_object, self.only_ignored
        if (
            alone.masks
            and ignored.masks >= _FEWEST_MASKS
            and not self.object_and_ignored
            and ignored.pixels / ignored.masks > _AS_LARGE * alone.pixels / alone.masks
        ):
            logger.warning(
                "what is ignored fills large areas of %d masks, none of which holds the second class, as %d "
                "others do: is it the same class, written with another value? If so, give it a name in "
                "dataset.label_values and merge that in dataset.merge_classes",
                ignored.masks,
                alone.masks,
            )


def palette_difference(shown: dict[int, list[Shown]]) -> str:
    """Says which index has several colours, and where; empty where none has."""
    for index, colors in sorted(shown.items()):
        if len(colors) > 1:
            usual, other = sorted(colors, key=lambda shown: (-shown.masks, shown.file))[:2]
            return (
                f"index {index} is {list(usual.color)} in {usual.masks} masks, such as {usual.file}, and "
                f"{list(other.color)} in {other.masks}, such as {other.file}"
            )
    return ""
