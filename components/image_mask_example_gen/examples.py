"""From one pair of files to one tf.Example."""

import os
from pathlib import Path

import tensorflow as tf

from components.dataset import features
from components.image_mask_example_gen.images import EncodedImage, check_image
from components.image_mask_example_gen.layouts.scan import Entry
from components.image_mask_example_gen.masks import LabelMapping, open_mask
from components.image_mask_example_gen.pictures import read_file
from components.image_mask_example_gen.png import encode_grayscale
from components.image_mask_example_gen.rejections import InputRejectedError, Reason, Rejection


class ExampleReader:
    """Reads pairs, checks them and maps their labels.

    Args:
      root: The dataset's folder.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.
    """

    def __init__(self, root: Path, mapping: LabelMapping, max_pixels: int):
        self._root = root
        self._mapping = mapping
        self._max_pixels = max_pixels

    def read(self, entry: Entry) -> bytes | Rejection:
        """Returns the serialized Example, or why there is none."""
        file = entry.image
        try:
            image = check_image(read_file(self._root / file), self._max_pixels)
            file = entry.mask
            mask = self._read_mask(file, image)
        except InputRejectedError as rejected:
            other = entry.mask if file == entry.image else entry.image
            return Rejection(file, rejected.reason, f"{rejected.found} ({other} is left out with it)")
        return _example(entry, image, mask).SerializeToString(deterministic=True)

    def _read_mask(self, file: str, image: EncodedImage) -> bytes:
        data = read_file(self._root / file)
        mask = open_mask(data, file, self._max_pixels)
        if (mask.height, mask.width) != (image.height, image.width):
            raise InputRejectedError(
                Reason.SIZES_DIFFER,
                f"the mask is {mask.width} x {mask.height} pixels, the image {image.width} x {image.height}",
            )
        raw = mask.read(as_colors=self._mapping.of_colors)
        return encode_grayscale(self._mapping.class_ids(raw))


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
