"""The U-Net, trained from scratch."""

from collections.abc import Sequence

import keras

from models import blocks
from models.options import Joining, Normalization, Upsampling, check_size, stride


def unet(
    input_shape: blocks.InputShape,
    num_classes: int,
    *,
    filters: int | Sequence[int],
    depth: int,
    dropout: float = 0.0,
    normalization: Normalization = "none",
    upsampling: Upsampling = "transposed",
    joining: Joining = "concatenate",
    strided_stem: bool = False,
    head_convolution: bool = True,
    scale: Sequence[float] | float = 1 / 255,
    offset: Sequence[float] | float = 0.0,
    name: str = "unet",
) -> keras.Model:
    """Builds the U-Net of Ronneberger, Fischer and Brox 2015 with convolutions that keep the size.

    Each level down doubles the filters, or has as many as it is given, and halves the size; each level up
    undoes both and sees the features of its own size on the way down.

    Args:
        input_shape: height, width and channels of the images, any number of channels; height and width must
            be divisible by ``stride(depth)``, with a strided stem by twice that, or None for any such size.
        num_classes: classes to tell apart, 2 at least.
        filters: channels of the first level; or of each level, ``depth`` of them.
        depth: levels, the deepest included.
        dropout: share of the features left out in training, in the two deepest levels.
        normalization: after each convolution, see `models.blocks.convolution`.
        upsampling: how a level up doubles the size, see `models.blocks.up` …
        joining: … and how it takes in the features of the way down.
        strided_stem: have the first level at half the size already, by a convolution that steps two
            pixels; the classes are read at full size, by a transposed one. The full size costs most of all.
        head_convolution: refine the features by a last 3x3 convolution before the classes are read.
        scale: pixels are multiplied by this, one factor, or one a channel …
        offset: … and this is added, so that the model takes raw pixels.
        name: name of the model.

    Returns:
        A model from images (N, H, W, channels), uint8 or float, 0 … 255, to logits float32 (N, H, W, C).

    Raises:
        ValueError: an argument makes no network; the message says what would.

    Example:
        >>> model = unet((256, 256, 3), num_classes=3, filters=32, depth=5, dropout=0.2)
        >>> model.count_params()
        8639811
    """
    images, x = blocks.raw_images(input_shape, scale, offset)
    check_size(*input_shape[:2], stride(depth + strided_stem))

    widths = [filters * 2**index for index in range(depth)] if isinstance(filters, int) else list(filters)
    if len(widths) != depth:
        raise ValueError(f"filters has {len(widths)} values for a depth of {depth}; give one a level")

    skips = []
    for level, width in enumerate(widths, start=1):
        level_body = blocks.strided_stem if strided_stem and level == 1 else blocks.double_convolution
        x = level_body(x, width, normalization=normalization, name=f"encoder{level}")
        if level > depth - blocks.DROPOUT_LEVELS:
            x = blocks.dropout(x, dropout, name=f"encoder{level}")
        if level < depth:
            skips.append(x)
            x = blocks.down(x, name=f"encoder{level}")

    for level in range(depth - 1, 0, -1):
        x = blocks.up(
            x,
            skips.pop(),
            widths[level - 1],
            upsampling=upsampling,
            joining=joining,
            normalization=normalization,
            name=f"decoder{level}",
        )

    if head_convolution:
        x = blocks.convolution(x, widths[0], normalization=normalization, name="head")
    return keras.Model(images, blocks.class_logits(x, num_classes, double_size=strided_stem), name=name)
