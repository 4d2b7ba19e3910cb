"""Random changes to training images that leave them believable, applied to image and mask alike."""

from typing import Any

from keras import ops


def random_horizontal_flip(images: Any, masks: Any, seed: Any) -> tuple[Any, Any]:
    """Mirrors each pair left to right with probability one half.

    What happens depends on ``seed`` and the position in the batch alone, not on a hidden state, so an input
    pipeline may work on batches in parallel and still repeat itself. Pass another seed for each batch,
    the number of the batch will do.

    Args:
        images: (N, H, W, channels), any dtype.
        masks: class ids (N, H, W), any dtype.
        seed: an integer, or an integer tensor of shape (); its low 32 bits count.

    Returns:
        Images and masks of the same shapes and dtypes.
    """
    flip = _coins(seed, ops.shape(images)[0])
    images = ops.where(flip[:, None, None, None], ops.flip(images, axis=2), images)
    masks = ops.where(flip[:, None, None], ops.flip(masks, axis=2), masks)
    return images, masks


def _coins(seed: Any, count: Any) -> Any:
    """Returns ``count`` fair coins, bool (count,), a function of the seed.

    `keras.random` takes only Python integers or a state as seed; a hash of seed and position gives
    random numbers for a seed that is a tensor.
    """
    if isinstance(seed, int):
        seed = seed & 0xFFFFFFFF
    positions = ops.cast(ops.arange(count), "uint32")
    return _scramble(_scramble(ops.cast(seed, "uint32")) + positions) >= _word(0x80000000)


def _scramble(words: Any) -> Any:
    """Spreads every bit of 32-bit words over all the others: MurmurHash3's finalizer (Appleby 2011)."""
    words = (words ^ _shift(words, 16)) * _word(0x85EBCA6B)
    words = (words ^ _shift(words, 13)) * _word(0xC2B2AE35)
    return words ^ _shift(words, 16)


def _shift(words: Any, bits: int) -> Any:
    return ops.right_shift(words, _word(bits))


def _word(value: int) -> Any:
    return ops.convert_to_tensor(value, dtype="uint32")
