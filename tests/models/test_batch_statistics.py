"""Batch normalisation's statistics over a population, against NumPy."""

import keras
import numpy as np
import pytest

from models.batch_statistics import batch_moments, normalizing_layers, set_population_statistics
from models.encoder_unet import encoder_unet, unfreeze
from models.options import Normalization
from models.unet import unet


def images(count: int, size: int = 8) -> np.ndarray:
    """Of different brightness, so that the means of batches differ."""
    rng = np.random.default_rng(count)
    return (rng.random((count, size, size, 3)) * rng.random((count, 1, 1, 1)) * 255).astype(np.uint8)


def take(model: keras.Model, batches: list[np.ndarray]) -> None:
    set_population_statistics(model, [batch_moments(model, batch) for batch in batches])


@pytest.mark.parametrize("count", [1, 6])
def test_the_first_layer_has_the_mean_and_variance_of_all_its_pixels(count: int) -> None:
    model = unet((8, 8, 3), 2, filters=4, depth=2, normalization="batch")
    pixels = images(count)
    take(model, np.split(pixels, max(1, count // 2)))
    before = keras.Model(model.input, model.get_layer("encoder1_1_conv").output)
    features = before.predict(pixels, verbose=0).astype(np.float64)
    layer = model.get_layer("encoder1_1_norm")
    np.testing.assert_allclose(layer.moving_mean, features.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, features.var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_of_one_batch_inference_gives_what_training_gives_without_dropout(policy: str) -> None:
    """In every layer, then: each is normalised by its own moments on the way."""
    keras.config.set_dtype_policy(policy)
    try:
        networks = [
            unet((8, 8, 3), 2, filters=4, depth=2, normalization="batch", dropout=dropout)
            for dropout in (0.5, 0.0)
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    model, undropped = networks
    undropped.set_weights([weights for weights in model.get_weights() if weights.dtype == np.float32])
    pixels = images(5)
    take(model, [pixels])
    expected = undropped(pixels, training=True)
    np.testing.assert_allclose(
        model(pixels, training=False), expected, atol=1e-4 if policy == "float32" else 0.1
    )
    assert model.get_layer("encoder1_dropout").rate == 0.5
    assert {layer.momentum for layer in normalizing_layers(model)} == {
        layer.momentum for layer in normalizing_layers(undropped)
    }


def test_nothing_is_left_of_earlier_statistics() -> None:
    model = unet((8, 8, 3), 2, filters=4, depth=2, normalization="batch")
    pixels = images(4)
    take(model, [pixels])
    once = model.get_weights()
    for layer in normalizing_layers(model):
        layer.moving_mean.assign(np.full(layer.moving_mean.shape, np.nan))
    take(model, [pixels])
    for again, weights in zip(model.get_weights(), once, strict=True):
        np.testing.assert_array_equal(again, weights)


def test_a_frozen_encoder_keeps_its_statistics_in_both_phases() -> None:
    model = encoder_unet(
        (32, 32, 3),
        2,
        encoder="MobileNetV2",
        encoder_weights=None,
        freeze_encoder=True,
        filters=4,
        normalization="batch",
    )
    encoder = model.get_layer("encoder")
    kept = encoder.get_weights()
    decoder = model.get_layer("decoder2_1_norm")
    for thaw in (False, True):
        if thaw:
            unfreeze(model)
        decoder.moving_mean.assign(np.zeros(decoder.moving_mean.shape))
        take(model, [images(2, 32)])
        for now, before in zip(encoder.get_weights(), kept, strict=True):
            np.testing.assert_array_equal(now, before)
        assert np.any(np.asarray(decoder.moving_mean) != 0)


def test_an_encoder_that_trains_takes_part() -> None:
    model = encoder_unet(
        (32, 32, 3), 2, encoder="MobileNetV2", encoder_weights=None, filters=4, normalization="group"
    )
    pixels = images(2, 32)
    take(model, [pixels])
    np.testing.assert_allclose(model(pixels, training=False), model(pixels, training=True), atol=1e-3)


@pytest.mark.parametrize("normalization", ["none", "group"])
def test_other_normalisations_have_no_statistics(normalization: Normalization) -> None:
    model = unet((8, 8, 3), 2, filters=4, depth=2, normalization=normalization)
    assert normalizing_layers(model) == []
