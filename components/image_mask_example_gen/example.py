"""From one pair of files to one tf.Example."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import PngImagePlugin

from components.dataset import features
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.image import EncodedImage, read_image
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.mask import Mask
from components.image_mask_example_gen.mask_tally import MaskTally
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.exif import swaps_sides
from components.imaging.reading import Exif

_PNG_FILTER_UP = 2


class ReadExample(NamedTuple):
    """A pair that was read."""

    serialized: bytes
    """The Example."""
    sketch: str
    """Of the image, see `EncodedImage`."""
    used_range: tuple[int, int] | None
    """Likewise."""
    bands_left_out: int
    """Likewise."""


def read_example(
    layout: Layout,
    root: Path,
    entry: Entry,
    mapping: LabelMapping,
    max_pixels: int,
    exif: Exif | None,
    tally: MaskTally,
) -> ReadExample | Rejection:
    """Reads a pair, checks it and maps its labels.

    Args:
      layout: How the dataset's files are read.
      root: The dataset's folder.
      entry: The pair.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.
      exif: Whether masks are those of upright pictures or of pictures as they are stored; None for not known.
      tally: Counts the mask.

    Returns:
      The Example, or why there is none.
    """
    file, other = entry.image, entry.mask
    try:
        image = read_image(layout.image_file(root, entry), max_pixels)
        file, other = other, file
        mask = layout.open_mask(root, entry, max_pixels)
        height, width = _fitted_size(image, mask, exif)
        raw = mask.read(as_colors=mapping.of_colors)
        class_ids = mapping.class_ids(raw)
        tally.add(entry.mask, mask, class_ids, mapping.repaired_pixels(raw), binary=mapping.is_binary)
    except InputRejectedError as rejected:
        return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
    example = _example(entry, image, height, width, encode_mask(class_ids))
    return ReadExample(
        example.SerializeToString(deterministic=True), image.sketch(), image.used_range, image.bands_left_out
    )


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


def _example(entry: Entry, image: EncodedImage, height: int, width: int, mask: bytes) -> tf.train.Example:
    values: dict[str, bytes | int] = {
        features.IMAGE_ENCODED: image.data,
        features.IMAGE_FORMAT: image.format.encode(),
        features.IMAGE_FILENAME: os.fsencode(entry.image),
        features.IMAGE_HEIGHT: height,
        features.IMAGE_WIDTH: width,
        features.MASK_ENCODED: mask,
        features.MASK_FORMAT: b"png",
    }
    values |= {name: text.encode() for name, text in entry.attributes}
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example


def encode_mask(class_ids: np.ndarray) -> bytes:
    """Encodes uint8 [height, width] as a single-channel 8-bit PNG.

    Each row is written as its difference to the row above, which in a mask is nearly all zeros, and zlib
    looks for runs only. Pillow chooses a filter for each row anew: three times as slow, for the same size.
    """
    height, width = class_ids.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _PNG_FILTER_UP
    rows[0, 1:] = class_ids[0]
    np.subtract(class_ids[1:], class_ids[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    PngImagePlugin.putchunk(file, b"IDAT", deflate.compress(rows.data) + deflate.flush())
    PngImagePlugin.putchunk(file, b"IEND", b"")
    return file.getvalue()
