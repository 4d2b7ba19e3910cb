"""From one pair of files to one tf.Example."""

import os
from pathlib import Path

import tensorflow as tf

from components.dataset import features
from components.image_mask_example_gen.files import InputRejectedError, read_file
from components.image_mask_example_gen.image import EncodedImage, check_image
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.mask import encode_mask, open_mask
from components.image_mask_example_gen.report import Reason, Rejection


def read_example(root: Path, entry: Entry, mapping: LabelMapping, max_pixels: int) -> bytes | Rejection:
    """Reads a pair, checks it and maps its labels.

    Args:
      root: The dataset's folder.
      entry: The pair.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.

    Returns:
      The serialised Example, or why there is none.
    """
    file, other = entry.image, entry.mask
    try:
        image = check_image(read_file(root / file), max_pixels)
        file, other = other, file
        mask = open_mask(read_file(root / file), file, max_pixels)
        if (mask.height, mask.width) != (image.height, image.width):
            raise InputRejectedError(
                Reason.SIZES_DIFFER,
                f"the mask is {mask.width} x {mask.height} pixels, the image {image.width} x {image.height}",
            )
        class_ids = mapping.class_ids(mask.read(as_colors=mapping.of_colors))
    except InputRejectedError as rejected:
        return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
    return _example(entry, image, encode_mask(class_ids)).SerializeToString(deterministic=True)


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
