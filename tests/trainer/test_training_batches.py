"""What a training sees in which epoch, whoever asks for it and when."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.errors import StageError
from components.imaging.reading import Reading
from components.trainer.batches import augmentation, training_batches, whole_pairs
from components.trainer.decoding import Pair
from components.trainer.pictures import EqualPictures
from components.trainer.training_config import AugmentationConfig

COUNT = 10


def pairs(count: int = COUNT) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images 2 x 3 that show their own number, with masks of it."""
    for number in range(count):
        yield np.full((2, 3, 3), number, np.uint8), np.full((2, 3), number, np.uint8)


def batched(count: int = COUNT) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same in batches of three, and what is left."""
    numbers = iter(pairs(count))
    while batch := list(islice(numbers, 3)):
        images, masks = zip(*batch, strict=True)
        yield np.stack(images), np.stack(masks)


def numbered(file: Path | None = None) -> EqualPictures:
    pictures = EqualPictures(batched, COUNT, (2, 3, 3), file)
    pictures.fill()
    return pictures


def batches(pictures: EqualPictures, epochs: range, **options: Any) -> list[list[int]]:
    defaults: dict[str, Any] = {"batch_size": 4, "drop_remainder": False, "seed": 0}
    result = []
    for images, masks in training_batches(pictures, epochs, **defaults | options).as_numpy_iterator():
        np.testing.assert_array_equal(images[..., 0], masks)
        result.append(images[:, 0, 0, 0].tolist())
    return result


def test_every_epoch_has_every_pair_once_in_an_order_of_its_own() -> None:
    seen = batches(numbered(), range(3))
    assert [len(batch) for batch in seen] == [4, 4, 2] * 3
    epochs = [list(chain(*seen[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert batches(numbered(), range(3), seed=1) != seen


def test_an_epoch_is_the_same_whether_others_came_before_it_or_not() -> None:
    options: dict[str, Any] = {"augment": add_random_number}
    whole = batches(numbered(), range(4), **options)
    assert batches(numbered(), range(2, 4), **options) == whole[len(whole) // 2 :]


def test_batches_are_the_same_from_memory_and_from_disk(tmp_path: Path) -> None:
    on_disk = numbered(tmp_path / "pixels" / "train")
    assert batches(on_disk, range(3)) == batches(numbered(), range(3))
    seen = list(whole_pairs(on_disk).as_numpy_iterator())
    for (image, class_ids), (expected, expected_ids) in zip(seen, pairs(), strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(class_ids, expected_ids)


def test_a_file_that_has_lost_pixels_ends_the_training(tmp_path: Path) -> None:
    file = tmp_path / "train"
    pictures = numbered(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(tf.errors.UnknownError, match="has lost pixels"):
        batches(pictures, range(1))


@pytest.mark.parametrize("there", [COUNT - 1, 0])
@pytest.mark.parametrize("on_disk", [False, True])
def test_fewer_pictures_than_were_counted_are_no_dataset(there: int, on_disk: bool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{there} pictures in place of {COUNT}"):
        EqualPictures(
            lambda: batched(there), COUNT, (2, 3, 3), tmp_path / "train" if on_disk else None
        ).fill()


def test_a_full_disk_is_said_in_a_line() -> None:
    with pytest.raises(StageError, match="kept in /dev/full: No space left on device; make room there"):
        EqualPictures(batched, COUNT, (2, 3, 3), Path("/dev/full")).fill()


def test_each_batch_is_augmented_with_a_seed_of_its_own() -> None:
    seeds: list[int] = []

    def note(seed: int) -> int:
        seeds.append(int(seed))
        return seed

    def augment(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor) -> Pair:
        with tf.control_dependencies([tf.py_function(note, [seed], tf.int64)]):
            return tf.identity(images), masks

    batches(numbered(), range(3), augment=augment)
    assert len(set(seeds)) == len(seeds) == 9
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 9


@pytest.mark.parametrize(
    ("reading", "is_changed"), [(Reading(4), False), (Reading(4, bands=(1, 2, 3, 4)), True)]
)
def test_a_fourth_channel_is_alpha_unless_bands_are_read(reading: Reading, is_changed: bool) -> None:
    augment = augmentation(AugmentationConfig(brightness=0.5), reading)
    assert augment is not None
    images = np.full((1, 4, 4, 4), 100, np.uint8)
    changed, _ = augment(images, images[..., 0], 0)
    assert (np.asarray(changed)[..., :3] != 100).all()
    assert (np.asarray(changed)[..., 3] != 100).all() == is_changed


def test_a_remainder_is_left_out_where_devices_must_share_evenly() -> None:
    assert [len(batch) for batch in batches(numbered(), range(2), drop_remainder=True)] == [4] * 4


def add_random_number(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor) -> Pair:
    number = tf.cast(seed % 50, tf.uint8)
    return images + number, masks + number
