"""Two looks at an image are better than one."""

import keras
from keras import ops


def average_with_mirror(network: keras.Model) -> keras.Model:
    """Returns a model that answers with the mean of what a network says of an image and of its mirror image.

    Errors that it makes on one side only are halved; the work doubles. It suits scenes that may as well be
    the other way round, the same for which flips are a fair augmentation.

    Args:
        network: images (N, H, W, channels) to logits (N, H, W, C).

    Returns:
        A model of the same input and output, which shares the network's weights.
    """
    images = keras.Input(network.input_shape[1:], name="images", dtype=network.inputs[0].dtype)
    mirrored = ops.flip(network(ops.flip(images, axis=2)), axis=2)
    return keras.Model(images, (network(images) + mirrored) / 2, name=f"mirrored_{network.name}")
