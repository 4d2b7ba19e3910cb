"""The networks of ``keras.applications`` as encoders: their features at each stride, for a decoder."""

import inspect
import warnings
from pathlib import Path
from typing import Any, Final

import keras

from models.blocks import InputShape
from models.options import IMAGENET, EncoderName, encoder_stride

_DEEPEST: Final[dict[EncoderName, str]] = {
    # These end in a 1x1 convolution that multiplies the channels for the classifier; a decoder starts before.
    "MobileNetV2": "block_16_project",
    "MobileNetV3Small": "expanded_conv_10_add",
    "MobileNetV3Large": "expanded_conv_14_add",
    "EfficientNetV2B0": "block6h_add",
    "EfficientNetV2B1": "block6i_add",
    "EfficientNetV2B2": "block6j_add",
    "EfficientNetV2B3": "block6l_add",
}
"""Deepest features where they are not what `_features` finds."""

_LEVELS: Final = 5
"""How often an encoder halves height and width; `models.options.encoder_stride` is two to this power."""


def encoder(
    name: EncoderName, input_shape: InputShape, *, weights: str | None, frozen: bool = False
) -> keras.Model:
    """Builds a network of `keras.applications` without its classifier.

    Args:
        name: of the function in `keras.applications`.
        input_shape: height, width and channels of the images; height and width must be divisible by
            ``encoder_stride(name)``, or None for any such size.
        weights: ``imagenet`` downloads what Keras offers, once; a path names a weights file of the
            network without its classifier, in any of Keras's formats; None starts at random. The first
            two take 3 channels.
        frozen: nothing of it trains, and batch normalisation keeps to its stored statistics. Dropout,
            where the network has any (EfficientNetV2), stays active in training.

    Returns:
        A model called ``encoder`` from images, normalised as `models.options.ENCODER_PIXELS` says, to
        their features, finest first, each half the size of the one before and the last the 32nd part of the
        image; the first has half the image's size, a quarter where the network starts with that.

    Raises:
        ValueError: the weights cannot be had, or belong to another network.
    """
    encoder_stride(name)  # refuses an unknown name
    backbone = _backbone(name, input_shape, weights)
    features = keras.Model(backbone.input, _features(backbone, _DEEPEST.get(name)), name="encoder")
    features.trainable = not frozen
    return features


def _backbone(name: EncoderName, input_shape: InputShape, weights: str | None) -> keras.Model:
    channels = input_shape[-1]
    if weights is not None and channels != 3:
        raise ValueError(
            f"images have {channels} channels, but the trained weights of {name} are for 3; "
            "set model.encoder_weights to null, or convert the images to RGB"
        )
    build = getattr(keras.applications, name)
    options: dict[str, Any] = {"include_top": False, "input_shape": input_shape}
    if "include_preprocessing" in inspect.signature(build).parameters:
        # The network is handed normalised pixels, whichever it is.
        options["include_preprocessing"] = False
    if weights == IMAGENET:
        try:
            return build(weights=IMAGENET, **options)
        except Exception as error:  # a failed download is a plain Exception
            raise ValueError(
                f"the ImageNet weights of {name} could not be loaded ({_first_line(error)}); "
                "download the file elsewhere and put its path in model.encoder_weights"
            ) from error
    backbone = build(weights=None, **options)
    if weights is not None:
        _load(backbone, name, weights)
    return backbone


def _load(backbone: keras.Model, name: EncoderName, path: str) -> None:
    expected = f"weights of keras.applications.{name}(include_top=False), as .weights.h5, .h5 or .keras"
    if not Path(path).is_file():
        raise ValueError(
            f"model.encoder_weights is {path!r}, but there is no such file; "
            f"give {expected}; or 'imagenet', or null"
        )
    try:
        with warnings.catch_warnings():
            # A line for every layer that the file lacks, before Keras refuses it.
            warnings.simplefilter("ignore")
            backbone.load_weights(path)
    except Exception as error:  # a file can be wrong in many ways, and each library complains in its own
        raise ValueError(f"model.encoder_weights {path!r} does not fit {name}; give {expected}") from error


def _features(backbone: keras.Model, deepest: str | None) -> list[Any]:
    """Returns the network's best features of each size, finest first.

    These are the last activation of each size, or the last sum of a residual branch where that comes
    later: all that the network knows at that size. Where a size has neither (ResNetV2 convolves once and
    pools), they are the last tensor of that size.
    """
    operations = [
        operation
        for operation in backbone.operations
        # Nested stems and such are what leads to a level, never its end.
        if not isinstance(operation, keras.Model | keras.layers.InputLayer)
        and len(operation.output.shape) == 4
    ]
    # Where images may have any size, some size tells as much.
    height, width = (side or 2 * 2**_LEVELS for side in backbone.input.shape[1:3])
    image = keras.KerasTensor((1, height, width, backbone.input.shape[-1]))
    tensors = keras.Model(backbone.input, [each.output for each in operations]).compute_output_spec(image)

    features = []
    for halvings in range(1, _LEVELS + 1):
        size = (height >> halvings, width >> halvings)
        level = [each for each, tensor in zip(operations, tensors, strict=True) if tensor.shape[1:3] == size]
        if level:
            telling = [each for each in level if _is_activation_or_sum(each)]
            features.append((telling or level)[-1].output)
    if deepest is not None:
        features[-1] = backbone.get_layer(deepest).output
    return features


def _is_activation_or_sum(operation: keras.Operation) -> bool:
    # The sum is a layer in some networks and the operator + in others; both are called so.
    is_sum = type(operation).__name__ == "Add"
    return is_sum or isinstance(operation, keras.layers.ReLU | keras.layers.Activation)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
