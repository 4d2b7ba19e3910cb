"""The confusion matrix and everything that follows from it. NumPy only."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

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
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Counts the pixels of one image by their true and predicted class.

    Args:
        truth: uint8 [height, width], class ids and ``ignore_label``.
        prediction: uint8 [height, width], class ids.
        num_classes: C; ids are 0 … C-1.
        ignore_label: pixels with this ground truth count nowhere.

    Returns:
        int64 [C, C]; row: true class, column: predicted class. Ignored pixels are in no cell.

    Raises:
        MaskError: if the sizes differ or a counted pixel has an id that is no class.
    """
    if truth.shape != prediction.shape:
        raise MaskError(
            f"prediction is {_size(prediction)} pixels, the ground truth {_size(truth)}; "
            "signature 'evaluate' must answer at the ground truth's own size"
        )
    # Counting all 256 × 256 pairs costs no more than C × C, and ids out of range show up for free.
    pairs = (truth.astype(np.uint16) << 8) | prediction
    counts = np.bincount(pairs.ravel(), minlength=_IDS * _IDS).reshape(_IDS, _IDS)
    counts[ignore_label] = 0
    for what, per_id in (
        ("ground truth", counts[num_classes:].any(axis=1)),
        ("prediction", counts.any(axis=0)[num_classes:]),
    ):
        if per_id.any():
            class_id = num_classes + int(np.argmax(per_id))
            raise MaskError(
                f"{what} has pixels of class id {class_id}; the classes are 0 … {num_classes - 1}"
            )
    return counts[:num_classes, :num_classes].astype(np.int64)


class Scores(NamedTuple):
    """What a confusion matrix says; NaN wherever there was nothing to measure."""

    mean_iou: float
    mean_dice: float
    pixel_accuracy: float
    frequency_weighted_iou: float
    iou: np.ndarray
    """float64 [C]."""
    dice: np.ndarray
    """float64 [C]."""


def scores(confusion: np.ndarray) -> Scores:
    """Derives the metrics from a confusion matrix, int64 [C, C], rows true, columns predicted.

    IoU and Dice of class c are TP / (TP + FP + FN) and 2 TP / (2 TP + FP + FN). Their means run over
    the classes that occur in truth or prediction; the other classes, and means over no class, are NaN.
    Source: Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015,
    section 5 (pixel accuracy, mean IU, frequency weighted IU).
    """
    true_pixels = confusion.sum(axis=1)
    predicted_pixels = confusion.sum(axis=0)
    hits = np.diagonal(confusion)
    union = true_pixels + predicted_pixels - hits
    occurs = union > 0
    iou = _ratio(hits, union)
    dice = _ratio(2 * hits, true_pixels + predicted_pixels)
    total = confusion.sum()
    in_truth = true_pixels > 0
    return Scores(
        mean_iou=float(_ratio(iou[occurs].sum(), occurs.sum())),
        mean_dice=float(_ratio(dice[occurs].sum(), occurs.sum())),
        pixel_accuracy=float(_ratio(hits.sum(), total)),
        frequency_weighted_iou=float(_ratio((true_pixels[in_truth] * iou[in_truth]).sum(), total)),
        iou=iou,
        dice=dice,
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; 0 / 0 is NaN."""
    with np.errstate(invalid="ignore"):
        return np.true_divide(numerator, denominator)


def _size(mask: np.ndarray) -> str:
    return " × ".join(str(side) for side in mask.shape)
