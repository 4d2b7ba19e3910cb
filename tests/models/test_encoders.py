"""Encoders: which features they give, and where their weights come from."""

import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError

import keras
import numpy as np
import pytest

from models.encoders import encoder
from models.options import ENCODER_PIXELS, EncoderName, encoder_stride

ENCODERS = get_args(EncoderName)
SIDE = 64

# Finest first: name, without the number that Keras appends to names of its own choice, and channels.
EFFICIENT_NET = ["block4a_expand_activation", "block6a_expand_activation"]
FEATURES: dict[EncoderName, list[tuple[str, int]]] = {
    "MobileNetV2": [
        ("block_1_expand_relu", 96),
        ("block_3_expand_relu", 144),
        ("block_6_expand_relu", 192),
        ("block_13_expand_relu", 576),
        ("block_16_project", 320),
    ],
    "MobileNetV3Small": [
        ("activation", 16),
        ("re_lu", 72),
        ("activation", 96),
        ("activation", 288),
        ("expanded_conv_10_add", 96),
    ],
    "MobileNetV3Large": [
        ("re_lu", 64),
        ("re_lu", 72),
        ("activation", 240),
        ("activation", 672),
        ("expanded_conv_14_add", 160),
    ],
    "DenseNet121": [
        ("conv1_relu", 64),
        ("pool2_relu", 256),
        ("pool3_relu", 512),
        ("pool4_relu", 1024),
        ("relu", 1024),
    ],
    "ResNet50V2": [
        ("conv1_conv", 64),
        ("conv2_block3_1_relu", 64),
        ("conv3_block4_1_relu", 128),
        ("conv4_block6_1_relu", 256),
        ("post_relu", 2048),
    ],
    "EfficientNetV2B0": [
        ("block1a_project_activation", 16),
        ("block2b_add", 32),
        *zip(EFFICIENT_NET, (192, 672), strict=True),
        ("block6h_add", 192),
    ],
    "EfficientNetV2B1": [
        ("block1b_add", 16),
        ("block2c_add", 32),
        *zip(EFFICIENT_NET, (192, 672), strict=True),
        ("block6i_add", 192),
    ],
    "EfficientNetV2B2": [
        ("block1b_add", 16),
        ("block2c_add", 32),
        *zip(EFFICIENT_NET, (224, 720), strict=True),
        ("block6j_add", 208),
    ],
    "EfficientNetV2B3": [
        ("block1b_add", 16),
        ("block2c_add", 40),
        *zip(EFFICIENT_NET, (224, 816), strict=True),
        ("block6l_add", 232),
    ],
    "ConvNeXtTiny": [("add", 96), ("add", 192), ("add", 384), ("add", 768)],
}


@cache
def built(name: EncoderName) -> keras.Model:
    return encoder(name, (SIDE, SIDE, 3), weights=None)


def features_of(model: keras.Model) -> list[tuple[str, int]]:
    """The names of the layers whose outputs a model gives, and their channels."""
    return [
        (
            re.sub(r"^(activation|re_lu|add)_\d+$", r"\1", output._keras_history.operation.name),
            output.shape[-1],
        )
        for output in model.outputs
    ]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_best_features_of_each_size_are_found(name: EncoderName) -> None:
    assert features_of(built(name)) == FEATURES[name]


@pytest.mark.parametrize("name", ENCODERS)
def test_features_halve_in_size_down_to_the_stride(name: EncoderName) -> None:
    sides = [output.shape[1] for output in built(name).outputs]
    assert sides == [32, 16, 8, 4, 2][-len(sides) :]
    assert SIDE // sides[-1] == encoder_stride(name)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny"])
@pytest.mark.parametrize("size", [(32, 160), (None, None)])
def test_the_same_features_are_found_whatever_the_size(
    name: EncoderName, size: tuple[int | None, int | None]
) -> None:
    model = encoder(name, (*size, 3), weights=None)
    assert features_of(model) == FEATURES[name]
    height, width = (side or 64 for side in size)
    features = model(np.zeros((1, height, width, 3), np.float32))
    expected = [(height // step, width // step) for step in (2, 4, 8, 16, 32)]
    assert [each.shape[1:3] for each in features] == expected[-len(features) :]


@pytest.mark.parametrize(
    "name",
    ["MobileNetV2", "MobileNetV3Small", "DenseNet121", "ResNet50V2", "EfficientNetV2B0", "ConvNeXtTiny"],
)
def test_the_table_of_pixel_normalisations_agrees_with_keras(name: EncoderName) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    build = getattr(keras.applications, name)
    relatives = [
        each
        for each in ENCODERS
        if inspect.getmodule(getattr(keras.applications, each)) is inspect.getmodule(build)
    ]
    assert len({ENCODER_PIXELS[each] for each in relatives}) == 1
    if "include_preprocessing" in inspect.signature(build).parameters:
        model = build(include_top=False, weights=None, input_shape=(32, 32, 3))
        kinds = (keras.layers.Rescaling, keras.layers.Normalization)
        last = [layer for layer in model.layers if isinstance(layer, kinds)][-1]
        theirs = keras.ops.convert_to_numpy(keras.Model(model.input, last.output)(pixels))
    else:
        module = inspect.getmodule(build)
        assert module is not None
        theirs = module.preprocess_input(pixels.copy())
    ours = {
        "signed": pixels / 127.5 - 1,
        "imagenet": (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    }
    np.testing.assert_allclose(theirs, ours[ENCODER_PIXELS[name]], rtol=1e-4, atol=1e-5)


def test_no_preprocessing_of_keras_comes_before_the_recipes_own() -> None:
    for name in ENCODERS:
        kinds = {type(layer).__name__ for layer in built(name).layers}
        assert not kinds & {"Rescaling", "Normalization"}, name


def test_a_frozen_encoder_has_nothing_to_train() -> None:
    model = encoder("MobileNetV3Small", (32, 32, 3), weights=None, frozen=True)
    assert not model.trainable_weights
    assert model.non_trainable_weights


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("MobileNetV2", ".weights.h5"),
        ("MobileNetV2", ".h5"),
        ("MobileNetV2", ".keras"),
        ("ConvNeXtTiny", ".weights.h5"),
    ],
)
def test_weights_saved_by_keras_are_loaded_by_their_path(
    name: EncoderName, suffix: str, tmp_path: Path
) -> None:
    source, path = saved(name, tmp_path, suffix)
    model = encoder(name, (32, 32, 3), weights=str(path))
    assert_same_features(model, source)


def test_imagenet_weights_go_through_keras_own_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = saved("MobileNetV2", tmp_path, ".weights.h5", side=128)
    asked = []

    def get_file(name: str, url: str, **_: Any) -> str:
        asked.append(url)
        return str(path)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    model = encoder("MobileNetV2", (128, 128, 3), weights="imagenet")
    assert_same_features(model, source)
    # Keras has weights for several sizes; those of the images' own are the right ones.
    assert asked[0].startswith("https://") and asked[0].endswith("1.0_128_no_top.h5")


def test_a_failed_download_says_to_give_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(
        ValueError, match=r"no route to host.*put its path in model\.encoder_weights"
    ) as error:
        encoder("MobileNetV2", (32, 32, 3), weights="imagenet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "file_name"),
    [(None, "none.h5"), (b"not a file of weights", "text.h5"), (b"PK", "text.keras"), (b"", "x.ckpt")],
)
def test_a_missing_or_broken_file_is_one_clear_line(
    content: bytes | None, file_name: str, tmp_path: Path
) -> None:
    path = tmp_path / file_name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file_name}.*MobileNetV3Small.*include_top=False") as error:
        encoder("MobileNetV3Small", (32, 32, 3), weights=str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_the_weights_of_another_network_are_refused(suffix: str, tmp_path: Path) -> None:
    _, path = saved("MobileNetV3Small", tmp_path, suffix)
    with pytest.raises(ValueError, match="does not fit MobileNetV2") as error:
        encoder("MobileNetV2", (32, 32, 3), weights=str(path))
    assert "\n" not in str(error.value)


def test_grey_images_start_at_random_only() -> None:
    assert encoder("MobileNetV3Small", (32, 32, 1), weights=None).input.shape[-1] == 1
    with pytest.raises(ValueError, match=r"1 channels.*encoder_weights to null"):
        encoder("MobileNetV3Small", (32, 32, 1), weights="imagenet")


def test_an_unknown_encoder_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"choose one of MobileNetV2, .*ConvNeXtTiny"):
        encoder("VGG16", (32, 32, 3), weights=None)  # type: ignore[arg-type]


def saved(name: EncoderName, folder: Path, suffix: str, side: int = 32) -> tuple[keras.Model, Path]:
    """Saves an application of Keras with random weights; returns it as Keras builds it, and the file."""
    model = application(name, side)
    path = folder / f"saved{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
    else:
        model.save(path)
    return model, path


@cache
def application(name: EncoderName, side: int) -> keras.Model:
    build = getattr(keras.applications, name)
    options: dict[str, Any] = {"include_top": False, "weights": None, "input_shape": (side, side, 3)}
    if "include_preprocessing" in inspect.signature(build).parameters:
        options["include_preprocessing"] = False
    model = build(**options)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:  # kernels are random; offsets, scales and statistics still alike
            weight.assign_add(rng.uniform(0.01, 0.1, weight.shape))
    return model


def assert_same_features(model: keras.Model, source: keras.Model) -> None:
    def by_path(network: keras.Model) -> dict[str, np.ndarray]:
        # A few weights have a number instead of a name.
        return {
            re.sub(r"variable_\d+$", "variable", weight.path): weight.numpy() for weight in network.weights
        }

    expected = by_path(source)
    for path, values in by_path(model).items():
        np.testing.assert_array_equal(values, expected[path], err_msg=path)
    names = [name for name, _ in features_of(model)]
    if "add" not in names:  # sums by the operator + have no layer to ask
        images = np.random.default_rng(1).normal(size=(1, *model.input.shape[1:3], 3)).astype(np.float32)
        theirs = keras.Model(source.input, [source.get_layer(name).output for name in names])(images)
        for ours, other in zip(model(images), theirs, strict=True):
            np.testing.assert_array_equal(ours, other)
