"""The names that a recipe's options take, and the sizes that follow from them.

Imports nothing, so settings can be checked without Keras.
"""

from typing import Final, Literal, get_args

ClassWeighting = Literal["none", "inverse", "median_frequency", "effective_number"]

Normalization = Literal["none", "batch", "group"]
Upsampling = Literal["transposed", "resize", "bilinear", "pix2pix"]
Joining = Literal["concatenate", "add"]
EncoderName = Literal[
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "DenseNet121",
    "ResNet50V2",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "ConvNeXtTiny",
]
IMAGENET: Final = "imagenet"
"""The weights that Keras offers, where a path could stand."""
PixelNormalization = Literal["signed", "imagenet"]

ENCODER_PIXELS: Final[dict[EncoderName, PixelNormalization]] = {
    "MobileNetV2": "signed",
    "MobileNetV3Small": "signed",
    "MobileNetV3Large": "signed",
    "DenseNet121": "imagenet",
    "ResNet50V2": "signed",
    "EfficientNetV2B0": "imagenet",
    "EfficientNetV2B1": "imagenet",
    "EfficientNetV2B2": "imagenet",
    "EfficientNetV2B3": "imagenet",
    "ConvNeXtTiny": "imagenet",
}
"""How the pixels were normalised that an encoder's ImageNet weights were trained with, as
`keras.applications` does it: ``signed`` -1 … 1; ``imagenet`` zero mean and unit variance a channel."""


def stride(depth: int) -> int:
    """Returns by how many pixels the deepest level of a network of ``depth`` levels steps.

    Between two levels height and width are halved, so both must be divisible by this number.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; a network has at least 1 level")
    return 2 ** (depth - 1)


def encoder_stride(encoder: EncoderName) -> int:
    """Returns by how many pixels the deepest features of an encoder step.

    All of them were made for ImageNet's classes and halve height and width five times.
    """
    if encoder not in get_args(EncoderName):
        raise ValueError(f"encoder {encoder!r} is unknown; choose one of {', '.join(get_args(EncoderName))}")
    return 32


def check_size(height: int | None, width: int | None, step: int) -> None:
    """Raises a `ValueError` that names sizes that would do unless both sides are multiples of a stride.

    Args:
        height: of the network's input, pixels; None for any.
        width: likewise.
        step: the network's stride, as `stride` or `encoder_stride` returns it.
    """
    for side, pixels in (("height", height), ("width", width)):
        if pixels is not None and (pixels < step or pixels % step):
            below = pixels // step * step
            nearest = f"{below} or {below + step}" if below else f"{step}"
            raise ValueError(
                f"{side} {pixels} is not divisible by {step}, the stride of the network; take {nearest}"
            )


def scaled_size(height: int, width: int, scale: float, stride: int) -> tuple[int, int]:
    """Returns the height and width of an image at a scale: the nearest multiples of a stride."""

    def nearest(side: int) -> int:
        return max(stride, round(side * scale / stride) * stride)

    return nearest(height), nearest(width)
