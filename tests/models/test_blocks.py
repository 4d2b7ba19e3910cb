"""The blocks of which the networks are made."""

from typing import Any

import keras
import numpy as np
import pytest

from models import blocks
from models.options import Joining, Normalization, Upsampling


def layers_of(output: keras.KerasTensor, source: keras.KerasTensor) -> dict[str, keras.Layer]:
    return {layer.name: layer for layer in keras.Model(source, output).layers}


def test_group_normalization_depends_on_no_other_image_and_trains_on_a_batch_of_one() -> None:
    images = keras.Input((4, 4, 3))
    block = keras.Model(images, blocks.convolution(images, 32, normalization="group", name="block"))
    pixels = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    together = keras.ops.convert_to_numpy(block(pixels, training=True))
    for index in range(3):
        alone = block(pixels[index : index + 1], training=True)
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-4, atol=1e-5)


def test_group_normalization_is_zero_mean_and_unit_variance_in_groups_of_sixteen_channels() -> None:
    features = np.random.default_rng(0).normal(3.0, 2.0, (2, 5, 4, 32)).astype(np.float32)
    source = keras.Input((5, 4, 32))
    model = keras.Model(source, blocks.normalize(source, "group", name="norm"))
    groups = features.reshape(2, 5, 4, 2, 16)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    expected = (groups - mean) / np.sqrt(groups.var(axis=(1, 2, 4), keepdims=True) + 1e-3)
    np.testing.assert_allclose(model(features), expected.reshape(features.shape), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 8, 24, 50])
def test_group_normalization_takes_any_number_of_channels(channels: int) -> None:
    source = keras.Input((2, 2, channels))
    assert blocks.normalize(source, "group", name="norm").shape == (None, 2, 2, channels)


@pytest.mark.parametrize(("normalization", "biased"), [("none", True), ("batch", False), ("group", False)])
def test_a_normalised_convolution_has_no_bias(normalization: Normalization, biased: bool) -> None:
    images = keras.Input((4, 4, 3))
    layers = layers_of(blocks.convolution(images, 2, normalization=normalization, name="a"), images)
    assert layers["a_conv"].use_bias is biased
    assert ("a_norm" in layers) is not biased


@pytest.mark.parametrize("joining", ["concatenate", "add"])
@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear", "pix2pix"])
def test_a_level_up_doubles_the_size_with_and_without_a_skip(
    upsampling: Upsampling, joining: Joining
) -> None:
    deep, skip = keras.Input((3, 1, 7)), keras.Input((6, 2, 5))
    options: Any = {"upsampling": upsampling, "joining": joining, "normalization": "none"}
    both = blocks.up(deep, skip, 4, **options, name="both")
    leaves_them_joined = upsampling == "pix2pix" and joining == "concatenate"
    assert both.shape == (None, 6, 2, 4 + 5 if leaves_them_joined else 4)
    assert blocks.up(deep, None, 4, **options, name="alone").shape == (None, 6, 2, 4)


def test_features_of_as_many_channels_are_added_as_they_are() -> None:
    deep, skip = keras.Input((3, 1, 4)), keras.Input((6, 2, 4))
    joined = blocks.up(
        deep, skip, 4, upsampling="pix2pix", joining="add", normalization="none", name="joined"
    )
    model = keras.Model([deep, skip], joined)
    upsampled = keras.Model(deep, model.get_layer("joined_upsample_relu").output)
    random = np.random.default_rng(0)
    arrays = [random.random((1, *source.shape[1:]), np.float32) for source in (deep, skip)]
    np.testing.assert_allclose(model(arrays), upsampled(arrays[0]) + arrays[1], rtol=1e-6)


def test_pix2pix_is_a_transposed_convolution_without_bias_batch_normalised_and_rectified() -> None:
    deep, skip = keras.Input((4, 4, 64)), keras.Input((8, 8, 5))
    output = blocks.up(
        deep, skip, 64, upsampling="pix2pix", joining="concatenate", normalization="none", name="up"
    )
    model = keras.Model([deep, skip], output)
    kinds = [type(layer).__name__ for layer in model.layers if layer.name.startswith("up_")]
    assert kinds == ["Conv2DTranspose", "BatchNormalization", "ReLU", "Concatenate"]
    assert model.count_params() == 3 * 3 * 64 * 64 + 4 * 64
    kernel = keras.ops.convert_to_numpy(model.get_layer("up_upsample").kernel)
    assert kernel.std() == pytest.approx(0.02, rel=0.05)
    assert kernel.mean() == pytest.approx(0.0, abs=0.001)


def test_resizing_repeats_each_pixel_before_it_convolves() -> None:
    deep = keras.Input((1, 2, 1))
    output = blocks.up(
        deep, None, 1, upsampling="resize", joining="concatenate", normalization="none", name="up"
    )
    model = keras.Model(deep, output)
    resized = keras.Model(deep, model.get_layer("up_upsample").output)(np.array([[[[1.0], [2.0]]]]))
    np.testing.assert_array_equal(resized[0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2]])
    assert model.get_layer("up_upsample_conv").kernel.shape == (2, 2, 1, 1)


def test_without_a_rate_there_is_no_dropout() -> None:
    source = keras.Input((2, 2, 1))
    assert blocks.dropout(source, 0.0, name="a") is source


def test_an_unknown_way_up_is_refused_with_the_choices() -> None:
    deep = keras.Input((1, 1, 1))
    with pytest.raises(ValueError, match="choose one of transposed, resize, bilinear, pix2pix"):
        blocks.up(
            deep,
            None,
            1,
            upsampling="nearest",  # type: ignore[arg-type]
            joining="add",
            normalization="none",
            name="up",
        )
