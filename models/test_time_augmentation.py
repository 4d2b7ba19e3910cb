"""Test-time augmentation: the mean over several versions of an image."""

from collections.abc import Sequence

import keras
from keras import ops

from models.blocks import InputShape
from models.options import scaled_size


def average_augmented(
    network: keras.Model,
    input_shape: InputShape,
    *,
    horizontal_flip: bool,
    scales: Sequence[float],
    stride: int,
) -> keras.Model:
    """Returns a model that answers with the mean of a network's logits for several versions of an image.

    Errors that it makes on one side, or at one size of an object, only count for their part; the work is
    that of all versions together, which at scale s is s² times that of one. Flips suit scenes that may as
    well be the other way round, the same for which they are a fair augmentation in training; scales suit
    those for which ``scale_crop`` is. Averaging over flips and scales is common practice since Long,
    Shelhamer and Darrell (2015) and Chen et al. (DeepLab, 2016).

    Args:
        network: images (N, height, width, channels) of any height and width to logits of the same size.
        input_shape: height, width and channels of the model's images; any height and width, None, where there
            are no scales.
        horizontal_flip: whether each version is also seen mirrored left to right.
        scales: factors by which the further versions are larger or smaller than the image.
        stride: height and width of each version are rounded to a multiple of it.

    Returns:
        A model from images (N, *input_shape) to logits (N, H, W, C), which shares the network's weights.
    """
    height, width, _ = input_shape
    sizes: list[tuple[int | None, int | None]] = [(height, width)]
    if scales:
        if height is None or width is None:
            raise ValueError(f"input_shape is {input_shape}; scales want a height and a width")
        sizes += [scaled_size(height, width, scale, stride) for scale in scales]
    images = keras.Input(input_shape, name="images", dtype=network.inputs[0].dtype)
    answers = []
    for size in sizes:
        scaled = images if size == (height, width) else ops.image.resize(images, size, antialias=True)
        logits = network(scaled)
        if horizontal_flip:
            logits = (logits + ops.flip(network(ops.flip(scaled, axis=2)), axis=2)) / 2
        answers.append(logits if size == (height, width) else ops.image.resize(logits, (height, width)))
    return keras.Model(images, sum(answers) / len(answers), name=f"averaged_{network.name}")
