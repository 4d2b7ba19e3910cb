"""The U-Net on an encoder: its size, its shapes, what trains, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.encoder_unet import encoder_unet, unfreeze
from models.options import EncoderName, Upsampling


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def tiny(**arguments: Any) -> keras.Model:
    options: dict[str, Any] = {
        "encoder": "MobileNetV3Small",
        "encoder_weights": None,
        "filters": 4,
        "upsampling": "pix2pix",
        "head_convolution": False,
    }
    input_shape = arguments.pop("input_shape", (32, 64, 3))
    return encoder_unet(input_shape, 2, **(options | arguments))


def train_a_step(model: keras.Model) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *model.input.shape[1:])).astype(np.float32)
    model.train_on_batch(images, rng.integers(0, 2, images.shape[:3]))


def values(layer: keras.Layer) -> dict[str, np.ndarray]:
    return {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in layer.weights}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.mark.parametrize("encoder", ["MobileNetV3Small", "ConvNeXtTiny"])
@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear", "pix2pix"])
def test_logits_have_the_size_of_the_image_whether_or_not_the_encoder_has_half_of_it(
    encoder: EncoderName, upsampling: Upsampling
) -> None:
    model = tiny(encoder=encoder, upsampling=upsampling, input_shape=(None, None, 3), head_convolution=True)
    for height, width in ((32, 96), (160, 32)):
        logits = model(np.zeros((1, height, width, 3), np.uint8))
        assert logits.shape == (1, height, width, 2)
        assert logits.dtype == "float32"


def test_features_of_the_encoder_may_be_added_instead() -> None:
    models = [tiny(joining=joining, upsampling="bilinear") for joining in ("concatenate", "add")]
    added = [layer.name for layer in models[1].layers if isinstance(layer, keras.layers.Add)]
    assert added == [f"decoder{level}_add" for level in (5, 4, 3, 2)]
    assert models[1].output.shape == models[0].output.shape


def test_the_decoder_doubles_its_channels_with_every_deeper_level() -> None:
    model = tiny(upsampling="transposed", filters=8)
    channels = [model.get_layer(f"decoder{level}_upsample").filters for level in (5, 4, 3, 2, 1)]
    assert channels == [64, 32, 16, 8, 4]


def test_the_head_convolution_comes_right_before_the_classes() -> None:
    for upsampling in ("resize", "pix2pix"):
        model = tiny(upsampling=upsampling, head_convolution=True)
        assert model.get_layer("logits").input is model.get_layer("head_relu").output


def test_dropout_follows_the_encoders_two_deepest_levels_only() -> None:
    model = tiny(dropout=0.5)
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert {layer.output.shape[1:3] for layer in drops} == {(2, 4), (1, 2)}
    assert len(drops) == 2


def test_raw_pixels_are_normalised_before_the_encoder_sees_them() -> None:
    model = tiny(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
    pixels = np.full((1, 32, 64, 3), 255, np.uint8)
    normalised = keras.Model(model.input, model.get_layer("normalization").output)(pixels)
    np.testing.assert_allclose(normalised, np.ones((1, 32, 64, 3)), rtol=1e-6)
    assert model.get_layer("encoder").input.shape == model.get_layer("normalization").output.shape


def test_any_number_of_channels_is_taken_from_scratch_and_three_with_trained_weights() -> None:
    assert tiny(input_shape=(32, 32, 1), scale=(0.1,), offset=(0.0,)).output.shape[1:] == (32, 32, 2)
    with pytest.raises(ValueError, match=r"1 channels.*for 3"):
        tiny(input_shape=(32, 32, 1), encoder_weights="imagenet")


def test_a_frozen_encoder_is_unchanged_by_training_and_the_decoder_is_not() -> None:
    model = tiny(freeze_encoder=True)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder5_upsample")
    encoder_before, decoder_before = values(encoder), values(decoder)
    train_a_step(model)
    assert not changed(encoder_before, values(encoder))
    assert changed(decoder_before, values(decoder))


def test_an_encoder_that_is_not_frozen_trains_and_gathers_statistics() -> None:
    model = tiny()
    encoder = model.get_layer("encoder")
    before = values(encoder)
    train_a_step(model)
    moved = changed(before, values(encoder))
    assert any(path.endswith("kernel") for path in moved)
    assert any(path.endswith("moving_mean") for path in moved)


def test_unfreezing_trains_everything_but_the_encoders_batch_normalisation() -> None:
    model = tiny(freeze_encoder=True)
    unfreeze(model)
    encoder = model.get_layer("encoder")
    norms = {
        weight.path
        for layer in encoder.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for weight in layer.weights
    }
    assert norms
    assert {weight.path for weight in encoder.trainable_weights} == values(encoder).keys() - norms
    before, decoder_before = values(encoder), values(model.get_layer("decoder5_upsample_norm"))
    train_a_step(model)
    moved = changed(before, values(encoder))
    assert moved and not moved & norms
    decoder_moved = changed(decoder_before, values(model.get_layer("decoder5_upsample_norm")))
    assert any(path.endswith("moving_mean") for path in decoder_moved)


def test_weights_move_between_models_whether_frozen_or_not(tmp_path: Path) -> None:
    frozen, trained = tiny(freeze_encoder=True), tiny(freeze_encoder=True)
    unfreeze(trained)
    train_a_step(trained)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3)).astype(np.uint8)
    frozen.set_weights(trained.get_weights())
    np.testing.assert_array_equal(frozen(images), trained(images))
    train_a_step(trained)
    trained.save_weights(tmp_path / "all.weights.h5")
    frozen.load_weights(tmp_path / "all.weights.h5")
    np.testing.assert_array_equal(frozen(images), trained(images))
    assert not frozen.get_layer("encoder").trainable_weights


@pytest.mark.parametrize("encoder", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_a_saved_model_predicts_the_same_after_loading_and_can_be_unfrozen(
    encoder: EncoderName, tmp_path: Path
) -> None:
    model = tiny(encoder=encoder, freeze_encoder=True, normalization="group", upsampling="resize")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3)).astype(np.uint8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert not loaded.get_layer("encoder").trainable_weights
    unfreeze(loaded)
    assert loaded.get_layer("encoder").trainable_weights


@pytest.mark.parametrize("upsampling", ["transposed", "pix2pix"])
def test_mixed_precision_leaves_normalisation_and_logits_in_float32(
    upsampling: Upsampling, mixed_precision: None
) -> None:
    model = tiny(upsampling=upsampling)
    outputs = keras.Model(model.input, [model.get_layer("normalization").output, model.output])
    normalised, logits = outputs(np.full((1, 32, 64, 3), 200.7, np.float32))
    np.testing.assert_array_equal(
        normalised, np.full((1, 32, 64, 3), 200.7, np.float32) * np.float32(1 / 255)
    )
    assert normalised.dtype == logits.dtype == "float32"
    assert model.get_layer("encoder").get_layer("conv").compute_dtype == "bfloat16"
    assert model.get_layer("decoder5_upsample").compute_dtype == "bfloat16"
    train_a_step(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (100, 96, 3)}, "height 100 is not divisible by 32.*take 96 or 128"),
        ({"input_shape": (96, 16, 3)}, "width 16 is not divisible by 32.*take 32"),
        ({"input_shape": (96, 96)}, r"give \(height, width, channels\)"),
        ({"encoder": "VGG16"}, "encoder 'VGG16' is unknown; choose one of MobileNetV2"),
        ({"encoder_weights": "/none.weights.h5"}, "/none.weights.h5.*no such file"),
        ({"upsampling": "nearest"}, "choose one of transposed, resize, bilinear, pix2pix"),
        ({"dropout": 1.0}, "below 1"),
        ({"scale": (1.0,)}, "scale has 1 values; give 3"),
    ],
)
def test_impossible_arguments_are_refused_with_the_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_one_network_takes_images_of_any_size_that_its_stride_divides() -> None:
    fixed, model = (tiny(input_shape=(*size, 3)) for size in ((32, 64), (None, None)))
    model.set_weights(fixed.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images), fixed(images), rtol=1e-3, atol=1e-4)
    assert model(images[:, :, :32]).shape == (1, 32, 32, 2)
