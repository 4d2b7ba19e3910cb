"""The building blocks of an encoder-decoder network, as functions on Keras tensors."""

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any, Final, get_args

import keras

from models.options import Joining, Normalization, Upsampling

InputShape = tuple[int | None, int | None, int]
"""Height, width, channels; None is any."""

DROPOUT_LEVELS: Final = 2
"""Dropout follows the deepest levels only, where nearly all of the weights are."""

_GROUP_CHANNELS: Final = 16


def raw_images(
    input_shape: InputShape, scale: Sequence[float] | float, offset: Sequence[float] | float
) -> tuple[Any, Any]:
    """The network's input and its first layer, which normalises raw pixels.

    Args:
        input_shape: of one image.
        scale: pixels are multiplied by this, one factor, or one a channel …
        offset: … and this is added.

    Returns:
        The input (N, H, W, channels), uint8 or float, 0 … 255, and the normalised images, float32: under
        mixed precision, too, as half precision would round resized pixels before they are seen.
    """
    if len(input_shape) != 3 or not input_shape[-1] or input_shape[-1] < 1:
        raise ValueError(f"input_shape is {input_shape}; give (height, width, channels)")
    channels = input_shape[-1]
    for argument, values in (("scale", scale), ("offset", offset)):
        if isinstance(values, Sequence) and len(values) != channels:
            raise ValueError(f"{argument} has {len(values)} values; give {channels}, one a channel")
    images = keras.Input(input_shape, name="images", dtype="float32")
    rescaling = keras.layers.Rescaling(
        _numbers(scale), _numbers(offset), name="normalization", dtype="float32"
    )
    return images, rescaling(images)


def convolution(
    x: Any, filters: int, *, normalization: Normalization, name: str, kernel_size: int = 3, strides: int = 1
) -> Any:
    """Convolution that keeps the size, or divides it by ``strides``; normalisation if wanted; ReLU.

    The weights start as He et al. 2015 propose for ReLU. A normalisation brings its own offset, so the
    convolution before it has no bias.

    Args:
        x: (N, H, W, any).
        filters: channels of the result, (N, H, W, filters).
        normalization: ``none``; ``batch``, over the batch (Ioffe and Szegedy 2015), see
            `models.batch_statistics` for what it uses outside of training; or ``group``, over groups
            of up to 16 channels of each image by itself (Wu and He 2018), for batches of few images.
        name: prefix of the layers' names.
        kernel_size: pixels a side.
        strides: pixels a step.
    """
    if filters < 1:
        raise ValueError(f"filters is {filters}; a level has at least 1")
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer="he_normal",
        use_bias=normalization == "none",
        name=f"{name}_conv",
    )(x)
    x = normalize(x, normalization, name=f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def normalize(x: Any, normalization: Normalization, *, name: str) -> Any:
    """Normalises features (N, H, W, channels); see `convolution` for the choices."""
    if normalization not in get_args(Normalization):
        choices = ", ".join(get_args(Normalization))
        raise ValueError(f"normalization {normalization!r} is unknown; choose one of {choices}")
    if normalization == "none":
        return x
    if normalization == "batch":
        return keras.layers.BatchNormalization(name=name)(x)
    channels = x.shape[-1]
    groups = channels // gcd(channels, _GROUP_CHANNELS)
    return keras.layers.GroupNormalization(groups, name=name)(x)


def double_convolution(x: Any, filters: int, *, normalization: Normalization, name: str) -> Any:
    """Two convolutions one after the other, the body of every level of a U-Net."""
    x = convolution(x, filters, normalization=normalization, name=f"{name}_1")
    return convolution(x, filters, normalization=normalization, name=f"{name}_2")


def strided_stem(x: Any, filters: int, *, normalization: Normalization, name: str) -> Any:
    """Two convolutions like `double_convolution`, but the first halves height and width.

    It is of 4x4 pixels, two a step, so that each pixel is seen twice in either direction.

    Args:
        x: (N, H, W, any).
        filters: channels of the result, (N, H / 2, W / 2, filters).
        normalization: as for `convolution`.
        name: prefix of the layers' names.
    """
    x = convolution(x, filters, normalization=normalization, name=f"{name}_1", kernel_size=4, strides=2)
    return convolution(x, filters, normalization=normalization, name=f"{name}_2")


def down(x: Any, *, name: str) -> Any:
    """Halves height and width: the largest of every 2x2 pixels."""
    return keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)


def dropout(x: Any, rate: float, *, name: str) -> Any:
    """Leaves out a share of the features in training."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is {rate}; give a share from 0 (none) to below 1")
    return keras.layers.Dropout(rate, name=f"{name}_dropout")(x) if rate else x


def up(
    x: Any,
    skip: Any | None,
    filters: int,
    *,
    upsampling: Upsampling,
    joining: Joining,
    normalization: Normalization,
    name: str,
) -> Any:
    """Doubles height and width and joins the encoder's features of that size.

    Args:
        x: (N, H, W, any) features of the deeper level.
        skip: (N, 2H, 2W, any) features of the encoder; None where it has none of that size.
        filters: channels of the upsampled features.
        upsampling: one of

            - ``transposed``: transposed convolution, then two convolutions on the joined features.
            - ``resize``: each pixel four times, smoothed by a 2x2 convolution, then the same two: cannot
              leave a checkerboard (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").
            - ``bilinear``: narrowed by a 1x1 convolution before it is resized, then one convolution on the
              joined features: the cheapest level up.
            - ``pix2pix``: transposed convolution, batch normalisation and ReLU (Isola et al. 2017); the
              joined features stay as they are. Batch normalisation belongs to it, whatever
              ``normalization`` says.
        joining: how the encoder's features join the upsampled ones: ``concatenate``, side by side; or
            ``add`` (Chaurasia and Culurciello 2017, "LinkNet"), in as many channels, to which a 1x1
            convolution brings them where they have another number: the next convolution then sees half.
        normalization: of the other convolutions, as for `convolution`.
        name: prefix of the layers' names.

    Returns:
        (N, 2H, 2W, filters); with ``pix2pix`` the channels of a skip that is concatenated come on top.
    """
    if upsampling not in _DOUBLING:
        raise ValueError(f"upsampling {upsampling!r} is unknown; choose one of {', '.join(_DOUBLING)}")
    x = _DOUBLING[upsampling](x, filters, normalization, f"{name}_upsample")
    if skip is not None:
        x = _joined(x, skip, joining, name)
    if upsampling == "pix2pix":
        return x
    if upsampling == "bilinear":
        return convolution(x, filters, normalization=normalization, name=name)
    return double_convolution(x, filters, normalization=normalization, name=name)


def class_logits(x: Any, num_classes: int, *, double_size: bool = False) -> Any:
    """Reads the classes from the features, in float32 under mixed precision, too.

    Args:
        x: (N, H, W, any).
        num_classes: C, 2 at least.
        double_size: by a 3x3 transposed convolution that doubles height and width, instead of pixel by pixel.

    Returns:
        Logits float32 (N, H, W, C), or (N, 2H, 2W, C).
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; there are at least 2 classes to tell apart")
    if double_size:
        layer = keras.layers.Conv2DTranspose(
            num_classes, 3, strides=2, padding="same", name="logits", dtype="float32"
        )
    else:
        layer = keras.layers.Conv2D(num_classes, 1, name="logits", dtype="float32")
    return layer(x)


def _transposed(x: Any, filters: int, normalization: Normalization, name: str) -> Any:
    return keras.layers.Conv2DTranspose(filters, 3, strides=2, padding="same", name=name)(x)


def _resize(x: Any, filters: int, normalization: Normalization, name: str) -> Any:
    x = keras.layers.UpSampling2D(2, name=name)(x)
    return convolution(x, filters, normalization=normalization, kernel_size=2, name=name)


def _bilinear(x: Any, filters: int, normalization: Normalization, name: str) -> Any:
    # Interpolation treats each channel alike, so narrowing first costs a quarter of narrowing after.
    x = convolution(x, filters, normalization=normalization, kernel_size=1, name=name)
    return _BilinearDoubling(2, interpolation="bilinear", name=name)(x)


class _BilinearDoubling(keras.layers.UpSampling2D):
    """``UpSampling2D`` for images of any size, too, which Keras asks in vain whether they are of one."""

    def call(self, inputs: Any) -> Any:
        if None not in inputs.shape[1:3]:
            # In half precision XLA refuses the gradient, which TensorFlow gives it in float32.
            doubled = super().call(keras.ops.cast(inputs, "float32"))
            return keras.ops.cast(doubled, inputs.dtype)
        # Each pixel twice, then a quarter of either neighbour: the same to the last bits.
        rows = keras.ops.repeat(inputs, 2, axis=1)
        above, below = rows[:, :1], rows[:, -1:]
        rows = rows / 2 + _neighbours(rows[:, :-1], rows[:, 1:], above, below, axis=1)
        columns = keras.ops.repeat(rows, 2, axis=2)
        left, right = columns[:, :, :1], columns[:, :, -1:]
        return columns / 2 + _neighbours(columns[:, :, :-1], columns[:, :, 1:], left, right, axis=2)


def _neighbours(before: Any, after: Any, first: Any, last: Any, axis: int) -> Any:
    before = keras.ops.concatenate([first, before], axis=axis)
    return (before + keras.ops.concatenate([after, last], axis=axis)) / 4


def _pix2pix(x: Any, filters: int, normalization: Normalization, name: str) -> Any:
    x = keras.layers.Conv2DTranspose(
        filters,
        3,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name=name,
    )(x)
    x = normalize(x, "batch", name=f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)


_DOUBLING: Final[dict[Upsampling, Callable[[Any, int, Normalization, str], Any]]] = {
    "transposed": _transposed,
    "resize": _resize,
    "bilinear": _bilinear,
    "pix2pix": _pix2pix,
}


def _joined(x: Any, skip: Any, joining: Joining, name: str) -> Any:
    if joining not in get_args(Joining):
        choices = ", ".join(get_args(Joining))
        raise ValueError(f"joining {joining!r} is unknown; choose one of {choices}")
    if joining == "concatenate":
        return keras.layers.Concatenate(name=f"{name}_concat")([x, skip])
    channels = x.shape[-1]
    if skip.shape[-1] != channels:
        skip = keras.layers.Conv2D(channels, 1, name=f"{name}_skip")(skip)
    return keras.layers.Add(name=f"{name}_add")([x, skip])


def _numbers(values: Sequence[float] | float) -> list[float] | float:
    return list(values) if isinstance(values, Sequence) else values
