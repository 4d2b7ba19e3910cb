"""The confusion matrix: how it is counted, and what of it the metrics need. NumPy only."""

import io
from typing import NamedTuple

import numpy as np

from components.pillow import Image

_IDS = 256
"""Values a pixel of a mask can take."""


class MaskError(ValueError):
    """A ground truth or a prediction that cannot be counted."""


def decode_mask(encoded: bytes) -> np.ndarray:
    """Decodes a single-channel 8-bit PNG to uint8 [height, width].

    Raises:
        MaskError: if the bytes are anything else.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
            if image.mode != "L":
                raise MaskError(f"is a PNG of mode {image.mode}, not a single-channel 8-bit one")
            return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise MaskError("is not a readable PNG") from error


def count_pixels(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore_label: int,
    what: str = "prediction",
) -> np.ndarray:
    """Counts the pixels of one image by their true and predicted class.

    Args:
        truth: uint8 [height, width], class ids and ``ignore_label``.
        prediction: uint8 [height, width], class ids.
        num_classes: C; ids are 0 … C-1.
        ignore_label: pixels with this ground truth count nowhere.
        what: how errors call the prediction.

    Returns:
        int64 [C, C]; row: true class, column: predicted class. Ignored pixels are in no cell.

    Raises:
        MaskError: if the sizes differ or a counted pixel has an id that is no class.
    """
    if truth.shape != prediction.shape:
        raise MaskError(
            f"{what} is {_size(prediction)} pixels, the ground truth {_size(truth)}; "
            "signature 'evaluate' must answer at the ground truth's own size"
        )
    # Counting all 256 × 256 pairs costs no more than C × C, and ids out of range show up for free.
    pairs = (truth.astype(np.uint16) << 8) | prediction
    counts = np.bincount(pairs.ravel(), minlength=_IDS * _IDS).reshape(_IDS, _IDS)
    counts[ignore_label] = 0
    for which, per_id in (
        ("ground truth", counts[num_classes:].any(axis=1)),
        (what, counts.any(axis=0)[num_classes:]),
    ):
        if per_id.any():
            class_id = num_classes + int(np.argmax(per_id))
            raise MaskError(
                f"{which} has pixels of class id {class_id}; the classes are 0 … {num_classes - 1}"
            )
    return counts[:num_classes, :num_classes].astype(np.int64)


class Margins(NamedTuple):
    """All of a confusion matrix that the metrics depend on; int64 [..., C] each."""

    hits: np.ndarray
    """Pixels of each class that were predicted as such."""
    truth: np.ndarray
    """Pixels that are of each class."""
    predicted: np.ndarray
    """Pixels that were predicted to be of each class."""


def margins(confusion: np.ndarray) -> Margins:
    """Takes the margins of confusion matrices, int64 [..., C, C], rows true, columns predicted."""
    return Margins(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1), confusion.sum(axis=-2))


def unmeasured(counts: Margins) -> np.ndarray:
    """Which classes the truth does not show, so that nothing can be said of them: bool [..., C]."""
    return counts.truth == 0


def unfound(counts: Margins) -> np.ndarray:
    """Which classes the truth shows, but no pixel was rightly predicted as: bool [..., C]. Their IoU is 0."""
    return (counts.truth > 0) & (counts.hits == 0)


def _size(mask: np.ndarray) -> str:
    return " × ".join(str(side) for side in mask.shape)
