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
from components.image_mask_example_gen.mask_tally import MaskTally
from components.image_mask_example_gen.report import Reason, Rejection

_PNG_FILTER_UP = 2


class ReadExample(NamedTuple):
    """A pair that was read."""

    serialized: bytes
    """The Example."""
    sketch: str
    """Of the image, see `EncodedImage`."""


def read_example(
    layout: Layout, root: Path, entry: Entry, mapping: LabelMapping, max_pixels: int, tally: MaskTally
) -> ReadExample | Rejection:
    """Reads a pair, checks it and maps its labels.

    Args:
      layout: How the dataset's files are read.
      root: The dataset's folder.
      entry: The pair.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.
      tally: Counts the mask.

    Returns:
      The Example, or why there is none.
    """
    file, other = entry.image, entry.mask
    try:
        image = read_image(layout.image_file(root, entry), max_pixels)
        file, other = other, file
        mask = layout.open_mask(root, entry, max_pixels)
        if (mask.height, mask.width) != (image.height, image.width):
            raise InputRejectedError(
                Reason.SIZES_DIFFER,
                f"the mask is {mask.width} x {mask.height} pixels, the image {image.width} x {image.height}",
            )
        raw = mask.read(as_colors=mapping.of_colors)
        class_ids = mapping.class_ids(raw)
        tally.add(entry.mask, mask, class_ids, mapping.repaired_pixels(raw), binary=mapping.is_binary)
    except InputRejectedError as rejected:
        return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
    example = _example(entry, image, encode_mask(class_ids))
    return ReadExample(example.SerializeToString(deterministic=True), image.sketch())


def _example(entry: Entry, image: EncodedImage, mask: bytes) -> tf.train.Example:
    values: dict[str, bytes | int] = {
        features.IMAGE_ENCODED: image.data,
        features.IMAGE_FORMAT: image.format.encode(),
        features.IMAGE_FILENAME: os.fsencode(entry.image),
        features.IMAGE_HEIGHT: image.height,
        features.IMAGE_WIDTH: image.width,
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
