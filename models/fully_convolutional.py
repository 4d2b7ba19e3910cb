"""Whether a network may see a whole picture although it has learnt from windows."""

from collections.abc import Sequence

import keras

_LOCAL = (
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.ZeroPadding2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.UpSampling2D,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Concatenate,
)
"""What sees of a pixel's surroundings as much as its kernel is wide, and of other images nothing."""


def is_fully_convolutional(network: keras.Model) -> bool:
    """Returns whether all that a network does is of kinds known to look at a pixel's surroundings alone.

    Group normalisation, squeeze and excitation and their like look at all of an image: how they answer for
    a pixel depends on how large the image is.
    """
    return all(
        is_fully_convolutional(operation)
        if isinstance(operation, keras.Model)
        else isinstance(operation, _LOCAL)
        for operation in operations_of(network)
    )


def operations_of(network: keras.Model) -> Sequence[keras.Operation]:
    """Returns what a network does, layers and arithmetic on tensors; a sequential one has layers alone."""
    return network.layers if isinstance(network, keras.Sequential) else network.operations
