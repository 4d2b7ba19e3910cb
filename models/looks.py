"""Several looks at an image are better than one."""

from collections.abc import Sequence

import keras
from keras import ops

from models.geometry import look_size


def average_looks(
    network: keras.Model,
    input_shape: tuple[int, int, int],
    *,
    mirrored: bool,
    scales: Sequence[float],
    stride: int,
) -> keras.Model:
    """Returns a model that answers with the mean of what a network says of several versions of an image.

    Errors that it makes on one side, or at one size of an object, only count for their part; the work is
    that of all looks together, which at scale s is s² times that of one. Mirroring suits scenes that may as
    well be the other way round, the same for which flips are a fair augmentation; scales suit those for
    which ``scale_crop`` is. Averaging over flips and scales is common practice since Long, Shelhamer and
    Darrell (2015) and Chen et al. (DeepLab, 2016).

    Args:
        network: images (N, height, width, channels) of any height and width to logits of the same size.
        input_shape: height, width and channels of the model's images.
        mirrored: whether each version is also seen mirrored left to right.
        scales: factors by which the further versions are larger or smaller than the image.
        stride: height and width of each version are rounded to a multiple of it.

    Returns:
        A model from images (N, *input_shape) to logits (N, H, W, C), which shares the network's weights.
    """
    height, width, _ = input_shape
    images = keras.Input(input_shape, name="images", dtype=network.inputs[0].dtype)
    answers = []
    for scale in (1.0, *scales):
        size = look_size(height, width, scale, stride)
        seen = images if size == (height, width) else ops.image.resize(images, size, antialias=True)
        looks = [network(seen)]
        if mirrored:
            looks.append(ops.flip(network(ops.flip(seen, axis=2)), axis=2))
        mean = sum(looks) / len(looks)
        answers.append(mean if size == (height, width) else ops.image.resize(mean, (height, width)))
    return keras.Model(images, sum(answers) / len(answers), name=f"averaged_{network.name}")
