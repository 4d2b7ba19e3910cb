"""From one pair of files to one tf.Example."""

import io
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import PngImagePlugin

from components.dataset import features
from components.image_mask_example_gen.checks import PairFacts, packed
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.image import EncodedImage, read_image
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.mask import Mask
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.exif import swaps_sides
from components.imaging.reading import PNG_SIGNATURE, Exif, Reading

_PNG_FILTER_UP = 2
_COUNTED_AT_ONCE = 1 << 20
"""Pixels."""


@dataclass(frozen=True)
class ExampleReader:
    """Reads pairs, checks them and maps their labels."""

    layout: Layout
    """How the dataset's files are read."""
    root: Path
    """The dataset's folder, reachable from every worker."""
    mapping: LabelMapping
    max_pixels: int
    """Pictures with more are rejected before they are decoded."""
    reading: Reading
    """How the model reads images, and so whether masks are those of upright pictures."""

    def files(self, entry: Entry) -> list[Path]:
        """Returns what a pair is read from, but for what many pairs share."""
        masks = entry.mask_files if self.layout.masks_are_files else ()
        return [self.layout.image_file(self.root, entry), *(self.root / path for path in masks)]

    def image(self, entry: Entry) -> EncodedImage:
        """Reads a pair's image; raises InputRejectedError."""
        return read_image(self.layout.image_file(self.root, entry), self.max_pixels, self.reading)

    def read(self, entry: Entry) -> tuple[bytes, PairFacts] | Rejection:
        """Returns a pair's serialized Example and what is remembered of it, or why there is none."""
        file, other = entry.image, entry.mask
        try:
            image = self.image(entry)
            file, other = other, file
            mask = self.layout.open_mask(self.root, entry, self.max_pixels)
            height, width = _fitted_size(image, mask, self.reading.exif)
            raw = mask.read(as_colors=self.mapping.of_colors)
            class_ids = self.mapping.class_ids(raw)
            repaired_pixels = self.mapping.repaired_pixels(raw)
            class_pixels = count_classes(class_ids, self.mapping.num_classes)
        except InputRejectedError as rejected:
            return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
        facts = PairFacts(
            image.sketch(),
            image.used_range,
            image.bands_left_out,
            tuple(map(packed, mask.palettes)),
            repaired_pixels,
            _binary_pixels(class_pixels, class_ids.size),
        )
        return _serialize(entry, image, height, width, encode_mask(class_ids), class_pixels), facts


def _binary_pixels(class_pixels: Sequence[int], num_pixels: int) -> tuple[int, int, int] | None:
    match class_pixels:
        case [rest, thing]:
            return rest, thing, num_pixels - rest - thing
        case _:
            return None


def _fitted_size(image: EncodedImage, mask: Mask, exif: Exif | None) -> tuple[int, int]:
    """Returns height and width of the image as the model reads it, which are the mask's.

    Raises:
      InputRejectedError: they are not, or nobody has said how the model reads it.
    """
    stored = (image.height, image.width)
    upright = stored[::-1] if swaps_sides(image.orientation) else stored
    wanted = upright if exif == "upright" else stored
    size = (mask.height, mask.width)
    if size != wanted:
        found = f"the mask is {mask.width} x {mask.height} pixels, the image {wanted[1]} x {wanted[0]}"
        if size in (stored, upright):
            other = "stored" if exif == "upright" else "upright"
            found += f", and {size[1]} x {size[0]} with dataset.exif={other}: its EXIF turns it"
        raise InputRejectedError(Reason.SIZES_DIFFER, found)
    if exif is None and image.orientation != 1 and upright == stored:
        raise InputRejectedError(
            Reason.ORIENTATION_UNKNOWN,
            f"its EXIF says orientation {image.orientation}, and the sizes fit either way: set dataset.exif "
            "to upright, or to stored where masks fit pictures as they are stored",
        )
    return size


def _serialize(
    entry: Entry, image: EncodedImage, height: int, width: int, mask: bytes, class_pixels: Sequence[int]
) -> bytes:
    values: dict[str, bytes | Sequence[int]] = {
        features.IMAGE_ENCODED: image.data,
        features.IMAGE_FORMAT: image.format.encode(),
        features.IMAGE_FILENAME: os.fsencode(entry.image),
        features.IMAGE_HEIGHT: [height],
        features.IMAGE_WIDTH: [width],
        features.MASK_ENCODED: mask,
        features.MASK_FORMAT: b"png",
        features.CLASS_PIXELS: class_pixels,
    }
    values |= {name: text.encode() for name, text in entry.attributes}
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    return bytes(example.SerializeToString(deterministic=True))


def count_classes(class_ids: np.ndarray, num_classes: int) -> list[int]:
    """Counts the pixels of each class in uint8 [height, width]; the ignore label is left out.

    By runs, of which a mask has few: several times as fast as by pixels.
    """
    pixels = np.zeros(1 + features.IGNORE_LABEL, np.int64)
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
