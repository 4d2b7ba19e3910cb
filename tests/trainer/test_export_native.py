"""What the exported model answers where pictures are seen at their own size, in windows."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import Pair, png_bytes
from PIL import Image
from tiny_export import export_tiny_model

from components.imaging.reading import RGB, InputSize
from components.serving.config import ServingLimits

SIZES = ((1, 1), (20, 33), (1, 5000), (5000, 1), (7, 8), (60, 5))


@pytest.fixture(
    scope="module",
    params=[
        (InputSize(8, 12, "native"), None),
        (InputSize(64, 256, "native"), None),
        (InputSize(64, 256, "native"), 4),
        (InputSize(8, 12, "native", scale=0.5), None),
    ],
    ids=["windows", "flat windows", "whole", "scaled"],
)
def signatures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    size, stride = request.param
    directory = export_tiny_model(tmp_path_factory.mktemp("native"), ServingLimits(), RGB, size, stride)
    return tf.saved_model.load(str(directory)).signatures


def picture(height: int, width: int) -> np.ndarray:
    """Bright and dark patches of 4 x 4 pixels."""
    rng = np.random.default_rng([height, width])
    patches = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return patches.repeat(4, 0).repeat(4, 1)[:height, :width]


def masks(encoded: Sequence[bytes]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(each))) for each in encoded]


def test_pictures_of_any_sizes_get_masks_of_theirs_alone_or_together(signatures: Any) -> None:
    pictures = [picture(*size) for size in SIZES]
    encoded = [png_bytes(each) for each in pictures]
    ask = signatures["serving_default"]
    together = ask(image_bytes=tf.constant(encoded))
    alone = [ask(image_bytes=tf.constant([each]))["mask_bytes"].numpy()[0] for each in encoded]
    assert together["mask_bytes"].numpy().tolist() == alone
    for each, mask, shares in zip(pictures, masks(alone), together["class_fraction"].numpy(), strict=True):
        assert mask.shape == each.shape[:2]
        exact = np.bincount(mask.ravel(), minlength=2) / mask.size
        np.testing.assert_array_equal(shares, exact.astype(np.float32))


def test_the_evaluator_sees_what_is_served_and_so_does_who_sends_pixels(signatures: Any) -> None:
    for size in SIZES:
        pixels = picture(*size)
        served = signatures["serving_default"](image_bytes=tf.constant([png_bytes(pixels)]))
        example = Pair(pixels, np.zeros(size, np.uint8)).example("x.png")
        evaluated = signatures["evaluate"](examples=tf.constant([example]))
        assert served["mask_bytes"].numpy().tolist() == evaluated["mask_bytes"].numpy().tolist()
        answer = signatures["serving_pixels"](images=pixels[np.newaxis])
        [mask] = masks(served["mask_bytes"].numpy())
        np.testing.assert_array_equal(answer["class_ids"].numpy()[0], mask)
        assert answer["confidence"].shape == (1, *size)
        assert answer["confidence"].numpy().min() >= 0.5 and answer["confidence"].numpy().max() <= 1


def test_a_pixel_is_called_bright_where_it_is(signatures: Any) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    [mask] = signatures["serving_pixels"](images=pixels[np.newaxis])["class_ids"].numpy()
    np.testing.assert_array_equal(mask, pixels[..., 0] // 255)
