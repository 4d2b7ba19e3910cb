"""The U-Net: its size, its shapes, and what it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.options import Normalization, Upsampling, check_size, stride
from models.unet import unet


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def test_the_tutorials_network_has_its_number_of_parameters() -> None:
    assert unet((256, 256, 3), num_classes=3, filters=32, depth=5).count_params() == 8_639_811


def test_the_street_scene_network_has_its_number_of_parameters() -> None:
    model = unet(
        (256, 256, 3),
        num_classes=20,
        filters=64,
        depth=4,
        dropout=0.5,
        upsampling="resize",
        head_convolution=False,
    )
    assert model.count_params() == 7_698_580


@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear", "pix2pix"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_way_up_and_any_number_of_channels_give_logits_of_the_images_size(
    upsampling: Upsampling, channels: int
) -> None:
    model = unet((None, 20, channels), 2, filters=3, depth=3, upsampling=upsampling, head_convolution=False)
    assert model(np.zeros((1, 12, 20, channels), np.uint8)).shape == (1, 12, 20, 2)


@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear", "pix2pix"])
def test_a_strided_stem_starts_at_half_the_size_and_ends_at_the_full_one(upsampling: Upsampling) -> None:
    model = unet((None, 24, 3), 2, filters=3, depth=3, upsampling=upsampling, strided_stem=True)
    assert model(np.zeros((1, 16, 24, 3), np.uint8)).shape == (1, 16, 24, 2)
    finest = keras.Model(model.input, model.get_layer("encoder1_2_relu").output)
    assert finest(np.zeros((1, 16, 24, 3), np.uint8)).shape == (1, 8, 12, 3)


def test_every_pixel_reaches_through_a_strided_stem() -> None:
    keras.utils.set_random_seed(0)
    model = unet((8, 8, 1), 2, filters=4, depth=1, strided_stem=True, head_convolution=False)
    black = np.zeros((1, 8, 8, 1), np.uint8)
    for row, column in np.ndindex(8, 8):
        dotted = black.copy()
        dotted[0, row, column] = 255
        assert np.any(model(dotted) != model(black))


def test_added_features_make_the_next_convolution_see_half() -> None:
    concatenated, added = (
        unet((8, 8, 3), 2, filters=4, depth=2, joining=joining, head_convolution=False)
        for joining in ("concatenate", "add")
    )
    assert concatenated.count_params() - added.count_params() == 3 * 3 * 4 * 4
    assert added(np.zeros((1, 8, 8, 3))).shape == (1, 8, 8, 2)


def test_logits_have_the_size_of_the_image_and_one_channel_a_class() -> None:
    model = unet((None, None, 3), num_classes=4, filters=2, depth=3)
    for height, width in ((4, 12), (32, 16)):
        logits = model(np.zeros((2, height, width, 3), np.uint8))
        assert logits.shape == (2, height, width, 4)
        assert logits.dtype == "float32"


def test_one_level_is_a_plain_stack_of_convolutions() -> None:
    assert unet((7, 5, 3), num_classes=2, filters=2, depth=1)(np.zeros((1, 7, 5, 3))).shape == (1, 7, 5, 2)


def test_raw_pixels_are_normalised_by_the_first_layer() -> None:
    scale, offset = (1 / 255, 2 / 255, 0.5), (0.0, -1.0, 3.0)
    model = unet((4, 4, 3), num_classes=2, filters=2, depth=2, scale=scale, offset=offset)
    first = keras.Model(model.input, model.get_layer("normalization").output)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    expected = pixels.astype(np.float32) * np.float32(scale) + np.float32(offset)
    np.testing.assert_array_equal(first(pixels), expected)
    np.testing.assert_array_equal(first(pixels.astype(np.float32)), expected)


def test_mixed_precision_leaves_normalisation_and_logits_in_float32(mixed_precision: None) -> None:
    model = unet((4, 4, 3), num_classes=2, filters=2, depth=2)
    first = keras.Model(model.input, [model.get_layer("normalization").output, model.output])
    pixels = np.full((1, 4, 4, 3), 200.7, np.float32)
    normalised, logits = first(pixels)
    np.testing.assert_array_equal(normalised, pixels * np.float32(1 / 255))
    assert normalised.dtype == logits.dtype == "float32"
    assert model.get_layer("encoder1_1_conv").compute_dtype == "bfloat16"


@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear", "pix2pix"])
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA compiles TensorFlow's steps")
def test_every_way_up_trains_compiled_in_half_precision(
    upsampling: Upsampling, mixed_precision: None
) -> None:
    # As on a GPU, where that is the default; XLA checks formats before it asks for a device.
    model = unet((8, 8, 3), 2, filters=2, depth=2, upsampling=upsampling, head_convolution=False)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    loss = model.train_on_batch(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.uint8))
    assert np.isfinite(loss)


def test_dropout_follows_the_two_deepest_levels_only() -> None:
    names = [layer.name for layer in unet((16, 16, 3), 2, filters=2, depth=4, dropout=0.2).layers]
    assert [name for name in names if "dropout" in name] == ["encoder3_dropout", "encoder4_dropout"]


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_normalization_replaces_the_biases(normalization: Normalization) -> None:
    model = unet((8, 8, 3), 2, filters=2, depth=2, normalization=normalization)
    convolutions = [layer for layer in model.layers if layer.name.endswith("_conv")]
    norms = [layer for layer in model.layers if layer.name.endswith("_norm")]
    assert len(convolutions) == len(norms) == 7
    assert not any(layer.use_bias for layer in convolutions)


def test_a_saved_model_predicts_the_same_after_loading(tmp_path: Path) -> None:
    model = unet((8, 8, 3), 3, filters=2, depth=2, normalization="batch")
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (100, 96, 3)}, "height 100 is not divisible by 16.*take 96 or 112"),
        ({"input_shape": (96, 8, 3)}, "width 8 is not divisible by 16.*take 16"),
        ({"input_shape": (96, 96)}, r"give \(height, width, channels\)"),
        ({"input_shape": (96, 96, None)}, r"give \(height, width, channels\)"),
        ({"num_classes": 1}, "at least 2"),
        ({"filters": 0}, "at least 1"),
        ({"depth": 0}, "at least 1 level"),
        ({"dropout": 1.0}, "below 1"),
        ({"scale": (1.0,)}, "scale has 1 values; give 3"),
        ({"offset": (0.0,) * 4}, "offset has 4 values; give 3"),
        ({"normalization": "layer"}, "choose one of none, batch, group"),
        ({"joining": "multiply"}, "choose one of concatenate, add"),
        ({"input_shape": (96, 16, 3), "strided_stem": True}, "width 16 is not divisible by 32.*take 32"),
        ({"upsampling": "nearest"}, "choose one of transposed, resize, bilinear, pix2pix"),
    ],
)
def test_impossible_arguments_are_refused_with_the_remedy(arguments: dict[str, Any], message: str) -> None:
    possible: dict[str, Any] = {"input_shape": (96, 96, 3), "num_classes": 2, "filters": 2, "depth": 5}
    with pytest.raises(ValueError, match=message):
        unet(**(possible | arguments))


def test_stride_doubles_with_every_level_and_needs_no_keras() -> None:
    assert [stride(depth) for depth in (1, 2, 5)] == [1, 2, 16]
    code = "import sys, models.options; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sizes_are_checked_for_any_stride_and_none_is_any_size() -> None:
    check_size(None, 64, 32)
    with pytest.raises(ValueError, match=r"width 80 is not divisible by 32.*take 64 or 96"):
        check_size(None, 80, 32)


def test_each_level_may_have_filters_of_its_own() -> None:
    model = unet((16, 16, 3), 2, filters=[2, 8, 4], depth=3)
    widths = [model.get_layer(f"encoder{level}_2_conv").filters for level in (1, 2, 3)]
    assert widths == [2, 8, 4]
    assert model.get_layer("decoder2_2_conv").filters == 8
    doubled = unet((16, 16, 3), 2, filters=4, depth=3)
    same = unet((16, 16, 3), 2, filters=[4, 8, 16], depth=3)
    assert doubled.count_params() == same.count_params()


def test_filters_for_other_levels_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="filters has 2 values for a depth of 3; give one a level"):
        unet((16, 16, 3), 2, filters=[2, 4], depth=3)
