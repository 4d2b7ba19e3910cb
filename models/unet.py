"""The U-Net, trained from scratch."""

from collections.abc import Sequence
from typing import Final

import keras

from models.blocks import Normalization, convolution, double_convolution, down, up
from models.geometry import stride

IMAGE_CHANNELS: Final = 3
DROPOUT_LEVELS: Final = 2
"""Dropout follows the deepest levels only, where nearly all of the weights are."""


def unet(
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    *,
    filters: int,
    depth: int,
    dropout: float = 0.0,
    normalization: Normalization = "none",
    scale: Sequence[float] = (1 / 255,) * IMAGE_CHANNELS,
    offset: Sequence[float] = (0.0,) * IMAGE_CHANNELS,
    name: str = "unet",
) -> keras.Model:
    """Builds the U-Net of Ronneberger, Fischer and Brox 2015 with convolutions that keep the size.

    Each level down doubles the filters and halves the size; each level up undoes both and sees the
    features of its own size on the way down. A last 3x3 convolution refines the features before
    the classes are read from them.

    Args:
        input_shape: height, width and channels (3) of the images; height and width must be divisible
            by ``stride(depth)``, or None for any such size.
        num_classes: classes to tell apart, 2 at least.
        filters: channels of the first level.
        depth: levels, the deepest included.
        dropout: share of the features left out in training, in the two deepest levels.
        normalization: ``none``, or ``batch`` normalization after each convolution.
        scale: pixels are multiplied by this, one factor a channel …
        offset: … and this is added, so that the model takes raw pixels.
        name: name of the model.

    Returns:
        A model from images (N, H, W, 3), uint8 or float, 0 … 255, to logits float32 (N, H, W, C).

    Raises:
        ValueError: an argument makes no network; the message says what would.

    Example:
        >>> model = unet((256, 256, 3), num_classes=3, filters=32, depth=5, dropout=0.2)
        >>> model.count_params()
        8639811
    """
    _check(input_shape, num_classes, filters, depth, dropout, scale, offset)
    images = keras.Input(input_shape, name="images", dtype="float32")
    # Float32 under mixed precision, too: half precision would round resized pixels before they are seen.
    x = keras.layers.Rescaling(list(scale), list(offset), name="normalization", dtype="float32")(images)

    skips = []
    for level in range(1, depth + 1):
        level_filters = filters * 2 ** (level - 1)
        x = double_convolution(x, level_filters, normalization=normalization, name=f"encoder{level}")
        if dropout and level > depth - DROPOUT_LEVELS:
            x = keras.layers.Dropout(dropout, name=f"encoder{level}_dropout")(x)
        if level < depth:
            skips.append(x)
            x = down(x, name=f"encoder{level}")

    for level in range(depth - 1, 0, -1):
        level_filters = filters * 2 ** (level - 1)
        x = up(x, skips.pop(), level_filters, normalization=normalization, name=f"decoder{level}")

    x = convolution(x, filters, normalization=normalization, name="head")
    logits = keras.layers.Conv2D(num_classes, 1, name="logits", dtype="float32")(x)
    return keras.Model(images, logits, name=name)


def _check(
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    filters: int,
    depth: int,
    dropout: float,
    scale: Sequence[float],
    offset: Sequence[float],
) -> None:
    step = stride(depth)
    *size, channels = input_shape
    if len(size) != 2 or channels != IMAGE_CHANNELS:
        raise ValueError(f"input_shape is {input_shape}; give (height, width, {IMAGE_CHANNELS})")
    for side, pixels in zip(("height", "width"), size, strict=True):
        if pixels is not None and (pixels < step or pixels % step):
            below = pixels // step * step
            nearest = f"{below} or {below + step}" if below else f"{step}"
            raise ValueError(
                f"{side} {pixels} is not divisible by {step}, the stride of a U-Net of depth {depth}; "
                f"take {nearest}, or fewer levels"
            )
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; there are at least 2 classes to tell apart")
    if filters < 1:
        raise ValueError(f"filters is {filters}; a level has at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; give a share from 0 (none) to below 1")
    for argument, values in (("scale", scale), ("offset", offset)):
        if len(values) != IMAGE_CHANNELS:
            raise ValueError(f"{argument} has {len(values)} values; give {IMAGE_CHANNELS}, one a channel")
