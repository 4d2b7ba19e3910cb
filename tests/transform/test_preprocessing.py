"""The transform graph: constants learnt from the training split, and pixels."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from conftest import Pair, RunTransform, TransformRun, disc_pair, png_bytes
from pydantic_core import to_json

from components.dataset import features, transformed
from components.imaging.decode import decode_image
from components.imaging.reading import InputSize, Reading
from components.imaging.resize import resize_image, resize_mask
from components.trainer.decoding import materialized_pairs, raw_pairs, read_constants
from components.transform.config import TransformConfig
from components.transform.preprocessing import preprocessing_fn

SIZE = InputSize(16, 24, "letterbox")
SCALED = InputSize(16, 24, "native", scale=0.4)


@pytest.fixture(scope="module")
def run(run_transform: RunTransform) -> TransformRun:
    return run_transform(height=16, width=24, resize="letterbox", normalization="dataset", materialize=True)


def files(directory: Any, split: str) -> list[str]:
    return sorted(str(path) for path in (directory / f"Split-{split}").iterdir())


def test_class_pixels_are_counted_over_train_alone_without_ignored_ones(run: TransformRun) -> None:
    constants = read_constants(tft.TFTransformOutput(str(run.graph)))
    expected = [
        sum(int((pair.class_ids == class_id).sum()) for pair in run.pairs["train"]) for class_id in (0, 1)
    ]
    assert list(constants.class_pixels) == expected


def test_dataset_moments_normalise_the_training_pixels(run: TransformRun) -> None:
    """An independent mean and deviation over every resized training pixel, padding left out."""
    constants = read_constants(tft.TFTransformOutput(str(run.graph)))
    pixels = np.concatenate([without_padding(pair) for pair in run.pairs["train"]]).astype(np.float64)
    np.testing.assert_allclose(constants.pixel_scale, 1 / pixels.std(0), rtol=1e-4)
    np.testing.assert_allclose(constants.pixel_offset, -pixels.mean(0) / pixels.std(0), rtol=1e-4)


def without_padding(pair: Pair) -> np.ndarray:
    """The resized pixels where a mask of nothing but class 0 is not padded with the ignore label."""
    inside = resize_mask(np.zeros_like(pair.class_ids), SIZE).numpy() == 0
    return resize_image(pair.image, SIZE).numpy()[inside]


def test_pixels_are_those_of_resizing_the_files_by_hand(run: TransformRun) -> None:
    pairs = raw_pairs(files(run.examples, "val"), tft.TFTransformOutput(str(run.graph)), SIZE, 3)
    assert_equal(list(pairs.as_numpy_iterator()), run.pairs["val"])


def test_materialised_pixels_equal_those_made_on_the_fly(run: TransformRun) -> None:
    assert_equal(
        list(materialized_pairs(files(run.transformed, "val"), SIZE, 3).as_numpy_iterator()),
        run.pairs["val"],
    )


def test_native_pictures_are_scaled_and_materialised(run_transform: RunTransform) -> None:
    run = run_transform(height=16, width=24, resize="native", scale=0.4, materialize=True)
    pairs = materialized_pairs(files(run.transformed, "val"), SCALED, 3)
    for (image, class_ids), pair in zip(pairs.as_numpy_iterator(), run.pairs["val"], strict=True):
        height, width = (round(0.4 * side) for side in pair.class_ids.shape)
        # As a picture that is stretched to that size.
        stretched = InputSize(height, width, "stretch")
        np.testing.assert_array_equal(image, resize_image(pair.image, stretched).numpy())
        np.testing.assert_array_equal(class_ids, resize_mask(pair.class_ids, stretched).numpy())


def assert_equal(actual: list[tuple[np.ndarray, np.ndarray]], pairs: list[Pair]) -> None:
    assert len(actual) == len(pairs)
    for (image, class_ids), pair in zip(actual, pairs, strict=True):
        assert image.dtype == np.uint8 and class_ids.dtype == np.uint8
        np.testing.assert_array_equal(image, resize_image(pair.image, SIZE).numpy())
        np.testing.assert_array_equal(class_ids, resize_mask(pair.class_ids, SIZE).numpy())


PAIRS = [disc_pair(seed) for seed in range(4)]


@pytest.fixture
def one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an analyzer see one batch and no other, as it sees all of them in TFX's Transform."""

    def add_up(values: tf.Tensor, *, reduce_instance_dims: bool) -> tf.Tensor:
        assert not reduce_instance_dims
        return tf.reduce_sum(values, 0)

    monkeypatch.setattr(tft, "sum", add_up)


def preprocess(**settings: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Transforms ``PAIRS``, without TFX; returns the features, and each picture's scale and offset."""
    config = TransformConfig(**settings)
    reading = Reading(channels=config.num_channels, bands=config.bands)
    inputs = {
        features.IMAGE_ENCODED: tf.constant([pair.png() for pair in PAIRS]),
        features.MASK_ENCODED: tf.constant([png_bytes(pair.class_ids) for pair in PAIRS]),
        features.CLASS_PIXELS: tf.constant([pair.class_pixels() for pair in PAIRS], tf.int64),
    }
    custom = {"transform": config.model_dump_json(), "reading": to_json(reading)}
    values = {name: tensor.numpy() for name, tensor in preprocessing_fn(inputs, custom).items()}
    [scale] = np.unique(values[transformed.PIXEL_SCALE], axis=0)
    [offset] = np.unique(values[transformed.PIXEL_OFFSET], axis=0)
    return values, scale, offset


@pytest.mark.usefixtures("one_batch")
@pytest.mark.parametrize(
    ("normalization", "of_0", "of_255"),
    [
        (None, [0.0] * 3, [1.0] * 3),
        ("unit", [0.0] * 3, [1.0] * 3),
        ("signed", [-1.0] * 3, [1.0] * 3),
        ("imagenet", [-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64]),
    ],
)
def test_fixed_normalisations_span_the_range_they_name(
    normalization: str | None, of_0: list[float], of_255: list[float]
) -> None:
    _, scale, offset = preprocess(height=8, width=8, normalization=normalization)
    np.testing.assert_allclose(offset, of_0, atol=1e-4)
    np.testing.assert_allclose(255 * scale + offset, of_255, atol=1e-4)


@pytest.mark.usefixtures("one_batch")
@pytest.mark.parametrize("channels", [1, 4])
def test_pixels_have_the_channels_of_the_recipe(channels: int) -> None:
    values, scale, offset = preprocess(
        height=16, width=24, resize="letterbox", channels=channels, normalization="dataset"
    )
    for image, pair in zip(values[transformed.IMAGE], PAIRS, strict=True):
        by_hand = resize_image(decode_image(pair.png(), Reading(channels=channels)), SIZE).numpy()
        np.testing.assert_array_equal(tf.io.parse_tensor(image, tf.uint8), by_hand)
    assert len(scale) == len(offset) == channels
    if channels == 4:
        # Opaque throughout: a channel without contrast is no division by zero.
        assert (scale[3], offset[3]) == (1.0, -255.0)


@pytest.mark.usefixtures("one_batch")
def test_native_pictures_are_the_files_own_pixels() -> None:
    values, scale, offset = preprocess(height=16, width=24, resize="native", normalization="dataset")
    for image, mask, pair in zip(values[transformed.IMAGE], values[transformed.MASK], PAIRS, strict=True):
        np.testing.assert_array_equal(tf.io.parse_tensor(image, tf.uint8), pair.image)
        np.testing.assert_array_equal(tf.io.parse_tensor(mask, tf.uint8), pair.class_ids)
    pixels = np.concatenate([pair.image.reshape(-1, 3) for pair in PAIRS]).astype(np.float64)
    np.testing.assert_allclose(scale, 1 / pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(offset, -pixels.mean(0) / pixels.std(0), rtol=1e-6)
