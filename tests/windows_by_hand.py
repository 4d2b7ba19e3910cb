"""What overlapping windows answer for a picture, in NumPy."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import tensorflow as tf

from components.imaging.reading import InputSize
from components.imaging.resize import resize_image

Network = Callable[[np.ndarray], tf.Tensor]


def by_hand(
    picture: np.ndarray, size: InputSize, network: Network, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and probabilities of a picture, computed in float64 with everything in memory.

    Args:
        picture: uint8 [height, width, channels].
        size: of a window, the picture's scale, and the overlap.
        network: windows uint8 [N, h, w, channels] to logits float32 [N, h, w, C].
        num_classes: C.
    """
    scaled = resize_image(tf.constant(picture), size).numpy()
    window = size[:2]
    room = [max(0, side - length) for side, length in zip(window, scaled.shape, strict=False)]
    margins = [(each // 2, each - each // 2) for each in room]
    padded = np.pad(scaled, [*margins, (0, 0)], "reflect")

    def starts(length: int, side: int) -> list[int]:
        # In hundredths, which are exact.
        steps = -(-(length - side) // max(1, (100 - round(100 * size.overlap)) * side // 100))
        places = [int((length - side) * index / max(1, steps) + 0.5) for index in range(steps + 1)]
        overlaps = [before + side - after for before, after in pairwise(places)]
        assert all(overlap >= min(size.overlap * side, side - 1) for overlap in overlaps), overlaps
        return places

    def gaussian(side: int) -> np.ndarray:
        return np.exp(-(((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) / 2)

    weight = np.multiply.outer(gaussian(size.height), gaussian(size.width))[..., np.newaxis]
    total, weights = np.zeros((*padded.shape[:2], num_classes)), np.zeros((*padded.shape[:2], 1))
    parts = [
        np.s_[top : top + size.height, left : left + size.width]
        for top in starts(padded.shape[0], size.height)
        for left in starts(padded.shape[1], size.width)
    ]
    answers = network(np.stack([padded[part] for part in parts])).numpy()
    for part, answer in zip(parts, answers, strict=True):
        total[part] += weight * answer
        weights[part] += weight
    (top, _), (left, _) = margins
    logits = (total / weights)[top:, left:][: scaled.shape[0], : scaled.shape[1]]

    def stretched(values: np.ndarray, length: int) -> np.ndarray:
        position = np.clip((np.arange(length) + 0.5) * len(values) / length - 0.5, 0, len(values) - 1)
        lower = position.astype(int)
        share = (position - lower)[:, np.newaxis, np.newaxis]
        return values[lower] * (1 - share) + values[np.minimum(lower + 1, len(values) - 1)] * share

    height, width = picture.shape[:2]
    logits = stretched(stretched(logits, height).swapaxes(0, 1), width).swapaxes(0, 1)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return logits.argmax(-1), 1 / odds.sum(-1)
