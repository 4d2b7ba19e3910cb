"""What a training sees in which epoch, whoever asks for it and when."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.data import Pair, cached, training_batches

COUNT = 10


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "pixels" if request.param == "disk" else None


def numbered(count: int = COUNT) -> tf.data.Dataset:
    """Images 2 x 2 that show their own number, with masks of it."""
    numbers = tf.data.Dataset.range(count).map(lambda number: tf.cast(number, tf.uint8))
    return numbers.map(lambda number: (tf.fill([2, 2, 3], number), tf.fill([2, 2], number)))


def batches(pairs: tf.data.Dataset, epochs: range, **options: Any) -> list[list[int]]:
    defaults: dict[str, Any] = {"buffer": COUNT, "batch_size": 4, "drop_remainder": False, "seed": 0}
    result = []
    for images, masks in training_batches(pairs, epochs, **defaults | options).as_numpy_iterator():
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
    # As another training in this process may have left it; shuffling must not mind.
    tf.random.set_seed(7)
    assert batches(numbered(), range(2, 4), **options) == whole[len(whole) // 2 :]


def test_pairs_are_decoded_once_for_all_epochs_and_phases(place: Path | None) -> None:
    decoded = []

    def decode(number: int) -> int:
        decoded.append(int(number))
        return number

    def count(image: tf.Tensor, mask: tf.Tensor) -> Pair:
        with tf.control_dependencies([tf.py_function(decode, [mask[0, 0]], tf.uint8)]):
            return tf.identity(image), mask

    pairs = cached(numbered().map(count), COUNT, place)
    batches(pairs, range(3))
    batches(pairs, range(3, 5))
    assert sorted(decoded) == list(range(COUNT))


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


def test_a_remainder_is_left_out_where_devices_must_share_evenly() -> None:
    assert [len(batch) for batch in batches(numbered(), range(2), drop_remainder=True)] == [4] * 4


def add_random_number(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor) -> Pair:
    number = tf.cast(seed % 50, tf.uint8)
    return images + number, masks + number
