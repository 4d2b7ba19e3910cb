"""The candidate's masks of the test split, image by image.

The Evaluator keeps sums, no masks; so they are computed once more, through the same signature. Nor are they
kept here: of the few that a page shows the model is asked again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.metrics.confusion import Margins, count_pixels, decode_mask, margins
from components.report.examples import Example, read_split

_BATCH: Final = 8


class Candidate:
    """A SavedModel's signature ``evaluate``."""

    def __init__(self, model_dir: Path):
        self._evaluate = tf.saved_model.load(str(model_dir)).signatures["evaluate"]

    def masks(self, examples: Iterable[Example]) -> Iterator[tuple[Example, bytes]]:
        """Yields each Example, and the mask that the model makes of its image: a PNG of class ids."""
        for batch in _batches(examples):
            serialized = tf.constant([example.serialized for example in batch])
            masks = self._evaluate(examples=serialized)["mask_bytes"].numpy()
            yield from zip(batch, masks, strict=True)


class SegmentedImage(NamedTuple):
    """What tells one image from others."""

    name: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class Predictions:
    """What the candidate's masks of a split are worth, in the order of its Examples."""

    images: tuple[SegmentedImage, ...]
    margins: Margins
    """Of each image's confusion matrix: int64 [N, C] each."""
    confusion: np.ndarray
    """int64 [C, C], the sum."""


def predict_split(candidate: Candidate, split_dir: Path, num_classes: int) -> Predictions:
    """Asks the candidate for the masks of a split, and counts."""
    images: list[SegmentedImage] = []
    rows: list[list[list[int]]] = []
    total = np.zeros((num_classes, num_classes), np.int64)
    for example, mask in candidate.masks(read_split(split_dir)):
        confusion = count_pixels(decode_mask(example.mask), decode_mask(mask), num_classes, IGNORE_LABEL)
        total += confusion
        # Not as arrays: such small ones would lie among pixels, in memory that then cannot be given back.
        rows.append([margin.tolist() for margin in margins(confusion)])
        images.append(SegmentedImage(example.name, example.attributes))
    per_image = np.array(rows, np.int64).reshape(len(rows), len(Margins._fields), num_classes)
    return Predictions(tuple(images), Margins(*per_image.swapaxes(0, 1)), total)


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    remaining = iter(examples)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
