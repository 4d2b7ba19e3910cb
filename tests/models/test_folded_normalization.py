"""Networks whose batch normalisation is in their convolutions, against the same as they were trained."""

from typing import Any, get_args

import keras
import numpy as np
import pytest
from keras import layers

from models.encoder_unet import encoder_unet
from models.folded_normalization import fold_batch_normalization
from models.options import EncoderName, Upsampling
from models.unet import unet


def norms(network: keras.Model) -> list[layers.BatchNormalization]:
    return [
        layer
        for layer in network._flatten_layers(include_self=False)
        if isinstance(layer, layers.BatchNormalization)
    ]


def trained(network: keras.Model) -> keras.Model:
    """As if it had been: no weight is what it begins with."""
    random = np.random.default_rng(0)
    for layer in norms(network):
        for variable in layer.weights:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return network


def assert_the_same(network: keras.Model, folded: keras.Model, size: int = 32) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    expected, answers = (np.asarray(model(images, training=False)) for model in (network, folded))
    np.testing.assert_allclose(answers, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
def test_a_unet_answers_the_same_without_any_normalisation(upsampling: Upsampling) -> None:
    options: dict[str, Any] = {"filters": 4, "depth": 3, "normalization": "batch", "strided_stem": True}
    network = trained(unet((32, 32, 3), 3, upsampling=upsampling, **options))
    before = [layer.copy() for layer in network.get_weights()]
    folded = fold_batch_normalization(network)
    assert norms(network) and not norms(folded)
    assert_the_same(network, folded)
    for weights, kept in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)


@pytest.mark.parametrize(
    ("encoder", "left"), [("MobileNetV3Small", 0), ("DenseNet121", 62), ("ConvNeXtTiny", 0)]
)
def test_an_encoder_keeps_only_what_normalises_joined_features(encoder: EncoderName, left: int) -> None:
    options: dict[str, Any] = {"encoder_weights": None, "filters": 2, "upsampling": "pix2pix"}
    network = trained(encoder_unet((32, 32, 3), 3, encoder=encoder, **options))
    folded = fold_batch_normalization(network)
    assert len(norms(folded)) == left
    assert_the_same(network, folded)


def built(body: Any) -> keras.Model:
    images = keras.Input((8, 8, 3))
    return trained(keras.Model(images, body(images)))


def normalised(x: Any, **options: Any) -> Any:
    return layers.BatchNormalization(**options)(x)


def needed_twice(x: Any) -> Any:
    x = layers.Conv2D(4, 3)(x)
    return layers.Add()([x, normalised(x)])


def given_out(x: Any) -> Any:
    x = layers.Conv2D(4, 3)(x)
    return [x, normalised(x)]


def seen_by_a_network(x: Any) -> Any:
    x = layers.Conv2D(4, 3)(x)
    inner = keras.Input(x.shape[1:])
    return layers.Add()([keras.Model(inner, layers.ReLU()(inner))(x), normalised(x)])


def used_twice(x: Any) -> Any:
    convolution = layers.Conv2D(4, 3)
    return layers.Add()([convolution(x), normalised(convolution(x))])


def norm_used_twice(x: Any) -> Any:
    norm = layers.BatchNormalization()
    return layers.Add()([norm(layers.Conv2D(4, 3)(x)), norm(layers.Conv2D(4, 3)(x))])


def with_an_activation(x: Any) -> Any:
    return normalised(layers.Conv2D(4, 3, activation="relu")(x))


def first_of_all(x: Any) -> Any:
    return keras.Sequential([layers.BatchNormalization(), layers.Conv2D(4, 3)])(x)


def over_rows(x: Any) -> Any:
    return normalised(layers.Conv2D(4, 3)(x), axis=1)


@pytest.mark.parametrize(
    "body",
    [
        *(needed_twice, given_out, seen_by_a_network, used_twice, norm_used_twice),
        *(with_an_activation, over_rows, first_of_all),
    ],
)
def test_a_normalisation_that_no_convolution_can_take_over_stays(body: Any) -> None:
    network = built(body)
    folded = fold_batch_normalization(network)
    assert len(norms(folded)) == 1
    images = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
    pairs = zip(*(keras.tree.flatten(model(images)) for model in (network, folded)), strict=True)
    for expected, answer in pairs:
        np.testing.assert_allclose(np.asarray(answer), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"epsilon": 0.3}], ids=str)
@pytest.mark.parametrize(
    "convolution",
    [
        layers.Conv2D(4, 3, groups=2, use_bias=False),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.Conv2DTranspose(3, 2, strides=2, bias_initializer="ones"),
    ],
    ids=lambda layer: layer.name,
)
def test_every_kind_of_convolution_takes_over_every_kind_of_normalisation(
    convolution: Any, options: dict[str, Any]
) -> None:
    # A layer of its own for each: it may be called once.
    fresh = convolution.__class__.from_config(convolution.get_config())
    images = keras.Input((8, 8, 4))
    network = trained(keras.Model(images, normalised(fresh(images), **options)))
    folded = fold_batch_normalization(network)
    assert not norms(folded)
    pictures = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 4)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(folded(pictures)), np.asarray(network(pictures)), rtol=1e-5, atol=1e-5
    )
