"""Windows over a picture of any size, against a loop that keeps all logits of all of it."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from windows_by_hand import by_hand

from components.imaging import resize, sliding_window
from components.imaging.reading import InputSize
from components.imaging.resize import resize_image
from components.imaging.sliding_window import segment_windows

CLASSES = 5
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, CLASSES)).astype(np.float32)

Segment = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def network(pixels: tf.Tensor) -> tf.Tensor:
    """Sees zeros around a window, and so answers otherwise at its border than in its middle."""
    return tf.nn.conv2d(tf.cast(pixels, tf.float32) / 64, KERNEL, 1, "SAME")


def segmenter(size: InputSize, stride: int | None = None) -> Segment:
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def graph(picture: tf.Tensor) -> tuple[tf.Tensor, ...]:
        height, width = tf.unstack(tf.shape(picture)[:2])
        scaled = resize_image(picture, size)
        return segment_windows(scaled, size, height, width, network, CLASSES, stride=stride, confidence=True)

    def segment(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids, confidence = graph(tf.constant(picture))
        return ids.numpy(), confidence.numpy()

    return segment


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


CASES = {
    # A window's size, scale and overlap; and how little may be held at once: logits that wait, pixels of a
    # batch, logits that are restored.
    "as configured": (InputSize(6, 9, "native"), None),
    "side by side": (InputSize(5, 4, "native", overlap=0.0), None),
    "much overlap": (InputSize(7, 5, "native", overlap=0.9), (700, 1, 100)),
    "strips of one window": (InputSize(6, 6, "native", overlap=0.25), (1, 80, 2**25)),
    "shrunk": (InputSize(6, 8, "native", scale=0.5, overlap=0.3), (400, 120, 60)),
    "shrunk a lot": (InputSize(3, 2, "native", scale=0.15), (1, 1, 1)),
    "enlarged": (InputSize(8, 6, "native", scale=2.0), (900, 100, 1)),
    "windows of one pixel": (InputSize(1, 1, "native"), (20, 3, 2**25)),
}


@cache
def case(name: str) -> tuple[InputSize, Segment]:
    """Traced once a case: limits are constants of the graph."""
    size, limits = CASES[name]
    with pytest.MonkeyPatch.context() as patch:
        if limits is not None:
            patch.setattr(sliding_window, "_WAITING_FLOATS", limits[0])
            patch.setattr(sliding_window, "_BATCH_PIXELS", limits[1])
            patch.setattr(resize, "_RESTORE_BLOCK_FLOATS", limits[2])
        segment = segmenter(size)
        segment(noise(1, 1))
    return size, segment


@pytest.mark.parametrize("name", CASES)
@example(height=1, width=1, seed=0)
@example(height=1, width=60, seed=1)
@example(height=60, width=2, seed=2)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_windows_in_bands_and_strips_answer_as_one_sum_over_all_of_them(
    name: str, height: int, width: int, seed: int
) -> None:
    size, segment = case(name)
    picture = noise(height, width, seed)
    ids, confidence = segment(picture)
    expected_ids, expected_confidence = by_hand(picture, size, network, CLASSES)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(confidence, expected_confidence, rtol=1e-5)


def test_windows_that_lie_side_by_side_answer_each_for_itself() -> None:
    size = InputSize(8, 6, "native", overlap=0.0)
    picture = noise(24, 30)
    ids, confidence = segmenter(size)(picture)
    # 24 x 30 pixels are 3 x 5 windows.
    alone = picture.reshape(3, 8, 5, 6, 3).swapaxes(1, 2).reshape(15, 8, 6, 3)
    logits = network(tf.constant(alone)).numpy().reshape(3, 5, 8, 6, CLASSES)
    logits = logits.swapaxes(1, 2).reshape(24, 30, CLASSES)
    np.testing.assert_array_equal(ids, logits.argmax(-1))
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(confidence, 1 / odds.sum(-1), rtol=1e-5)


def test_a_small_picture_is_one_window_where_it_may_be_and_a_large_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliding_window, "_WHOLE_PIXELS", 24 * 32)
    size = InputSize(8, 8, "native")
    segment = segmenter(size, stride=4)
    for height, width in ((23, 31), (24, 32), (5, 96)):
        whole = -(-max(height, 8) // 4) * 4, -(-max(width, 8) // 4) * 4
        picture = noise(height, width)
        np.testing.assert_array_equal(
            segment(picture)[0], by_hand(picture, InputSize(*whole, "native"), network, CLASSES)[0]
        )
    # The last has fewer pixels of its own, but not with what it lacks of a window's height.
    for height, width in ((25, 32), (24, 33), (5, 97)):
        picture = noise(height, width)
        np.testing.assert_array_equal(segment(picture)[0], by_hand(picture, size, network, CLASSES)[0])
