"""A U-Net with a network of ``keras.applications`` as its encoder, pretrained on ImageNet or not."""

from collections.abc import Sequence

import keras

from models import blocks
from models.encoders import encoder as build_encoder
from models.options import EncoderName, Joining, Normalization, Upsampling, check_size, encoder_stride


def encoder_unet(
    input_shape: blocks.InputShape,
    num_classes: int,
    *,
    encoder: EncoderName,
    encoder_weights: str | None,
    freeze_encoder: bool = False,
    filters: int,
    dropout: float = 0.0,
    normalization: Normalization = "none",
    upsampling: Upsampling = "transposed",
    joining: Joining = "concatenate",
    head_convolution: bool = True,
    scale: Sequence[float] | float = 1 / 255,
    offset: Sequence[float] | float = 0.0,
    name: str = "encoder_unet",
) -> keras.Model:
    """Builds an encoder of `keras.applications` and a decoder that sees its features of every size.

    The decoder doubles the size four times, down to half the image's: with 512, 256, 128 and 64 channels
    where ``filters`` is 64. The last doubling has no features of the encoder to join: with ``pix2pix``
    it reads the classes in the same step, as that network's generator ends; otherwise it has
    ``filters // 2`` channels.

    Args:
        input_shape: height, width and channels of the images; height and width must be divisible by
            ``encoder_stride(encoder)``, or None for any such size. With trained weights 3 channels.
        num_classes: classes to tell apart, 2 at least.
        encoder: name in `keras.applications`.
        encoder_weights: ``imagenet``, the path of a weights file, or None for random ones; see
            `models.encoders.encoder`.
        freeze_encoder: train the decoder alone; `unfreeze` ends that.
        filters: channels of the decoder at half the image's size; each deeper level has twice as many.
        dropout: share of the encoder's features left out in training, in the two deepest levels.
        normalization: after each convolution of the decoder, see `models.blocks.convolution`.
        upsampling: how the decoder doubles the size, see `models.blocks.up` …
        joining: … and how it takes in the encoder's features.
        head_convolution: refine the features by a last 3x3 convolution before the classes are read.
        scale: pixels are multiplied by this, one factor, or one a channel …
        offset: … and this is added, so that the model takes raw pixels. Trained weights want what
            they were trained with, see `models.options.ENCODER_PIXELS`.
        name: name of the model.

    Returns:
        A model from images (N, H, W, channels), uint8 or float, 0 … 255, to logits float32 (N, H, W, C).
        Its layer ``encoder`` is the encoder.

    Raises:
        ValueError: an argument makes no network, or the weights cannot be had; the message says what to do.

    Example:
        >>> model = encoder_unet((128, 128, 3), 3, encoder="MobileNetV2", encoder_weights=None, filters=64,
        ...                      upsampling="pix2pix", head_convolution=False)
        >>> model.count_params()
        6504227
    """
    images, x = blocks.raw_images(input_shape, scale, offset)
    check_size(*input_shape[:2], encoder_stride(encoder))
    features = build_encoder(encoder, input_shape, weights=encoder_weights, frozen=freeze_encoder)(x)
    deepest = len(features)
    for index in range(deepest - blocks.DROPOUT_LEVELS, deepest):
        features[index] = blocks.dropout(features[index], dropout, name=f"encoder_{index}")

    x = features.pop()
    # Levels are numbered as in a U-Net from scratch: level 1 has the image's size.
    for level in range(5, 1, -1):
        x = blocks.up(
            x,
            features.pop() if features else None,
            filters * 2 ** (level - 2),
            upsampling=upsampling,
            joining=joining,
            normalization=normalization,
            name=f"decoder{level}",
        )
    reads_classes_doubling = upsampling == "pix2pix"
    if not reads_classes_doubling:
        filters = max(1, filters // 2)
        x = blocks.up(
            x,
            None,
            filters,
            upsampling=upsampling,
            joining=joining,
            normalization=normalization,
            name="decoder1",
        )
    if head_convolution:
        x = blocks.convolution(x, filters, normalization=normalization, name="head")
    logits = blocks.class_logits(x, num_classes, double_size=reads_classes_doubling)
    return keras.Model(images, logits, name=name)


def unfreeze(model: keras.Model) -> None:
    """Lets everything train, except that the encoder's batch normalisation stays as it is.

    It keeps its statistics and its own weights: statistics of a few small batches would undo what the
    encoder knows. Compile the model afterwards, or Keras goes on training what it trained before.

    Args:
        model: made by `encoder_unet`, or a saved and loaded one.
    """
    # Not model.trainable: under TensorFlow, setting what is set already does not reach the layers below.
    encoder = model.get_layer("encoder")
    encoder.trainable = True
    for layer in encoder.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
