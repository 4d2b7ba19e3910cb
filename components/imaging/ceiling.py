"""What is left of a mask that was brought to the network's input size and back.

NumPy only, and only where classes meet: cheap enough for every mask of a split.
"""

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.imaging.reading import InputSize


def answer_of_targets(class_ids: np.ndarray, size: InputSize) -> np.ndarray:
    """Returns the mask that a network gives which reproduces its own targets perfectly.

    The target is the truth as `resize.resize_mask` shrinks it; the answer is what `resize.restore_class_ids`
    makes of logits that are certain of it. Where the target is ignored the network is free, and its answer
    right: so it is wherever ignored pixels weigh the most.

    Args:
        class_ids: uint8 [height, width], the truth; ignored pixels have the ignore label.
        size: how pictures are brought to the network.

    Returns:
        uint8 [height, width]; the ignore label only where the truth has it.
    """
    inner = content_size(size, *class_ids.shape)
    if inner == class_ids.shape:
        return class_ids
    rows, columns = (_nearest(*sides) for sides in zip(class_ids.shape, inner, strict=True))
    target = class_ids[rows[:, np.newaxis], columns]
    (above, below, down), (left, right, across) = (
        _between(*sides) for sides in zip(class_ids.shape, inner, strict=True)
    )
    upper, lower = target[above], target[below]
    answer = upper[:, left]
    corners = (answer, upper[:, right], lower[:, left], lower[:, right])
    mixed = np.nonzero((answer != corners[1]) | (answer != corners[2]) | (answer != corners[3]))
    answer[mixed] = _heaviest([corner[mixed] for corner in corners], down[mixed[0]], across[mixed[1]])
    return np.where(answer == IGNORE_LABEL, class_ids, answer)


def content_size(size: InputSize, height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the unpadded target of a mask of ``height`` × ``width`` pixels."""
    if size.method == "stretch":
        return size.height, size.width
    if size.method == "native":
        return max(1, round(height * size.scale)), max(1, round(width * size.scale))
    scale = min(size.height / height, size.width / width)
    return (
        min(max(round(height * scale), 1), size.height),
        min(max(round(width * scale), 1), size.width),
    )


def _nearest(length: int, inner: int) -> np.ndarray:
    """The pixel that each of the target's is taken from; float32 as in TensorFlow's kernel."""
    scale = np.float32(length) / np.float32(inner)
    position = (np.arange(inner, dtype=np.float32) + np.float32(0.5)) * scale
    return np.minimum(position.astype(np.int64), length - 1)


def _between(length: int, inner: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two of the target's pixels that each pixel lies between, and the second one's weight, float32."""
    scale = np.float32(inner) / np.float32(length)
    position = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    position = np.clip(position, np.float32(0), np.float32(inner - 1))
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, inner - 1), position - first.astype(np.float32)


def _heaviest(corners: list[np.ndarray], down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The class that bilinear interpolation gives the most, of equals the first: uint8 [pixels].

    The order of additions is that of the resize, so that ties are the same.
    """
    best, best_weight = corners[0].copy(), np.full(down.shape, -1, np.float32)
    for candidate in corners:
        upper_left, upper_right, lower_left, lower_right = (
            (corner == candidate).astype(np.float32) for corner in corners
        )
        left = upper_left + down * (lower_left - upper_left)
        right = upper_right + down * (lower_right - upper_right)
        weight = left + across * (right - left)
        better = (weight > best_weight) | ((weight == best_weight) & (candidate < best))
        best[better], best_weight[better] = candidate[better], weight[better]
    return best
