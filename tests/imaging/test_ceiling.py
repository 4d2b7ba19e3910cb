"""What shrinking a mask and restoring it costs, against the product's own resize."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.features import IGNORE_LABEL
from components.imaging.ceiling import answer_of_targets, content_size
from components.imaging.reading import InputSize, ResizeMethod
from components.imaging.resize import content_area, resize_mask, restore_class_ids

CLASSES = 4
sides = st.integers(1, 40)


def through_the_resize(truth: np.ndarray, size: InputSize) -> np.ndarray:
    """The long way: the mask shrunk by the graph, certain logits, and the graph's way back.

    Ignored pixels are one class more, which stands for what the network is free to answer: the truth.
    """
    free = np.where(truth == IGNORE_LABEL, CLASSES, truth).astype(np.uint8)
    target = resize_mask(tf.constant(free), size).numpy()
    padded = np.where(target == IGNORE_LABEL, 0, target)
    restored, _ = restore_class_ids(
        tf.one_hot(padded, CLASSES + 1) * 30.0, size, tf.constant(truth.shape[0]), tf.constant(truth.shape[1])
    )
    return np.where(restored.numpy() == CLASSES, truth, restored.numpy())


@given(
    height=sides,
    width=sides,
    to_height=sides,
    to_width=sides,
    method=st.sampled_from(["stretch", "letterbox"]),
    ignored=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None)
def test_the_answer_is_that_of_the_graphs_own_resize_there_and_back(
    height: int,
    width: int,
    to_height: int,
    to_width: int,
    method: ResizeMethod,
    ignored: float,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, CLASSES, (height, width)).astype(np.uint8)
    truth[random.random(truth.shape) < ignored] = IGNORE_LABEL
    size = InputSize(to_height, to_width, method)
    np.testing.assert_array_equal(answer_of_targets(truth, size), through_the_resize(truth, size))


@given(height=sides, width=sides, to_height=sides, to_width=sides)
def test_the_target_fills_what_the_picture_fills_of_a_letterbox(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    size = InputSize(to_height, to_width, "letterbox")
    area = content_area(size, tf.constant(height), tf.constant(width))
    assert content_size(size, height, width) == (int(area.height), int(area.width))


@pytest.mark.parametrize("size", [InputSize(8, 8, "native"), InputSize(30, 21, "stretch")])
def test_a_mask_that_keeps_its_size_keeps_every_pixel(size: InputSize) -> None:
    truth = np.random.default_rng(1).integers(0, CLASSES, (30, 21)).astype(np.uint8)
    np.testing.assert_array_equal(answer_of_targets(truth, size), truth)


def test_windows_of_a_picture_at_half_its_size_lose_what_the_whole_picture_would() -> None:
    truth = np.random.default_rng(2).integers(0, CLASSES, (30, 22)).astype(np.uint8)
    halved = through_the_resize(truth, InputSize(15, 11, "stretch"))
    np.testing.assert_array_equal(answer_of_targets(truth, InputSize(8, 8, "native", scale=0.5)), halved)


def test_every_third_line_of_a_comb_is_all_that_a_third_of_its_rows_can_keep() -> None:
    comb = np.zeros((36, 12), np.uint8)
    comb[::2] = 1
    kept = answer_of_targets(comb, InputSize(12, 12, "stretch"))
    # Rows 1, 4, 7 … are taken, and each becomes three.
    np.testing.assert_array_equal(kept[:, 0], np.tile([0, 0, 0, 1, 1, 1], 6))
