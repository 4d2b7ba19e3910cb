"""Random numbers that are a function of a seed, which may be a tensor, and of the position in a batch.

`keras.random` takes only Python integers or a state as seed. An input pipeline works on batches in parallel
and hands each its number as a tensor; a hash of seed, stream and position then gives numbers that repeat
themselves whatever the order of the work.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

_LOW_32_BITS = 0xFFFFFFFF
_WORD = "uint32"
"""The dtype of the hash's words; on PyTorch, Keras computes in int64 instead."""
_GOLDEN_RATIO = 0x9E3779B9  # its first 32 bits: keeps seed 0 off the hash's fixed point, which is 0


def uniform(seed: Any, streams: Sequence[int], count: Any) -> Any:
    """Returns float32 (len(streams), count), uniform in [0, 1); the rows are independent of each other.

    Args:
        seed: an integer, or an integer tensor of shape (); its low 32 bits count.
        streams: one number for each independent sequence.
        count: how many numbers of each, an integer or an integer tensor of shape ().
    """
    positions = ops.cast(ops.arange(count), _WORD)
    return _fraction(_words(seed, streams, positions), bits=24)


def normal(seed: Any, stream: int, count: Any, size: int) -> Any:
    """Returns float32 (count, size), standard normal: Box and Muller's transform (1958).

    The two uniform numbers behind each pair of normal ones are the halves of one hashed word; with 16 bits
    each, the largest value is 4.9. Arguments as in ``uniform``.
    """
    pairs = -(-size // 2)
    positions = ops.cast(ops.arange(count * pairs), _WORD)
    words = ops.reshape(_words(seed, [stream], positions), (-1, pairs))
    radius = ops.sqrt(-2.0 * ops.log(_fraction(words, bits=16) + 2.0**-17))
    angle = 2.0 * math.pi * _fraction(_low_bits(ops.left_shift(words, _word(16))), bits=16)
    return ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)[:, :size]


def _words(seed: Any, streams: Sequence[int], positions: Any) -> Any:
    """Returns 32 random bits for each stream and position, uint32 (len(streams), len(positions))."""
    if isinstance(seed, int):
        seed = seed & _LOW_32_BITS
    start = _scramble(ops.cast(seed, _WORD) + _word(_GOLDEN_RATIO))
    keys = _scramble(start + ops.convert_to_tensor(streams, dtype=_WORD))[:, None]
    # The key once more after the first round: otherwise two keys that lie close to each other would give the
    # same sequence, only shifted.
    return _scramble(_scramble(keys + positions) + keys)


def _scramble(words: Any) -> Any:
    """Spreads every bit of 32-bit words over all the others: MurmurHash3's finalizer (Appleby 2011)."""
    words = _low_bits(words)
    words = _low_bits((words ^ _shift(words, 16)) * _word(0x85EBCA6B))
    words = _low_bits((words ^ _shift(words, 13)) * _word(0xC2B2AE35))
    return words ^ _shift(words, 16)


def _fraction(words: Any, bits: int) -> Any:
    """Reads the first ``bits`` of each word as a number in [0, 1)."""
    return ops.cast(_shift(words, 32 - bits), "float32") * 2.0**-bits


def _low_bits(words: Any) -> Any:
    """Keeps 32 bits of each word, where a backend's words have more."""
    return words & _word(_LOW_32_BITS)


def _shift(words: Any, bits: int) -> Any:
    return ops.right_shift(words, _word(bits))


def _word(value: int) -> Any:
    return ops.convert_to_tensor(value, dtype=_WORD)
