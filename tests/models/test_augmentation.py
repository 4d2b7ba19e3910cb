"""Image and mask change together, as drawn, and the same way for the same seed."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from models.augmentation import RandomAugmentation

SEEDS = st.integers(-(2**63), 2**63 - 1)
STRONG: dict[str, Any] = {
    "horizontal_flip": True, "rotate": 20.0, "scale_crop": (0.5, 2.0), "brightness": 0.1, "contrast": 0.2,
    "saturation": 0.3, "hue": 0.1, "gamma": 0.2, "blur": 1.0, "noise": 0.05,
}  # fmt: skip
DRAWN = {
    "horizontal_flip": 0, "vertical_flip": 1, "rot90": 2, "rotate": 0.0713134, "scale": 0.7842454,
    "place_x": 0.0498282, "place_y": -0.8041588, "brightness": -0.0272811, "contrast": 1.0437555,
    "saturation": 1.2605475, "hue": 0.0187079, "gamma": 0.9356975, "blur": 0.3094737, "noise": 0.0017119,
}  # fmt: skip
"""What seed 11 draws for the first image with ``STRONG`` and all flips and turns."""
EXACT = st.fixed_dictionaries({name: st.booleans() for name in ("horizontal_flip", "vertical_flip", "rot90")})


def pairs(
    seed: int, count: int = 4, height: int = 6, width: int = 6, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of random class ids, and images that show exactly the masks."""
    masks = np.random.default_rng(seed).integers(0, 256, (count, height, width)).astype(np.uint8)
    return np.repeat(masks[..., None], channels, axis=-1), masks


def run(augment: RandomAugmentation, images: Any, masks: Any, seed: Any) -> tuple[np.ndarray, np.ndarray]:
    images, masks = augment(images, masks, seed)
    return np.asarray(images), np.asarray(masks)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, moves=EXACT, size=st.integers(1, 6), count=st.integers(1, 4))
def test_flips_and_turns_move_a_mask_drawn_as_an_image_exactly(
    seed: int, moves: dict[str, Any], size: int, count: int
) -> None:
    images, masks = pairs(0, count, size, size)
    moved_images, moved_masks = run(RandomAugmentation(**moves), images, masks, seed)
    assert moved_images.dtype == moved_masks.dtype == np.uint8
    np.testing.assert_array_equal(moved_images, np.repeat(moved_masks[..., None], 3, axis=-1))
    for before, after in zip(masks, moved_masks, strict=True):
        turned = [np.rot90(before, turns) for turns in range(4 if moves["rot90"] else 1)]
        across = [part[:, ::-1] for part in turned] if moves["horizontal_flip"] else []
        possible = turned + across
        possible += [part[::-1] for part in possible] if moves["vertical_flip"] else []
        assert any((after == part).all() for part in possible)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, moves=EXACT, size=st.integers(1, 9))
def test_flips_and_turns_through_the_matrix_are_the_exact_ones(
    seed: int, moves: dict[str, Any], size: int
) -> None:
    images, masks = pairs(1, 4, size, size)
    exact = run(RandomAugmentation(**moves), images, masks, seed)
    # A scale of 1 asks for the resampling and moves nothing.
    resampled = run(RandomAugmentation(**moves, scale_crop=(1.0, 1.0)), images, masks, seed)
    for one, other in zip(exact, resampled, strict=True):
        np.testing.assert_array_equal(one, other)


def forward_matrix(draws: dict[str, np.ndarray], index: int, height: int, width: int) -> np.ndarray:
    """How (x, y, 1) around the centre moves, change by change in the order of the documentation."""

    def of(name: str) -> float:
        return float(draws[name][index])

    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)
    steps = [np.linalg.matrix_power(quarter, int(of("rot90")))]
    steps.append(np.diag([1 - 2 * of("horizontal_flip"), 1 - 2 * of("vertical_flip"), 1]))
    angle = np.deg2rad(of("rotate"))
    cosine, sine = np.cos(angle), np.sin(angle)
    steps.append(np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]))
    scale = of("scale")
    spare_x, spare_y = (scale - 1) * width / 2, (scale - 1) * height / 2
    steps.append(np.diag([scale, scale, 1]))
    steps.append(np.array([[1, 0, -spare_x * of("place_x")], [0, 1, -spare_y * of("place_y")], [0, 0, 1]]))
    whole = np.eye(3)
    for step in steps:
        whole = step @ whole
    return whole


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, rot90=st.booleans())
def test_all_moves_together_are_one_resampling_with_the_composed_matrix(seed: int, rot90: bool) -> None:
    height, width = (24, 24) if rot90 else (20, 28)
    rng = np.random.default_rng(2)
    images = np.round(ndimage.gaussian_filter(rng.uniform(0, 255, (3, height, width, 3)), (0, 2, 2, 0)))
    images = images.astype(np.uint8)
    masks = rng.integers(0, 5, (3, height, width)).astype(np.int32)
    augment = RandomAugmentation(
        horizontal_flip=True, vertical_flip=True, rot90=rot90, rotate=30.0, scale_crop=(0.5, 2.0)
    )
    draws = {name: np.asarray(values, np.float64) for name, values in augment.draw(seed, 3).items()}
    moved_images, moved_masks = run(augment, images, masks, seed)
    assert moved_masks.dtype == np.int32

    rows, columns = np.mgrid[:height, :width].astype(float)
    around_centre = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2, np.ones_like(rows)])
    for index in range(3):
        inverse = np.linalg.inv(forward_matrix(draws, index, height, width))
        x, y, _ = np.tensordot(inverse, around_centre, 1)
        x, y = x + (width - 1) / 2, y + (height - 1) / 2
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        outside = (x < -0.51) | (x > width - 0.49) | (y < -0.51) | (y > height - 0.49)
        for channel in range(3):
            expected = ndimage.map_coordinates(images[index, ..., channel].astype(float), [y, x], order=1)
            difference = np.abs(moved_images[index, ..., channel] - expected)[inside]
            assert difference.max(initial=0) < 0.51
        # Halfway between two pixels either is right.
        clear = np.minimum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5)) > 1e-3
        nearest = ndimage.map_coordinates(masks[index], [y, x], order=0)
        np.testing.assert_array_equal(moved_masks[index][inside & clear], nearest[inside & clear])
        assert (moved_masks[index][outside] == 255).all()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_mask_drawn_as_an_image_stays_the_same_picture_away_from_edges(seed: int) -> None:
    masks = np.zeros((4, 48, 48), np.uint8)
    masks[:, :20, 28:], masks[:, 20:, :28], masks[:, 20:, 28:] = 1, 2, 3
    images = np.repeat(60 * masks[..., None] + 20, 3, axis=-1).astype(np.uint8)
    strong = RandomAugmentation(horizontal_flip=True, rotate=180.0, scale_crop=(0.5, 2.0))
    moved_images, moved_masks = run(strong, images, masks, seed)
    window = (1, 7, 7)
    # Beyond the frame counts as another class: nobody sees what lies there.
    highest = ndimage.maximum_filter(moved_masks, window, mode="constant", cval=255)
    shown = (highest == ndimage.minimum_filter(moved_masks, window)) & (highest != 255)
    assert shown.mean() > 0.05
    np.testing.assert_array_equal(moved_images[shown][:, 0], 60 * moved_masks[shown] + 20)
    assert set(np.unique(moved_masks)) <= {0, 1, 2, 3, 255}  # class ids are never interpolated


WINDOWS = st.sampled_from([(16, 16), (12, 21), (21, 4), (1, 1), (1, 9)])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=WINDOWS, degrees=st.sampled_from([0.0, 30.0, 180.0]), turns=st.booleans())
def test_moves_of_a_window_show_the_picture_around_it(
    seed: int, size: tuple[int, int], degrees: float, turns: bool
) -> None:
    height, width = size
    augment = RandomAugmentation(
        horizontal_flip=True,
        vertical_flip=True,
        rot90=turns and height == width,
        rotate=degrees,
        scale_crop=(0.5, 1.5),
    )
    frame = augment.frame(height, width)
    assert all((whole - part) % 2 == 0 for whole, part in zip(frame, size, strict=True))
    rng = np.random.default_rng(2)
    # A picture that goes on beyond the frame: nothing there may be seen.
    outer = np.round(ndimage.gaussian_filter(rng.uniform(0, 255, (3, 90, 90, 3)), (0, 2, 2, 0))).astype(
        np.uint8
    )
    ids = rng.integers(0, 5, (3, 90, 90)).astype(np.int32)
    top, left = (90 - frame[0]) // 2, (90 - frame[1]) // 2
    inside = np.s_[:, top : top + frame[0], left : left + frame[1]]
    moved, moved_ids = augment(outer[inside], ids[inside], seed, size)
    moved, moved_ids = np.asarray(moved), np.asarray(moved_ids)
    assert moved.shape == (3, *size, 3) and moved_ids.shape == (3, *size)

    draws = {name: np.asarray(values, np.float64) for name, values in augment.draw(seed, 3).items()}
    draws |= {"place_x": np.zeros(3), "place_y": np.zeros(3)}
    rows, columns = np.mgrid[:height, :width].astype(float)
    around_centre = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2, np.ones_like(rows)])
    for index in range(3):
        x, y, _ = np.tensordot(np.linalg.inv(forward_matrix(draws, index, height, width)), around_centre, 1)
        x, y = x + left + (frame[1] - 1) / 2, y + top + (frame[0] - 1) / 2
        for channel in range(3):
            seen = ndimage.map_coordinates(outer[index, ..., channel].astype(float), [y, x], order=1)
            assert np.abs(moved[index, ..., channel] - seen).max() < 0.51
        clear = np.minimum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5)) > 1e-3
        nearest = ndimage.map_coordinates(ids[index], [y, x], order=0)
        np.testing.assert_array_equal(moved_ids[index][clear], nearest[clear])


def test_a_frame_is_no_larger_than_the_moves_need() -> None:
    assert RandomAugmentation(horizontal_flip=True, hue=0.1).frame(12, 20) == (12, 20)
    # A pixel on each side, to read between pixels.
    assert RandomAugmentation(scale_crop=(1.5, 2.0)).frame(12, 20) == (14, 22)
    assert RandomAugmentation(scale_crop=(0.5, 2.0)).frame(12, 20) == (24, 40)
    assert RandomAugmentation(rotate=90.0).frame(13, 21) == (25, 25)
    # 3 by 4 pixel steps: a corner comes 2.5 from the centre.
    assert RandomAugmentation(rotate=180.0).frame(4, 5) == (6, 7)


def test_another_frame_than_a_window_needs_is_refused() -> None:
    images, masks = pairs(9)
    with pytest.raises(ValueError, match="images are 6 x 6 pixels; a window of 6 x 6 needs 12 x 12"):
        RandomAugmentation(scale_crop=(0.5, 1.0))(images, masks, 0, (6, 6))


def test_outside_the_picture_are_its_mean_grey_and_the_ignore_label() -> None:
    images = np.full((64, 8, 8, 3), (30, 60, 90), np.uint8)
    masks = np.zeros((64, 8, 8), np.int64)
    augment = RandomAugmentation(scale_crop=(0.5, 0.5), ignore_label=1000)
    moved_images, moved_masks = run(augment, images, masks, 3)
    assert set(np.unique(moved_masks)) == {0, 1000}
    # A picture of half the size covers a quarter of the frame; every pixel is sometimes covered, none always.
    assert abs((moved_masks == 0).mean() - 0.25) < 0.05
    # Bilinear pixels fade out within one pixel around the picture.
    far = ndimage.minimum_filter(moved_masks, (1, 3, 3)) == 1000
    assert (moved_images[far] == 60).all() and far.any()


def test_rotation_is_counter_clockwise_for_positive_angles_and_uniform_in_its_range() -> None:
    # Pixels whose colour is their place: red grows to the right, green downwards.
    rows, columns = np.mgrid[:33, :33]
    images = np.stack([100 + 3 * (columns - 16), 100 + 3 * (rows - 16), 0 * rows], -1)
    images = np.repeat(images[None], 400, axis=0).astype(np.uint8)
    augment = RandomAugmentation(rotate=30.0)
    turned, _ = run(augment, images, np.zeros((400, 33, 33), np.uint8), 5)
    right_of_centre = (
        turned[:, 16, 26, :2].astype(float) - 100
    )  # shows what was at this place of the original
    angles = np.rad2deg(np.arctan2(right_of_centre[:, 1], right_of_centre[:, 0]))
    np.testing.assert_allclose(angles, np.asarray(augment.draw(5, 400)["rotate"]), atol=2.0)
    assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_every_change_is_drawn_uniformly_in_its_range_and_independently_of_the_others() -> None:
    settings_ = STRONG | {"vertical_flip": True, "rot90": True}
    draws = {n: np.asarray(v, float) for n, v in RandomAugmentation(**settings_).draw(11, 4000).items()}
    ranges = {
        "rotate": (-20, 20), "place_x": (-1, 1), "place_y": (-1, 1), "brightness": (-0.1, 0.1),
        "contrast": (0.8, 1.2), "saturation": (0.7, 1.3), "hue": (-0.1, 0.1), "blur": (0, 1),
        "noise": (0, 0.05),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        assert stats.kstest(draws[name], stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
    assert stats.kstest(np.log2(draws["scale"]), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    log_gamma = np.log(draws["gamma"]) / np.log(1.2)
    assert stats.kstest(log_gamma, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    for name, sides in {"horizontal_flip": 2, "vertical_flip": 2, "rot90": 4}.items():
        assert stats.chisquare(np.bincount(draws[name].astype(int), minlength=sides)).pvalue > 1e-3
    correlations = np.corrcoef(list(draws.values())) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.075  # about 4.7 standard deviations of 4000 independent pairs


def test_half_of_the_pairs_are_flipped_whatever_the_position_or_the_seed_next_to_it() -> None:
    augment = RandomAugmentation(horizontal_flip=True)
    draw = tf.function(lambda seed: augment.draw(seed, 16)["horizontal_flip"])
    flips = np.stack([draw(seed).numpy().astype(float) for seed in tf.range(1000)])
    # Four standard deviations of 1000 fair coins, for every position and between any two.
    assert np.abs(flips.mean(axis=0) - 0.5).max() < 0.065
    assert np.abs(np.corrcoef(flips.T) - np.eye(16)).max() < 0.13
    assert abs(np.corrcoef(flips[:-1].ravel(), flips[1:].ravel())[0, 1]) < 0.04


def test_one_more_kind_of_change_leaves_the_draws_of_the_others_alone() -> None:
    alone, beside = RandomAugmentation(rotate=20.0), RandomAugmentation(**STRONG)
    np.testing.assert_array_equal(alone.draw(3, 5)["rotate"], beside.draw(3, 5)["rotate"])


def test_a_seed_means_the_same_changes_in_every_version() -> None:
    everything = RandomAugmentation(**STRONG | {"vertical_flip": True, "rot90": True})
    draws = {name: np.asarray(values, float)[0] for name, values in everything.draw(11, 1).items()}
    assert draws == pytest.approx(DRAWN, rel=1e-5, abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_same_seed_does_the_same_as_number_and_as_tensor(seed: int) -> None:
    images, masks = pairs(3)
    augment = RandomAugmentation(**STRONG)
    first = run(augment, images, masks, seed)
    again = run(augment, images, masks, tf.constant(seed, tf.int64))
    other = run(augment, images, masks, seed + 1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_an_image_is_changed_the_same_way_in_a_smaller_batch() -> None:
    images, masks = pairs(4, count=5)
    augment = RandomAugmentation(**STRONG)
    whole, part = run(augment, images, masks, 1), run(augment, images[:2], masks[:2], 1)
    # Sums over an image may be added up in another order.
    assert np.abs(whole[0][:2].astype(int) - part[0]).max() <= 1
    np.testing.assert_array_equal(whole[1][:2], part[1])


def test_a_parallel_input_pipeline_repeats_itself() -> None:
    images, masks = pairs(5, count=22, height=16, width=16)
    augment = RandomAugmentation(**STRONG)

    def epoch(calls: int) -> list[np.ndarray]:
        data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4).enumerate(start=7)
        data = data.map(lambda seed, pair: augment(pair[0], pair[1], seed), num_parallel_calls=calls)
        return [np.concatenate(parts) for parts in zip(*data.as_numpy_iterator(), strict=True)]

    first, again = epoch(1), epoch(4)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[0] != images).any()


@pytest.mark.parametrize("mask_dtype", ["uint8", "int8", "uint16", "int32", "int64"])
@pytest.mark.parametrize(("count", "height", "width", "channels"), [(1, 1, 7, 3), (2, 5, 1, 3), (3, 4, 6, 5)])
def test_shapes_and_dtypes_stay(count: int, height: int, width: int, channels: int, mask_dtype: str) -> None:
    images, masks = pairs(6, count, height, width, channels)
    masks = (masks % 100).astype(mask_dtype)
    gray = {name: value for name, value in STRONG.items() if name not in ("saturation", "hue")}
    augment = RandomAugmentation(**(STRONG if channels == 3 else gray), ignore_label=127)
    new_images, new_masks = run(augment, images, masks, 0)
    assert (new_images.shape, new_images.dtype) == (images.shape, images.dtype)
    assert (new_masks.shape, new_masks.dtype) == (masks.shape, masks.dtype)
    assert set(np.unique(new_masks)) <= {*np.unique(masks).tolist(), 127}


def test_nothing_asked_for_returns_what_was_given() -> None:
    images, masks = pairs(7)
    augment = RandomAugmentation()
    assert augment.is_identity
    same_images, same_masks = augment(images, masks, 0)
    assert same_images is images and same_masks is masks


@pytest.mark.parametrize("name", [*STRONG, "vertical_flip", "rot90"])
def test_each_change_alone_is_no_identity_and_changes_some_image(name: str) -> None:
    rng = np.random.default_rng(8)
    images, masks = rng.integers(60, 200, (4, 8, 8, 3)).astype(np.uint8), np.zeros((4, 8, 8), np.uint8)
    augment = RandomAugmentation(**{name: STRONG.get(name, True)})
    assert not augment.is_identity
    assert (run(augment, images, masks, 0)[0] != images).any()


@pytest.mark.parametrize(
    ("options", "shape", "complaint"),
    [
        ({"rot90": True}, (1, 4, 6, 3), "rot90 needs square images; these are 4 x 6 pixels"),
        ({"hue": 0.1}, (1, 4, 4, 1), "saturation and hue need images of 3 channels; these have 1"),
        ({"saturation": 0.1}, (1, 4, 4, 4), "saturation and hue need images of 3 channels; these have 4"),
        ({"rotate": 10.0}, (4, 4, 3), "must be"),
    ],
)
def test_images_that_a_change_cannot_work_on_are_refused(
    options: dict[str, Any], shape: tuple[int, ...], complaint: str
) -> None:
    images, masks = np.zeros(shape, np.uint8), np.zeros(shape[:-1], np.uint8)
    with pytest.raises(ValueError, match=complaint):
        RandomAugmentation(**options)(images, masks, 0)


def test_wrong_dtypes_and_sizes_are_refused() -> None:
    augment = RandomAugmentation(rotate=10.0)
    images, masks = pairs(9)
    with pytest.raises(ValueError, match="images are float32; they must be uint8"):
        augment(images.astype(np.float32), masks, 0)
    with pytest.raises(ValueError, match="masks are float32; they must be integers"):
        augment(images, masks.astype(np.float32), 0)
    with pytest.raises(ValueError, match="images are 6 x 6, masks 5 x 6 pixels"):
        augment(images, masks[:, 1:], 0)


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("rotate", 181.0, "from 0 to 180"),
        ("hue", 0.6, "from 0 to 0.5"),
        ("blur", -1.0, "0 or more"),
        ("scale_crop", (0.0, 2.0), "0 < low <= high"),
        ("scale_crop", (2.0, 0.5), "0 < low <= high"),
        ("noise", float("nan"), "from 0 to 1"),
    ],
)
def test_impossible_strengths_are_refused(name: str, value: Any, bounds: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*{bounds}"):
        RandomAugmentation(**{name: value})
