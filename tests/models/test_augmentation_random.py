"""Random numbers of a seed, a stream and a position: distributed as promised, independent, repeatable."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from models.augmentation import random
from models.augmentation.random import normal, uniform


def murmur_finalizer(word: int) -> int:
    word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
    word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
    return word ^ word >> 16


def test_uniform_is_the_documented_hash_of_seed_stream_and_position() -> None:
    drawn = np.asarray(uniform(-3, [0, 5], 4))
    start = murmur_finalizer((-3 + 0x9E3779B9) % 2**32)
    for row, stream in enumerate([0, 5]):
        key = murmur_finalizer((start + stream) % 2**32)
        for position in range(4):
            word = murmur_finalizer((murmur_finalizer((key + position) % 2**32) + key) % 2**32)
            assert drawn[row, position] == (word >> 8) / 2**24


@pytest.mark.parametrize("seed", [7, -3, tf.constant(-3, tf.int64)])
def test_numbers_do_not_depend_on_how_long_a_backends_words_are(
    monkeypatch: pytest.MonkeyPatch, seed: int | tf.Tensor
) -> None:
    expected = np.asarray(uniform(seed, [0, 5], 100)), np.asarray(normal(seed, 3, 4, 25))
    monkeypatch.setattr(random, "_WORD", "int64")
    np.testing.assert_array_equal(uniform(seed, [0, 5], 100), expected[0])
    np.testing.assert_array_equal(normal(seed, 3, 4, 25), expected[1])


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1])
def test_uniform_numbers_fill_the_unit_interval_evenly(seed: int) -> None:
    drawn = np.asarray(uniform(seed, range(3), 5000))
    assert drawn.dtype == np.float32 and drawn.shape == (3, 5000)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert all(stats.kstest(row, stats.uniform.cdf).pvalue > 1e-3 for row in drawn)


def test_streams_seeds_and_neighbours_are_uncorrelated() -> None:
    rows = np.concatenate([np.asarray(uniform(seed, range(8), 4001)) for seed in (0, 1, 2, 2**32 - 1)])
    rows = np.concatenate([rows[:, :-1], rows[:, 1:]])
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.085  # 5.4 standard deviations, 2016 pairs


def test_normal_numbers_are_normal_and_independent_of_each_other() -> None:
    drawn = np.asarray(normal(1, 9, 6, 4001))
    assert drawn.dtype == np.float32 and drawn.shape == (6, 4001)
    assert np.isfinite(drawn).all()
    assert all(stats.kstest(row, stats.norm.cdf).pvalue > 1e-3 for row in drawn)
    halves = np.concatenate([drawn[:, :2000], drawn[:, 2001:]])
    assert np.abs(np.corrcoef(halves) - np.eye(12)).max() < 0.1
    # Both numbers of a pair share a radius; squares show whether that ties them.
    assert np.abs(np.corrcoef(halves**2) - np.eye(12)).max() < 0.1


def test_a_row_of_normal_numbers_does_not_depend_on_how_many_there_are() -> None:
    np.testing.assert_array_equal(np.asarray(normal(2, 0, 5, 7))[:2], normal(2, 0, 2, 7))


def test_count_and_seed_may_be_tensors_of_a_traced_graph() -> None:
    @tf.function(input_signature=[tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int32)])
    def traced(seed: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return uniform(seed, [1], count), normal(seed, 2, count, 3)

    for ours, theirs in zip(
        traced(tf.constant(-5, tf.int64), tf.constant(4)),
        (uniform(-5, [1], 4), normal(-5, 2, 4, 3)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
