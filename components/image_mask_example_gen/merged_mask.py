"""One mask of several files: an instance each, or a class each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.layouts.layout import MaskPart, MaskValues
from components.image_mask_example_gen.mask import Palette, open_mask
from components.image_mask_example_gen.report import Reason

_SHOWN_VALUES = 5


class MergedMask:
    """A mask whose files lie over each other, the later over the earlier.

    What is 0, or black, in a file is left as the files before it have it, 0 at first. A part with a value
    of its own has this one wherever it is not 0.

    Args:
      root: The dataset's folder.
      parts: The files in their order.
      max_pixels: Files with more are rejected.
      values: What a file's raw values are where its pixels are not.

    Raises:
      InputRejectedError: a file is damaged, or their sizes differ.
    """

    def __init__(
        self, root: Path, parts: Sequence[MaskPart], max_pixels: int, values: MaskValues | None = None
    ):
        self._parts = [(part, open_mask(root / part.path, max_pixels, values)) for part in parts]
        (first, mask), *others = self._parts
        self.height, self.width = mask.height, mask.width
        for part, other in others:
            if (other.height, other.width) != (self.height, self.width):
                raise InputRejectedError(
                    Reason.SIZES_DIFFER,
                    f"{first.path} is {self.width} x {self.height} pixels, {part.path}, which belongs to the "
                    f"same image, {other.width} x {other.height}",
                )

    @property
    def palettes(self) -> tuple[Palette, ...]:
        """After ``read``: those of its files, but for parts with a value, whose indices mean nothing."""
        return tuple(palette for part, mask in self._parts if part.value is None for palette in mask.palettes)

    def read(self, as_colors: bool) -> np.ndarray:
        """See ``Mask``.

        Raises:
          InputRejectedError: a file is damaged, holds colours where the others hold none, or is one class's
            and holds more than one value.
        """
        merged: np.ndarray | None = None
        for part, mask in self._parts:
            raw = mask.read(as_colors and part.value is None)
            covered = raw.any(axis=-1) if raw.ndim == 3 else raw != 0
            if part.value is not None:
                _check_binary(part, raw, covered)
                raw = np.full(raw.shape[:2], part.value, np.uint8)
            if merged is None:
                merged = np.zeros_like(raw)
            elif merged.ndim != raw.ndim:
                raise InputRejectedError(
                    Reason.NOT_DECODABLE, f"{part.path} and the files before it are not both in colours"
                )
            merged = merged.astype(np.promote_types(merged.dtype, raw.dtype), copy=False)
            merged[covered] = raw[covered]
        assert merged is not None, "a mask has parts"
        return merged


def _check_binary(part: MaskPart, raw: np.ndarray, covered: np.ndarray) -> None:
    """Values that were smeared, or that mean several classes, must not all become one."""
    values = np.unique(raw[covered], axis=0)
    if len(values) > 1:
        shown = ", ".join(map(str, values[:_SHOWN_VALUES].tolist())) + (
            ", …" if len(values) > _SHOWN_VALUES else ""
        )
        raise InputRejectedError(
            Reason.LABEL_OUTSIDE_CLASSES,
            f"{part.path} holds {shown} besides 0; the mask of one class holds one value",
        )
