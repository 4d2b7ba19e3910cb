"""From a mask's files to the class ids of an Example, encoded and counted. TensorFlow is not needed."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import PngImagePlugin

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen.checks import packed
from components.image_mask_example_gen.files import InputRejectedError, naming_in_memory_error
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.imaging.reading import PNG_SIGNATURE

_PNG_FILTER_UP = 2
_COUNTED_AT_ONCE = 1 << 20
"""Pixels."""


class ClassMask(NamedTuple):
    """What an Example and the report have of a mask."""

    png: bytes
    """Its class ids, see `encode_mask`."""
    class_pixels: Sequence[int]
    """One a class."""
    num_pixels: int
    """All, ignored ones included."""
    palettes: tuple[str, ...]
    """Those whose indices are the raw values: see `packed`."""
    repaired_pixels: int


class ReadMask(NamedTuple):
    """What came of reading a mask."""

    size: tuple[int, int] | None
    """Height and width; None where not even these could be read."""
    outcome: ClassMask | InputRejectedError


@dataclass(frozen=True)
class MaskReader:
    """Reads masks and maps their labels."""

    layout: Layout
    """How the dataset's files are read."""
    root: Path
    """The dataset's folder, reachable from every worker."""
    mapping: LabelMapping
    max_pixels: int
    """Pictures with more are rejected before they are decoded."""

    def read(self, entry: Entry) -> ReadMask:
        """Reads a pair's mask.

        Raises:
          MemoryError: there is not enough.
          StageError: what hinders says nothing of the file.
        """
        with naming_in_memory_error(entry.mask):
            return self._read(entry)

    def _read(self, entry: Entry) -> ReadMask:
        size = None
        try:
            mask = self.layout.open_mask(self.root, entry, self.max_pixels)
            size = mask.height, mask.width
            raw = mask.read(as_colors=self.mapping.of_colors)
            class_ids = self.mapping.class_ids(raw)
            repaired_pixels = self.mapping.repaired_pixels(raw)
        except InputRejectedError as rejected:
            return ReadMask(size, rejected)
        return ReadMask(
            size,
            ClassMask(
                encode_mask(class_ids),
                count_classes(class_ids, self.mapping.num_classes),
                class_ids.size,
                tuple(map(packed, mask.palettes)),
                repaired_pixels,
            ),
        )


def count_classes(class_ids: np.ndarray, num_classes: int) -> list[int]:
    """Counts the pixels of each class in uint8 [height, width]; the ignore label is left out.

    By runs, of which a mask has few: several times as fast as by pixels.
    """
    pixels = np.zeros(1 + IGNORE_LABEL, np.int64)
    # In parts, which bounds the memory that a mask of nothing but noise takes.
    flat = class_ids.reshape(-1)
    for start in range(0, flat.size, _COUNTED_AT_ONCE):
        part = flat[start : start + _COUNTED_AT_ONCE]
        runs = np.concatenate([[0], 1 + np.flatnonzero(part[1:] != part[:-1])])
        np.add.at(pixels, part[runs], np.diff(runs, append=part.size))
    return [int(count) for count in pixels[:num_classes]]


def encode_mask(class_ids: np.ndarray) -> bytes:
    """Encodes uint8 [height, width] as a single-channel 8-bit PNG.

    Each row is written as its difference to the row above, which in a mask is nearly all zeros, and zlib
    looks for runs only, in so little memory that it stays in the processor's cache. Pillow chooses a filter
    for each row anew: three times as slow, for the same size.
    """
    height, width = class_ids.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _PNG_FILTER_UP
    rows[0, 1:] = class_ids[0]
    np.subtract(class_ids[1:], class_ids[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(level=1, memLevel=5, strategy=zlib.Z_RLE)
    file = io.BytesIO()
    file.write(PNG_SIGNATURE)
    PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    PngImagePlugin.putchunk(file, b"IDAT", deflate.compress(rows.data) + deflate.flush())
    PngImagePlugin.putchunk(file, b"IEND", b"")
    return file.getvalue()
