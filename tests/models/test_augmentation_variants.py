"""Fixed changes against NumPy, Pillow and the standard library's colour conversion."""

import colorsys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from models.augmentation import apply_variant
from models.options import VariantName


def batch(height: int = 10, width: int = 10, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, height, width, channels)).astype(np.uint8)
    return images, rng.integers(0, 5, (2, height, width)).astype(np.uint8)


def variant(
    images: np.ndarray, masks: np.ndarray, name: VariantName, value: Any
) -> tuple[np.ndarray, np.ndarray]:
    changed_images, changed_masks = (np.asarray(part) for part in apply_variant(images, masks, name, value))
    assert (changed_images.shape, changed_images.dtype) == (images.shape, images.dtype)
    assert (changed_masks.shape, changed_masks.dtype) == (masks.shape, masks.dtype)
    return changed_images, changed_masks


@pytest.mark.parametrize("share", [0.1, -0.3])
def test_brightness_is_added_as_share_of_the_full_range(share: float) -> None:
    images, masks = batch(channels=1)
    changed, same = variant(images, masks, "brightness", share)
    np.testing.assert_array_equal(changed, np.clip(np.round(images + np.float32(255 * share)), 0, 255))
    np.testing.assert_array_equal(same, masks)


@pytest.mark.parametrize("exponent", [0.1, 1.0, 2.5])
def test_gamma_is_the_exponent_of_intensities_from_0_to_1(exponent: float) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    changed, _ = variant(levels, levels[..., 0], "gamma", exponent)
    expected = 255 * (levels / 255) ** exponent
    assert np.abs(changed - expected).max() < 0.501


@pytest.mark.parametrize("turns", [-0.1, 0.25, 0.0, 1.0])
def test_hue_is_shifted_as_in_hsv(turns: float) -> None:
    images, masks = batch()
    changed, same = variant(images, masks, "hue", turns)
    for before, after in zip(images.reshape(-1, 3), changed.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value))
        assert np.abs(after - expected).max() < 0.51
    np.testing.assert_array_equal(same, masks)


def test_brightness_gamma_and_hue_are_those_of_tf_image() -> None:
    images, masks = batch()
    floats = tf.image.convert_image_dtype(images, tf.float32)
    theirs: dict[VariantName, Any] = {
        "brightness": tf.image.adjust_brightness(floats, 0.1),
        "gamma": tf.image.adjust_gamma(floats, 0.1),
        "hue": tf.image.adjust_hue(floats, -0.1),
    }
    for (name, expected), value in zip(theirs.items(), (0.1, 0.1, -0.1), strict=True):
        changed, _ = variant(images, masks, name, value)
        assert np.abs(changed - np.clip(255 * expected.numpy(), 0, 255)).max() < 0.51


@pytest.mark.parametrize(("height", "width"), [(20, 20), (10, 31)])
def test_central_crop_is_enlarged_bilinearly_and_in_the_mask_by_the_nearest_pixel(
    height: int, width: int
) -> None:
    images, masks = batch(height, width)
    changed_images, changed_masks = variant(images, masks, "central_crop", 0.7)
    rows, columns = (tf.image.central_crop(images[0], 0.7).shape[axis] for axis in (0, 1))
    top, left = (height - rows) // 2, (width - columns) // 2
    box = (left, top, left + columns, top + rows)
    for image, mask, ours, our_mask in zip(images, masks, changed_images, changed_masks, strict=True):
        enlarged = Image.fromarray(image).crop(box).resize((width, height), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(enlarged).astype(int) - ours).max() <= 1  # Pillow calculates with 8 bits
        # The middle of output pixel i lies in input pixel floor((i + 1/2) / enlargement).
        nearest_rows = top + (2 * np.arange(height) + 1) * rows // (2 * height)
        nearest_columns = left + (2 * np.arange(width) + 1) * columns // (2 * width)
        np.testing.assert_array_equal(our_mask, mask[np.ix_(nearest_rows, nearest_columns)])


def test_a_crop_of_everything_is_the_picture() -> None:
    images, masks = batch(1, 7)
    changed_images, changed_masks = variant(images, masks, "central_crop", 1.0)
    np.testing.assert_array_equal(changed_images, images)
    np.testing.assert_array_equal(changed_masks, masks)


def test_flips_and_quarter_turns_move_image_and_mask_exactly() -> None:
    images, masks = batch()
    moves: list[tuple[VariantName, Any, Any]] = [
        ("horizontal_flip", True, lambda pictures: pictures[:, :, ::-1]),
        ("vertical_flip", True, lambda pictures: pictures[:, ::-1]),
        ("rot90", 1, lambda pictures: np.rot90(pictures, 1, axes=(1, 2))),
        ("rot90", -5, lambda pictures: np.rot90(pictures, -1, axes=(1, 2))),
    ]
    for name, value, move in moves:
        changed_images, changed_masks = variant(images, masks, name, value)
        np.testing.assert_array_equal(changed_images, move(images))
        np.testing.assert_array_equal(changed_masks, move(masks))


def test_a_half_turn_needs_no_square() -> None:
    images, masks = batch(1, 6)
    np.testing.assert_array_equal(variant(images, masks, "rot90", 2)[1], masks[:, ::-1, ::-1])


@pytest.mark.parametrize(
    ("name", "value", "channels", "complaint"),
    [
        ("hue", 0.1, 1, "hue needs images of 3 channels; these have 1"),
        ("rot90", 1, 3, "rot90 needs square images; these are 10 x 12 pixels"),
        ("rot90", 0.5, 3, "whole number of quarter turns"),
        ("central_crop", 0.0, 3, "above 0 and at most 1"),
        ("gamma", 0.0, 3, "above 0"),
        ("horizontal_flip", False, 3, "can only be true"),
        ("sharpen", 1.0, 3, "no variant 'sharpen'; choose from brightness, gamma"),
    ],
)
def test_impossible_variants_are_refused(name: Any, value: Any, channels: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        apply_variant(*batch(10, 12, channels), name, value)


@pytest.mark.parametrize(("name", "value"), [("brightness", 0.3), ("gamma", 0.1)])
def test_alpha_is_left_alone_by_changes_of_color(name: str, value: float) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4)).astype(np.uint8)
    masks = np.zeros((2, 3, 4), np.uint8)
    changed, _ = apply_variant(images, masks, name, value)
    of_colors, _ = apply_variant(images[..., :3], masks, name, value)
    np.testing.assert_array_equal(np.asarray(changed)[..., 3], images[..., 3])
    np.testing.assert_array_equal(np.asarray(changed)[..., :3], of_colors)
