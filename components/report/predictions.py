"""The candidate's masks of the test split, image by image.

The Evaluator keeps sums, no masks; so they are computed once more, through the same signature.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.metrics.confusion import Margins, count_pixels, decode_mask, margins
from components.report.examples import Example, read_split

_BATCH: Final = 8


@dataclass(frozen=True)
class Prediction:
    """What the candidate makes of one image."""

    name: str
    attributes: dict[str, str]
    mask: bytes
    """PNG of class ids."""


@dataclass(frozen=True)
class Predictions:
    """All of a split, in the order of its Examples."""

    images: tuple[Prediction, ...]
    margins: Margins
    """Of each image's confusion matrix: int64 [N, C] each."""
    confusion: np.ndarray
    """int64 [C, C], the sum."""


def predict_split(model_dir: Path, split_dir: Path, num_classes: int) -> Predictions:
    """Asks a SavedModel's signature ``evaluate`` for the masks of a split."""
    evaluate = tf.saved_model.load(str(model_dir)).signatures["evaluate"]
    images: list[Prediction] = []
    rows: list[Margins] = []
    total = np.zeros((num_classes, num_classes), np.int64)
    for batch in _batches(read_split(split_dir)):
        serialized = tf.constant([example.serialized for example in batch])
        masks = evaluate(examples=serialized)["mask_bytes"].numpy()
        for example, mask in zip(batch, masks, strict=True):
            confusion = count_pixels(decode_mask(example.mask), decode_mask(mask), num_classes, IGNORE_LABEL)
            total += confusion
            rows.append(margins(confusion))
            images.append(Prediction(example.name, example.attributes, mask))
    stacked = (np.stack(parts) for parts in zip(*rows, strict=True))
    return Predictions(tuple(images), Margins(*stacked), total)


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    remaining = iter(examples)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
