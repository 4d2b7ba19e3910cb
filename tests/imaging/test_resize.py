"""Resizing to the network's input and back."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.features import IGNORE_LABEL
from components.imaging import resize
from components.imaging.reading import InputSize, ResizeMethod
from components.imaging.resize import resize_image, resize_mask, restore_class_ids

sides = st.integers(1, 40)
methods = st.sampled_from(["stretch", "letterbox"])


def restore(logits: np.ndarray, size: InputSize, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    ids, confidence = restore_class_ids(
        tf.constant(logits, tf.float32), size, tf.constant(height), tf.constant(width)
    )
    return ids.numpy(), confidence.numpy()


@given(height=sides, width=sides, target_height=sides, target_width=sides, method=methods)
@settings(max_examples=50, deadline=None)
def test_image_and_mask_get_the_inputs_size_whatever_theirs_was(
    height: int, width: int, target_height: int, target_width: int, method: ResizeMethod
) -> None:
    size = InputSize(target_height, target_width, method)
    image = tf.fill([height, width, 3], tf.constant(200, tf.uint8))
    mask = tf.fill([height, width], tf.constant(1, tf.uint8))
    resized, class_ids = resize_image(image, size).numpy(), resize_mask(mask, size).numpy()
    assert resized.shape == (target_height, target_width, 3) and resized.dtype == np.uint8
    assert class_ids.shape == (target_height, target_width) and class_ids.dtype == np.uint8
    # A flat picture stays flat, padding is black and ignored, and both agree on where it is.
    inside = class_ids == 1
    assert inside.any()
    assert (resized[inside] == 200).all()
    assert (resized[~inside] == 0).all() and (class_ids[~inside] == IGNORE_LABEL).all()
    if method == "stretch":
        assert inside.all()


@given(height=sides, width=sides, method=methods, channels=st.sampled_from([1, 4]))
@settings(max_examples=25, deadline=None)
def test_channels_are_resized_as_those_of_rgb(
    height: int, width: int, method: ResizeMethod, channels: int
) -> None:
    size = InputSize(9, 12, method)
    image = np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)
    resized = resize_image(tf.constant(image), size).numpy()
    assert resized.shape == (9, 12, channels) and resized.dtype == np.uint8
    for channel in range(channels):
        as_rgb = resize_image(tf.constant(np.repeat(image[..., channel, None], 3, axis=-1)), size).numpy()
        np.testing.assert_array_equal(resized[..., channel], as_rgb[..., 0])


@given(height=sides, width=sides, method=methods, seed=st.integers(0, 2**16))
@settings(max_examples=50, deadline=None)
def test_a_resized_mask_invents_no_class(height: int, width: int, method: ResizeMethod, seed: int) -> None:
    mask = np.random.default_rng(seed).choice(np.array([0, 3, 7], np.uint8), (height, width))
    resized = resize_mask(tf.constant(mask), InputSize(16, 24, method)).numpy()
    assert set(np.unique(resized)) <= set(np.unique(mask)) | {IGNORE_LABEL}


def test_a_letterboxed_image_keeps_its_aspect_ratio_and_sits_in_the_middle() -> None:
    size = InputSize(64, 64, "letterbox")
    mask = resize_mask(tf.zeros([20, 40], tf.uint8), size).numpy()
    rows, columns = np.where(mask == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 47, 0, 63)


@given(height=sides, width=sides, method=methods)
@settings(max_examples=50, deadline=None)
def test_restored_ids_have_the_images_own_size_and_a_certain_answer_survives(
    height: int, width: int, method: ResizeMethod
) -> None:
    size = InputSize(16, 16, method)
    logits = np.zeros((16, 16, 3), np.float32)
    logits[..., 2] = 50.0
    ids, confidence = restore(logits, size, height, width)
    assert ids.shape == (height, width) and (ids == 2).all()
    np.testing.assert_allclose(confidence, 1.0, atol=1e-6)


def test_restoring_equals_a_bilinear_resize_computed_by_hand() -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(6, 5, 4)).astype(np.float32)
    height, width = 17, 23

    def interpolate(values: np.ndarray, length: int) -> np.ndarray:
        """Linear interpolation along the first axis with half-pixel centres and clamped edges."""
        position = np.clip((np.arange(length) + 0.5) * len(values) / length - 0.5, 0, len(values) - 1)
        columns = [
            np.interp(position, np.arange(len(values)), column)
            for column in values.reshape(len(values), -1).T
        ]
        return np.stack(columns, 1).reshape(length, *values.shape[1:])

    expected = interpolate(interpolate(logits, height).swapaxes(0, 1), width).swapaxes(0, 1)
    probabilities = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    ids, confidence = restore(logits, InputSize(6, 5, "stretch"), height, width)
    np.testing.assert_array_equal(ids, expected.argmax(-1))
    np.testing.assert_allclose(confidence, probabilities.max(-1), rtol=1e-5)


def test_the_result_does_not_depend_on_the_size_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(3).normal(size=(8, 8, 5)).astype(np.float32)
    size = InputSize(8, 8, "stretch")
    whole = restore(logits, size, 33, 21)
    monkeypatch.setattr(resize, "_RESTORE_BLOCK_FLOATS", 7 * 21 * 5)
    in_blocks = restore(logits, size, 33, 21)
    np.testing.assert_array_equal(whole[0], in_blocks[0])
    np.testing.assert_allclose(whole[1], in_blocks[1], rtol=1e-6)


def test_going_there_and_back_does_not_shift_a_mask() -> None:
    size = InputSize(32, 32, "letterbox")
    truth = np.zeros((64, 48), np.uint8)
    truth[16:40, 12:36] = 1
    resized = resize_mask(tf.constant(truth), size).numpy()
    logits = np.eye(2, dtype=np.float32)[np.where(resized == IGNORE_LABEL, 0, resized)] * 10
    restored, _ = restore(logits, size, 64, 48)
    rows, columns = np.where(restored == 1)
    true_rows, true_columns = np.where(truth == 1)
    assert rows.mean() == true_rows.mean() and columns.mean() == true_columns.mean()
    assert (restored == truth).mean() > 0.99


def test_of_equally_near_pixels_most_decide_and_of_as_many_each_in_turn() -> None:
    size = InputSize(1, 4, "stretch")
    most = np.array([[1, 1, 1, 2, 2, 1, 3, 4], [1, 2, 1, 1, 1, 1, 4, 4]], np.uint8)
    np.testing.assert_array_equal(resize_mask(tf.constant(most), size), [[1, 1, 1, 4]])
    different = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (1, 4))
    np.testing.assert_array_equal(resize_mask(tf.constant(different), size), [[4, 1, 3, 2]])
    halves = np.tile(np.array([[1, 2], [1, 2]], np.uint8), (1, 4))
    np.testing.assert_array_equal(resize_mask(tf.constant(halves), size), [[2, 1, 1, 2]])


@pytest.mark.parametrize("scale", [0.05, 0.4, 1.0])
def test_a_native_picture_keeps_a_pixel_a_side(scale: float) -> None:
    size = InputSize(16, 16, "native", scale)
    pixel = tf.constant([[[1, 2, 3]]], tf.uint8)
    np.testing.assert_array_equal(resize_image(pixel, size), pixel)
    assert resize_image(tf.zeros([1, 100, 3], tf.uint8), size).shape == (1, round(100 * scale), 3)
    assert resize_mask(tf.zeros([1, 100], tf.uint8), size).shape == (1, round(100 * scale))
