"""The Beam part: each element is one shard, read, checked and written where it is processed.

Only names go in and counts come out, so image bytes never pass a shuffle and memory stays flat.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.io import fileio

from components.image_mask_example_gen.examples import ExampleReader
from components.image_mask_example_gen.masks import LabelMapping
from components.image_mask_example_gen.plan import Shard
from components.image_mask_example_gen.rejections import Rejection


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard's pairs."""

    split: str
    num_examples: int
    rejected: tuple[Rejection, ...]


class WriteShard(beam.DoFn):
    """Writes one TFRecord file per shard; a file appears under its name when it is complete.

    Args:
      root: The dataset's folder, reachable from every worker.
      mapping: Raw labels to class ids.
      max_pixels: Pictures with more are rejected before they are decoded.
      split_dirs: Output folder of each split.
      partial_dir: Folder for files in the making.
    """

    def __init__(
        self, root: Path, mapping: LabelMapping, max_pixels: int, split_dirs: dict[str, str], partial_dir: str
    ):
        self._reader = ExampleReader(root, mapping, max_pixels)
        self._split_dirs = split_dirs
        self._partial_dir = partial_dir

    def process(self, shard: Shard) -> Iterator[ShardOutcome]:
        """Yields the outcome of one shard."""
        # A runner may try a shard twice, even at the same time: each try has a file of its own.
        partial = f"{self._partial_dir}/{shard.split}-{shard.file}-{uuid.uuid4().hex}"
        rejected = []
        with tf.io.TFRecordWriter(partial) as writer:
            for entry in shard.entries:
                result = self._reader.read(entry)
                if isinstance(result, Rejection):
                    rejected.append(result)
                else:
                    writer.write(result)
        fileio.rename(partial, f"{self._split_dirs[shard.split]}/{shard.file}", overwrite=True)
        yield ShardOutcome(shard.split, len(shard.entries) - len(rejected), tuple(rejected))
