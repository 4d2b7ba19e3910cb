"""The building blocks of an encoder-decoder network, as functions on Keras tensors."""

from typing import Any, Final, Literal, get_args

import keras

Normalization = Literal["none", "batch"]
NORMALIZATIONS: Final[tuple[str, ...]] = get_args(Normalization)


def convolution(x: Any, filters: int, *, normalization: Normalization, name: str) -> Any:
    """3x3 convolution that keeps the size, optional batch normalization, ReLU.

    The weights start as He et al. 2015 propose for ReLU. Batch normalization brings its own offset,
    so the convolution before it has no bias.
    """
    if normalization not in NORMALIZATIONS:
        choices = ", ".join(NORMALIZATIONS)
        raise ValueError(f"normalization {normalization!r} is unknown; choose one of {choices}")
    x = keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        kernel_initializer="he_normal",
        use_bias=normalization == "none",
        name=f"{name}_conv",
    )(x)
    if normalization == "batch":
        # Keras' own momentum, 0.99, needs hundreds of steps to know the activations; small datasets have few.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def double_convolution(x: Any, filters: int, *, normalization: Normalization, name: str) -> Any:
    """Two convolutions one after the other, the body of every level of a U-Net."""
    x = convolution(x, filters, normalization=normalization, name=f"{name}_1")
    return convolution(x, filters, normalization=normalization, name=f"{name}_2")


def down(x: Any, *, name: str) -> Any:
    """Halves height and width: the largest of every 2x2 pixels."""
    return keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)


def up(x: Any, skip: Any, filters: int, *, normalization: Normalization, name: str) -> Any:
    """Doubles height and width, joins the encoder's features of that size, and convolves twice.

    Args:
        x: (N, H, W, any) features of the deeper level.
        skip: (N, 2H, 2W, any) features of the encoder.
        filters: channels of the upsampled features and of the result, (N, 2H, 2W, filters).
        normalization: as for `convolution`.
        name: prefix of the layers' names.
    """
    x = keras.layers.Conv2DTranspose(filters, 3, strides=2, padding="same", name=f"{name}_upsample")(x)
    x = keras.layers.Concatenate(name=f"{name}_concat")([x, skip])
    return double_convolution(x, filters, normalization=normalization, name=name)
