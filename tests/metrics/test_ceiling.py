"""What an input's size lets a network reach, against the product's own resizing and restoring."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.dataset.features import IGNORE_LABEL
from components.imaging.reading import InputSize
from components.imaging.resize import content_area, resize_mask, restore_class_ids
from components.metrics import ceiling
from components.metrics.ceiling import ceiling_confusion, ceiling_iou, restored_target

CLASSES = 5

sides = st.integers(1, 40)
sizes = st.builds(InputSize, sides, sides, st.sampled_from(["stretch", "letterbox"]))
masks = hnp.arrays(
    np.uint8,
    st.tuples(sides, sides),
    elements=st.sampled_from([*range(CLASSES), IGNORE_LABEL]),
    fill=st.sampled_from([0, 3, IGNORE_LABEL]),
)


def restored_by_the_graph(truth: np.ndarray, size: InputSize) -> np.ndarray:
    """Ignored pixels are one class more, which stands for what the network is free to answer: the truth."""
    free = np.where(truth == IGNORE_LABEL, CLASSES, truth).astype(np.uint8)
    logits = tf.one_hot(resize_mask(tf.constant(free), size), CLASSES + 1)
    restored = restore_class_ids(logits, size, *map(tf.constant, truth.shape))[0].numpy()
    return np.where(restored == CLASSES, truth, restored)


@given(truth=masks, size=sizes)
@example(truth=np.arange(25, dtype=np.uint8).reshape(5, 5) % 5, size=InputSize(2, 2, "stretch"))
@example(truth=np.full((3, 3), IGNORE_LABEL, np.uint8), size=InputSize(2, 2, "stretch"))
@settings(max_examples=300, deadline=None)
def test_a_mask_comes_back_as_the_graph_brings_it_back(truth: np.ndarray, size: InputSize) -> None:
    np.testing.assert_array_equal(restored_target(truth, size), restored_by_the_graph(truth, size))


@pytest.mark.parametrize(("side", "inner"), [(64, 32), (128, 32), (96, 32), (90, 56), (80, 24), (24, 48)])
def test_neither_way_shifts_a_mask(side: int, inner: int) -> None:
    """Also where the input's pixels have their centres between those of the picture."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    moves = []
    for _ in range(300):
        row, column = random.uniform(0.3, 0.7, 2)
        truth = ((rows - row) ** 2 + (columns - column) ** 2 < random.uniform(0.1, 0.25) ** 2).astype(
            np.uint8
        )
        restored = restored_target(truth, InputSize(inner, inner, "stretch"))
        moves.append(np.argwhere(restored == 1).mean(axis=0) - np.argwhere(truth == 1).mean(axis=0))
    assert np.abs(np.mean(moves, axis=0)).max() < 0.1


@pytest.mark.parametrize("size", [InputSize(240, 176, "stretch"), InputSize(256, 256, "letterbox")])
@pytest.mark.parametrize("shape", [(1000, 1000), (565, 584), (2000, 64), (360, 480)])
def test_ties_are_broken_as_the_graph_breaks_them(shape: tuple[int, int], size: InputSize) -> None:
    truth = np.random.default_rng(0).integers(0, CLASSES, shape, np.uint8)
    np.testing.assert_array_equal(restored_target(truth, size), restored_by_the_graph(truth, size))


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), size=sizes)
@settings(max_examples=200, deadline=None)
def test_a_picture_fills_as_much_of_the_input_as_in_the_graph(
    height: int, width: int, size: InputSize
) -> None:
    area = content_area(size, tf.constant(height), tf.constant(width))
    assert size.content(height, width) == (area.height, area.width)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.random.default_rng(0).integers(0, CLASSES, (90, 70), np.uint8)
    size = InputSize(40, 32, "stretch")
    whole = restored_target(truth, size)
    monkeypatch.setattr(ceiling, "_BLOCK_PIXELS", 200)
    np.testing.assert_array_equal(restored_target(truth, size), whole)


def test_lines_thinner_than_a_step_are_lost_and_areas_kept() -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[:, ::9] = 1
    truth[:20, :20] = 2
    half = ceiling_iou(ceiling_confusion(truth, InputSize(32, 32, "stretch"), 3))
    assert half[2] > 0.9 > 0.6 > half[1]
    assert (ceiling_iou(ceiling_confusion(truth, InputSize(32, 32, "native"), 3)) == 1.0).all()
    scaled = ceiling_confusion(truth, InputSize(8, 8, "native", scale=0.5), 3)
    np.testing.assert_array_equal(scaled, ceiling_confusion(truth, InputSize(32, 32, "stretch"), 3))


def test_where_the_target_asks_for_nothing_nothing_is_lost() -> None:
    scribbles = np.full((30, 30), IGNORE_LABEL, np.uint8)
    scribbles[4:26, 7], scribbles[4:26, 19], scribbles[4:26, 22] = 0, 1, 2
    # Every third column is taken: the first scribble, and neither of the others.
    lost = ceiling_confusion(scribbles, InputSize(10, 10, "stretch"), 3)
    np.testing.assert_array_equal(lost, np.diag([22, 22, 22]))


def test_ignored_pixels_count_nowhere_and_absent_classes_have_no_ceiling() -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[:, 3:5] = IGNORE_LABEL
    truth[:, 5:] = 1
    counts = ceiling_confusion(truth, InputSize(4, 4, "stretch"), 3)
    assert counts.sum() == 6 * 8
    np.testing.assert_array_equal(ceiling_iou(counts), [1.0, 1.0, np.nan])
