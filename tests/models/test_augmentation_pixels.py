"""Colour changes, blur and noise against the same computed with NumPy and SciPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from models.augmentation import RandomAugmentation
from models.augmentation.pixels import color_matrix, gaussian_blur, power


def batch(channels: int = 3, count: int = 3, size: int = 9) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, channels)).astype(np.uint8)
    return images, np.zeros(images.shape[:3], np.uint8)


def numpy_draws(augment: RandomAugmentation, seed: int, count: int) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(values, np.float64)[:, None, None, None]
        for name, values in augment.draw(seed, count).items()
    }


@settings(max_examples=30, deadline=None)
@given(contrast=st.floats(0, 2), saturation=st.floats(0, 2), hue=st.floats(-0.5, 0.5))
def test_hue_is_a_rotation_about_the_grey_axis_and_saturation_a_stretch_away_from_it(
    contrast: float, saturation: float, hue: float
) -> None:
    factors = (np.array([value], np.float32) for value in (contrast, saturation, hue))
    matrix = np.asarray(color_matrix(*factors))[0]
    colors = np.random.default_rng(1).uniform(-1, 1, (20, 3))
    turned = Rotation.from_rotvec(2 * np.pi * hue * np.ones(3) / np.sqrt(3)).apply(colors)
    grey = turned.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(colors @ matrix.T, contrast * (grey + saturation * (turned - grey)), atol=2e-6)


def test_a_third_of_a_turn_makes_red_green() -> None:
    matrix = np.asarray(
        color_matrix(np.ones(1, np.float32), np.ones(1, np.float32), np.full(1, 1 / 3, np.float32))
    )
    np.testing.assert_allclose(matrix[0] @ [1, 0, 0], [0, 1, 0], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_linear_changes_together_equal_one_after_the_other(seed: int) -> None:
    images, masks = batch()
    augment = RandomAugmentation(brightness=0.3, contrast=0.5, saturation=0.6, hue=0.2)
    changed, same_masks = augment(images, masks, seed)
    draws = numpy_draws(augment, seed, 3)
    expected = images.astype(np.float64)
    rotations = [
        Rotation.from_rotvec(angle * np.ones(3) / np.sqrt(3)) for angle in 2 * np.pi * draws["hue"].ravel()
    ]
    expected = np.stack(
        [
            turn.apply(image.reshape(-1, 3)).reshape(image.shape)
            for turn, image in zip(rotations, expected, strict=True)
        ]
    )
    grey = expected.mean(axis=-1, keepdims=True)
    expected = grey + draws["saturation"] * (expected - grey)
    mean = expected.mean(axis=(1, 2, 3), keepdims=True)
    expected = mean + draws["contrast"] * (expected - mean)
    expected += 255 * draws["brightness"]
    assert np.abs(np.asarray(changed) - np.clip(expected, 0, 255)).max() < 0.501  # rounded, not cut off
    np.testing.assert_array_equal(same_masks, masks)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_contrast_brightness_and_gamma_work_for_any_number_of_channels(channels: int) -> None:
    images, masks = batch(channels)
    augment = RandomAugmentation(brightness=0.2, contrast=0.4, gamma=0.8)
    changed = np.asarray(augment(images, masks, 4)[0])
    draws = numpy_draws(augment, 4, 3)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(mean + draws["contrast"] * (images - mean) + 255 * draws["brightness"], 0, 255)
    expected = 255 * (expected / 255) ** draws["gamma"]
    assert np.abs(changed - expected).max() < 0.51


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 3.0])
def test_power_of_every_intensity_black_included(exponent: float) -> None:
    levels = np.arange(256, dtype=np.float32)
    expected = 255 * (levels.astype(np.float64) / 255) ** exponent
    np.testing.assert_allclose(power(levels, np.float32(exponent)), expected, rtol=1e-5)


def test_each_image_is_blurred_with_its_own_gaussian() -> None:
    images = batch(channels=2, count=4, size=15)[0][:, :11].astype(np.float32)
    sigma = np.array([0.0, 0.4, 1.0, 2.5], np.float32)
    blurred = np.asarray(gaussian_blur(images, sigma))
    np.testing.assert_array_equal(blurred[0], images[0])
    for image, width, ours in zip(images[1:], sigma[1:], blurred[1:], strict=True):
        options: dict[str, Any] = {"sigma": (width, width, 0), "mode": "constant", "truncate": 10}
        inside = ndimage.gaussian_filter(np.ones(image.shape), **options)
        # SciPy samples the same Gaussian; dividing by what lies inside leaves out what lies beyond the edge.
        expected = ndimage.gaussian_filter(image.astype(np.float64), **options) / inside
        np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_blur_of_a_one_pixel_high_even_image_changes_nothing() -> None:
    images = np.full((1, 1, 5, 1), 77, np.uint8)
    changed, _ = RandomAugmentation(blur=3.0)(images, images[..., 0], 0)
    np.testing.assert_array_equal(changed, images)


def test_noise_is_centred_and_as_strong_as_drawn() -> None:
    images, masks = np.full((8, 64, 64, 3), 128, np.uint8), np.zeros((8, 64, 64), np.uint8)
    augment = RandomAugmentation(noise=0.1)
    noise = np.asarray(augment(images, masks, 2)[0], np.float64) - 128
    strengths = 255 * np.asarray(augment.draw(2, 8)["noise"])
    rounding = 1 / 12  # variance that rounding to whole levels adds
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), np.sqrt(strengths**2 + rounding), rtol=0.05)
    assert (np.abs(noise.mean(axis=(1, 2, 3))) < 5 * strengths / np.sqrt(64 * 64 * 3) + 0.02).all()
    assert np.abs(np.corrcoef(noise.reshape(8, -1)) - np.eye(8)).max() < 0.05


@pytest.mark.parametrize(
    "strengths", [{"brightness": 0.5}, {"contrast": 0.5}, {"gamma": 1.0}, {"noise": 0.2}, {"blur": 2.0}]
)
def test_alpha_is_no_color(strengths: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 6, 5, 4)).astype(np.uint8)
    images[..., 3] = 255
    masks = np.zeros((4, 6, 5), np.uint8)
    changed, _ = RandomAugmentation(**strengths, has_alpha=True)(images, masks, seed=3)
    np.testing.assert_array_equal(np.asarray(changed)[..., 3], 255)
    of_colors, _ = RandomAugmentation(**strengths)(images[..., :3], masks, seed=3)
    np.testing.assert_array_equal(np.asarray(changed)[..., :3], of_colors)


def test_a_flat_image_with_alpha_stays_flat_and_what_lies_outside_is_transparent() -> None:
    images = np.full((1, 9, 9, 4), 60, np.uint8)
    images[..., 3] = 255
    changed, masks = RandomAugmentation(rotate=45.0, contrast=0.5, has_alpha=True)(
        images, np.zeros((1, 9, 9), np.uint8), seed=1
    )
    np.testing.assert_array_equal(np.asarray(changed)[..., :3], 60)
    alpha, outside = np.asarray(changed)[..., 3], np.asarray(masks) == 255
    assert outside.any() and (alpha[outside] < 255).all()


@pytest.mark.parametrize(
    "strengths", [{"brightness": 0.5}, {"contrast": 0.5}, {"gamma": 1.0}, {"noise": 0.2}, {"blur": 2.0}]
)
def test_a_fourth_band_changes_as_the_others_do(strengths: dict[str, Any]) -> None:
    images, masks = batch(4)
    changed = np.asarray(RandomAugmentation(**strengths)(images, masks, seed=3)[0])
    assert (changed != images).any(axis=(0, 1, 2)).all()


def test_outside_of_a_picture_of_four_bands_each_is_the_mean() -> None:
    images = np.full((1, 9, 9, 4), 60, np.uint8)
    changed, masks = RandomAugmentation(rotate=45.0)(images, np.zeros((1, 9, 9), np.uint8), seed=1)
    assert (np.asarray(masks) == 255).any()
    np.testing.assert_array_equal(np.asarray(changed), 60)
