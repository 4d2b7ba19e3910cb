"""The names that options of a recipe take; imports nothing, so settings can be checked without Keras."""

from typing import Final, Literal

LossName = Literal["cross_entropy", "dice", "focal", "tversky", "lovasz"]
ClassWeighting = Literal["none", "inverse", "median_frequency", "effective_number"]
VariantName = Literal[
    "brightness", "gamma", "hue", "central_crop", "horizontal_flip", "vertical_flip", "rot90"
]  # fixed changes that multiply a training set

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
