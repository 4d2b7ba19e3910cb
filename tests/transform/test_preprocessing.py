"""The transform graph: constants learnt from the training split, and pixels."""

from typing import Any

import numpy as np
import pytest
import tensorflow_transform as tft
from conftest import Pair, RunTransform, TransformRun

from components.imaging.decode import decode_image
from components.imaging.reading import InputSize, Reading
from components.imaging.resize import resize_image, resize_mask
from components.trainer import data

SIZE = InputSize(16, 24, "letterbox")


@pytest.fixture(scope="module")
def run(run_transform: RunTransform) -> TransformRun:
    return run_transform(height=16, width=24, resize="letterbox", normalization="dataset")


def files(directory: Any, split: str) -> list[str]:
    return sorted(str(path) for path in (directory / f"Split-{split}").iterdir())


def test_class_pixels_are_counted_over_train_alone_without_ignored_ones(run: TransformRun) -> None:
    constants = data.read_constants(tft.TFTransformOutput(str(run.graph)))
    expected = [
        sum(int((pair.class_ids == class_id).sum()) for pair in run.pairs["train"]) for class_id in (0, 1)
    ]
    assert list(constants.class_pixels) == expected


def test_dataset_moments_normalise_the_training_pixels(run: TransformRun) -> None:
    """An independent mean and deviation over every resized training pixel, padding left out."""
    constants = data.read_constants(tft.TFTransformOutput(str(run.graph)))
    pixels = np.concatenate([without_padding(pair) for pair in run.pairs["train"]]).astype(np.float64)
    np.testing.assert_allclose(constants.pixel_scale, 1 / pixels.std(0), rtol=1e-4)
    np.testing.assert_allclose(constants.pixel_offset, -pixels.mean(0) / pixels.std(0), rtol=1e-4)


def without_padding(pair: Pair) -> np.ndarray:
    """The resized pixels where a mask of nothing but class 0 is not padded with the ignore label."""
    inside = resize_mask(np.zeros_like(pair.class_ids), SIZE).numpy() == 0
    return resize_image(pair.image, SIZE).numpy()[inside]


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
    run_transform: RunTransform, normalization: str | None, of_0: list[float], of_255: list[float]
) -> None:
    run = run_transform(height=8, width=8, normalization=normalization)
    constants = data.read_constants(tft.TFTransformOutput(str(run.graph)))
    scale, offset = np.array(constants.pixel_scale), np.array(constants.pixel_offset)
    np.testing.assert_allclose(offset, of_0, atol=1e-4)
    np.testing.assert_allclose(255 * scale + offset, of_255, atol=1e-4)


def test_pixels_are_those_of_resizing_the_files_by_hand(run: TransformRun) -> None:
    pairs = data.raw_pairs(files(run.examples, "val"), tft.TFTransformOutput(str(run.graph)), SIZE, 3)
    assert_equal(list(pairs.as_numpy_iterator()), run.pairs["val"])


@pytest.mark.parametrize("channels", [1, 4])
def test_pixels_have_the_channels_of_the_recipe(run_transform: RunTransform, channels: int) -> None:
    run = run_transform(height=16, width=24, resize="letterbox", channels=channels, normalization="dataset")
    graph = tft.TFTransformOutput(str(run.graph))
    pairs = data.raw_pairs(files(run.examples, "val"), graph, SIZE, channels)
    for (image, _), pair in zip(pairs.as_numpy_iterator(), run.pairs["val"], strict=True):
        by_hand = resize_image(decode_image(pair.png(), Reading(channels=channels)), SIZE).numpy()
        np.testing.assert_array_equal(image, by_hand)
    constants = data.read_constants(graph)
    assert len(constants.pixel_scale) == len(constants.pixel_offset) == channels
    if channels == 4:
        # Opaque throughout: a channel without contrast is no division by zero.
        assert (constants.pixel_scale[3], constants.pixel_offset[3]) == (1.0, -255.0)


def test_materialised_pixels_equal_those_made_on_the_fly(run_transform: RunTransform) -> None:
    run = run_transform(height=16, width=24, resize="letterbox", materialize=True)
    assert_equal(
        list(data.materialized_pairs(files(run.transformed, "val"), SIZE, 3).as_numpy_iterator()),
        run.pairs["val"],
    )


def test_native_pictures_are_the_files_own_pixels(run_transform: RunTransform) -> None:
    run = run_transform(height=16, width=24, resize="native", normalization="dataset")
    graph = tft.TFTransformOutput(str(run.graph))
    pairs = data.raw_pairs(files(run.examples, "val"), graph, InputSize(16, 24, "native"), 3)
    for (image, class_ids), pair in zip(pairs.as_numpy_iterator(), run.pairs["val"], strict=True):
        np.testing.assert_array_equal(image, pair.image)
        np.testing.assert_array_equal(class_ids, pair.class_ids)
    pixels = np.concatenate([pair.image.reshape(-1, 3) for pair in run.pairs["train"]]).astype(np.float64)
    constants = data.read_constants(graph)
    np.testing.assert_allclose(constants.pixel_scale, 1 / pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(constants.pixel_offset, -pixels.mean(0) / pixels.std(0), rtol=1e-6)


def test_native_pictures_are_scaled_and_materialised(run_transform: RunTransform) -> None:
    run = run_transform(height=16, width=24, resize="native", scale=0.4, materialize=True)
    size = InputSize(16, 24, "native", scale=0.4)
    pairs = data.materialized_pairs(files(run.transformed, "val"), size, 3)
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
