"""What a network could reach at most of an input's size: the IoU of its own training targets, restored.

A mask shrunk to the network's input and brought back is not the mask it was: what is thinner than a step
is gone, and no training brings it back. NumPy only; to the last pixel the answer that
``components.imaging.resize`` gives of perfect logits, 1 for the target's class and 0 for all others. Where
the target is ignored the network is free, and so right wherever ignored pixels weigh the most: of masks that
are mostly ignored, such as scribbles, nothing is held against a size that its targets do not ask for.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.imaging.reading import InputSize
from components.metrics.confusion import count_pixels, margins
from components.metrics.table import class_iou

_BLOCK_PIXELS: Final = 2**21
"""Worked on at once, at up to 50 bytes each."""


def ceiling_confusion(truth: np.ndarray, size: InputSize, num_classes: int) -> np.ndarray:
    """Counts a mask against what a network makes of it that reproduces its training targets perfectly.

    The counts of a split's masks add up, and so a split's ceiling is the IoU of their sum. Time and memory
    do not grow with the number of classes.

    Args:
        truth: uint8 [height, width] at the picture's own size, class ids and the ignore label.
        size: the network's input, and how pictures are brought to it. With ``native`` windows the scale
            alone decides: at 1 nothing is lost.
        num_classes: C; ids are 0 … C-1.

    Returns:
        int64 [C, C]; row: true class, column: restored class. Ignored pixels are in no cell.
    """
    restored = restored_target(truth, size)
    counts = np.zeros((num_classes, num_classes), np.int64)
    for block in _blocks(truth):
        counts += count_pixels(truth[block], restored[block], num_classes, IGNORE_LABEL)
    return counts


def ceiling_iou(confusion: np.ndarray) -> np.ndarray:
    """Returns the highest IoU of each class, float64 [C]; NaN of a class that no mask holds."""
    counts = margins(confusion)
    return np.where(counts.truth > 0, class_iou(counts).ratio(), np.nan)


def restored_target(truth: np.ndarray, size: InputSize) -> np.ndarray:
    """Brings a mask to the network's input, as training targets are, and back, as answers are.

    Args:
        truth: uint8 [height, width], class ids and the ignore label.

    Returns:
        uint8 [height, width]; the truth where the target leaves the network free.
    """
    height, width = truth.shape
    inner_height, inner_width = size.content(height, width)
    target = _target(truth, inner_height, inner_width)
    if target.shape == truth.shape:
        return target
    following = np.pad(target, (0, 1), mode="edge")
    mixed = (following[1:, :-1] != target) | (following[:-1, 1:] != target) | (following[1:, 1:] != target)
    above, below, weights = _row_neighbours(height, inner_height)
    left, right, shares = _column_neighbours(width, inner_width)
    restored = np.empty_like(truth)
    for block in _blocks(truth):
        rows = above[block]
        # Where four neighbours agree, what lies between them is what they are.
        restored[block] = target[rows].take(left, axis=1)
        row, column = np.nonzero(mixed[rows].take(left, axis=1))
        row += block.start
        corners = [target[side[row], end[column]] for side in (above, below) for end in (left, right)]
        restored[row, column] = _best(corners, weights[row], shares[column])
        np.copyto(restored[block], truth[block], where=restored[block] == IGNORE_LABEL)
    return restored


def _blocks(truth: np.ndarray) -> Iterator[slice]:
    """Yields the rows of a mask that are worked on at once."""
    height, width = truth.shape
    rows = max(1, _BLOCK_PIXELS // width)
    for start in range(0, height, rows):
        yield slice(start, min(height, start + rows))


def _best(corners: list[np.ndarray], weight: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Returns the class with the highest logit between four pixels, of equal ones the lowest.

    Args:
        corners: class ids of the pixels above left, above right, below left and below right, uint8 [N] each;
            to be ignored is a class like any other.
        weight: of those below, float32 [N].
        share: of those to the right, float32 [N].
    """
    best, highest = np.zeros(weight.shape, np.uint8), np.zeros_like(weight)
    for candidate in corners:
        # Every rounding is the graph's own, so that ties are broken as there.
        above_left, above_right, below_left, below_right = (
            (corner == candidate).astype(np.float32) for corner in corners
        )
        at_left = above_left + weight * (below_left - above_left)
        at_right = above_right + weight * (below_right - above_right)
        logit = at_left + (at_right - at_left) * share
        better = (logit > highest) | ((logit == highest) & (candidate < best))
        best[better], highest[better] = candidate[better], logit[better]
    return best


def _target(truth: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns what ``resize_mask`` makes of a mask, without padding."""
    rows, columns = _around(truth.shape[0], height), _around(truth.shape[1], width)
    if all(np.array_equal(*sides) for sides in (rows, columns)):
        return truth[rows[0]][:, columns[0]]
    corners = [truth[row][:, column] for row in rows for column in columns]
    turn = (np.arange(height)[:, None] + np.arange(width)) % 4
    best, most = corners[0], np.zeros((height, width), np.uint8)
    for corner, its_turn in zip(corners, (0, 2, 3, 1), strict=True):
        alike = np.sum([corner == other for other in corners], axis=0, dtype=np.uint8)
        votes = 2 * alike + (turn == its_turn)
        best, most = np.where(votes > most, corner, best), np.maximum(votes, most)
    return best


def _around(side: int, inner: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns between which of ``side`` pixels the centres of ``inner`` ones lie, int64 [inner] each."""
    centres = (2 * np.arange(inner) + 1) * side
    return centres // (2 * inner), (centres - 1) // (2 * inner)


def _row_neighbours(side: int, inner: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each row's neighbours among ``inner``, and the second one's weight, as the graph's own code."""
    step = np.float32(inner) / np.float32(side)
    position = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    position = np.clip(position, np.float32(0.0), np.float32(inner - 1))
    first = np.floor(position)
    return first.astype(int), np.minimum(first.astype(int) + 1, inner - 1), position - first


def _column_neighbours(side: int, inner: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likewise of columns, as TensorFlow's bilinear resizing, which clips after weighing."""
    step = np.float32(inner) / np.float32(side)
    position = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    first = np.floor(position)
    left = np.maximum(first, 0).astype(int)
    return left, np.minimum(np.ceil(position), inner - 1).astype(int), position - first
