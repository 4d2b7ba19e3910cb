"""Image and mask change together, by halves, and the same way for the same seed."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.augmentation import random_horizontal_flip

SEEDS = st.integers(-(2**63), 2**63 - 1)


def pairs(seed: int, count: int = 8, height: int = 3, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Masks of random class ids, and images that show exactly the masks."""
    masks = np.random.default_rng(seed).integers(0, 256, (count, height, width)).astype(np.uint8)
    return np.repeat(masks[..., None], 3, axis=-1), masks


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, width=st.integers(1, 6))
def test_a_mask_drawn_as_an_image_stays_the_same_picture(seed: int, width: int) -> None:
    images, masks = pairs(0, width=width)
    flipped_images, flipped_masks = (np.asarray(part) for part in random_horizontal_flip(images, masks, seed))
    assert flipped_images.dtype == flipped_masks.dtype == np.uint8
    np.testing.assert_array_equal(flipped_images, np.repeat(flipped_masks[..., None], 3, axis=-1))
    for before, after in zip(masks, flipped_masks, strict=True):
        assert (after == before).all() or (after == before[:, ::-1]).all()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_same_seed_does_the_same_as_number_and_as_tensor(seed: int) -> None:
    images, masks = pairs(1)
    first = random_horizontal_flip(images, masks, seed)
    again = random_horizontal_flip(images, masks, tf.constant(seed, tf.int64))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_of_the_pairs_are_flipped_whatever_the_position_or_the_seed_next_to_it() -> None:
    masks = np.tile(np.array([0, 1], np.uint8), (16, 1, 1))
    images = masks[..., None]
    flips = np.stack(
        [np.asarray(random_horizontal_flip(images, masks, seed)[1])[:, 0, 0] for seed in range(1000)]
    )
    # Four standard deviations of 1000 fair coins, for every position and between any two.
    assert np.abs(flips.mean(axis=0) - 0.5).max() < 0.065
    correlations = np.corrcoef(flips.T.astype(float)) - np.eye(16)
    assert np.abs(correlations).max() < 0.13
    assert abs(np.corrcoef(flips[:-1].ravel(), flips[1:].ravel())[0, 1]) < 0.04


@pytest.mark.parametrize("parallel_calls", [1, 4])
def test_a_parallel_input_pipeline_repeats_itself(parallel_calls: int) -> None:
    images, masks = pairs(2, count=12)

    def run(calls: int) -> np.ndarray:
        data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(5).enumerate(start=7)
        data = data.map(
            lambda seed, pair: random_horizontal_flip(pair[0], pair[1], seed), num_parallel_calls=calls
        )
        return np.concatenate([batch_masks for _, batch_masks in data.as_numpy_iterator()])

    np.testing.assert_array_equal(run(parallel_calls), run(1))
    assert (run(1) != masks).any()
