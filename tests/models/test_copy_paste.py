"""Objects of one training image on another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.augmentation import RandomAugmentation
from models.augmentation.copy_paste import copy_paste


def pair(seed: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images whose every pixel says which image and which class it is of."""
    masks = np.random.default_rng(seed).choice([0, 1, 2, 255], (count, 5, 4)).astype(np.uint8)
    numbers = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], masks.shape)
    return np.stack([numbers, masks, masks], axis=-1), masks


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), chosen=st.lists(st.booleans(), min_size=3, max_size=3))
def test_the_next_images_objects_lie_on_top_and_all_else_stays(seed: int, chosen: list[bool]) -> None:
    images, masks = pair(seed)
    pasted_images, pasted_masks = map(np.asarray, copy_paste(images, masks, (1, 2), np.array(chosen)))
    for index in range(3):
        following = (index + 1) % 3
        on_top = chosen[index] & np.isin(masks[following], (1, 2))
        np.testing.assert_array_equal(pasted_masks[index], np.where(on_top, masks[following], masks[index]))
        np.testing.assert_array_equal(pasted_images[index, ..., 0], np.where(on_top, following, index))
    # Whatever was pasted, image and mask still show the same.
    np.testing.assert_array_equal(pasted_images[..., 1], pasted_masks)


def test_a_batch_of_one_stays_as_it_is() -> None:
    images, masks = pair(0, count=1)
    pasted_images, pasted_masks = copy_paste(images, masks, (1,), np.array([True]))
    np.testing.assert_array_equal(pasted_images, images)
    np.testing.assert_array_equal(pasted_masks, masks)


def test_the_share_of_pasted_pairs_is_the_one_asked_for() -> None:
    augment = RandomAugmentation(copy_paste=0.25, pasted=(1,))
    drawn = np.asarray(augment.draw(3, 4000)["copy_paste"])
    assert drawn.mean() == pytest.approx(0.25, abs=0.03)
    assert not np.asarray(RandomAugmentation(hue=0.1).draw(3, 4000)["copy_paste"]).any()


def test_pasting_alone_is_augmentation_and_depends_on_the_seed_alone() -> None:
    augment = RandomAugmentation(copy_paste=0.5, pasted=(1, 2))
    images, masks = pair(1, count=16)
    first, again, other = (np.asarray(augment(images, masks, seed)[1]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, masks)


@pytest.mark.parametrize("options", [{"copy_paste": 0.5}, {"pasted": (1,)}])
def test_a_share_without_classes_and_classes_without_a_share_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="both are needed, or neither"):
        RandomAugmentation(**options)
