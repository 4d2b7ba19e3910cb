"""Reads a split's Examples for the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.dataset import features


@dataclass(frozen=True)
class Example:
    """One pair of image and ground truth."""

    name: str
    """Of the image's file, printable."""
    image: bytes
    mask: bytes
    """PNG of class ids."""
    width: int
    height: int
    class_pixels: tuple[int, ...]
    """Of the mask, by class id; the rest are ignored."""
    attributes: dict[str, str]
    serialized: bytes


def read_split(split_dir: Path) -> Iterator[Example]:
    """Yields the Examples of a split, in the order of its files."""
    files = sorted(str(path) for path in split_dir.iterdir() if path.is_file())
    for serialized in tf.data.TFRecordDataset(files).as_numpy_iterator():
        values = tf.train.Example.FromString(serialized).features.feature

        def text(key: str, values: tf.train.Features = values) -> str:
            return values[key].bytes_list.value[0].decode("utf-8", "backslashreplace")

        yield Example(
            name=text(features.IMAGE_FILENAME),
            image=values[features.IMAGE_ENCODED].bytes_list.value[0],
            mask=values[features.MASK_ENCODED].bytes_list.value[0],
            width=values[features.IMAGE_WIDTH].int64_list.value[0],
            height=values[features.IMAGE_HEIGHT].int64_list.value[0],
            class_pixels=tuple(values[features.CLASS_PIXELS].int64_list.value),
            attributes={
                key.removeprefix(features.ATTRIBUTE_PREFIX): text(key)
                for key in values
                if key.startswith(features.ATTRIBUTE_PREFIX)
            },
            serialized=serialized,
        )
