"""The mean over flips and scales, computed version by version."""

import keras
import numpy as np
import pytest
from keras import ops

from models.test_time_augmentation import average_augmented
from models.unet import unet


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


@pytest.fixture
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return unet((None, None, 3), 2, filters=2, depth=2)


def test_the_answer_is_the_mean_over_an_image_and_its_mirror_image(network: keras.Model) -> None:
    images = pictures(3, 4, 6, 3)
    expected = (network(images) + network(images[:, :, ::-1])[:, :, ::-1]) / 2
    model = average_augmented(network, (4, 6, 3), horizontal_flip=True, scales=(), stride=2)
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, network(images), atol=1e-3)


def test_a_mirrored_image_gets_the_mirrored_answer(network: keras.Model) -> None:
    model = average_augmented(network, (4, 4, 3), horizontal_flip=True, scales=(1.5, 0.5), stride=2)
    images = pictures(2, 4, 4, 3)
    np.testing.assert_allclose(model(images[:, :, ::-1]), model(images)[:, :, ::-1], rtol=1e-4, atol=1e-5)


def test_each_scale_counts_as_much_as_the_image_itself(network: keras.Model) -> None:
    images = pictures(2, 4, 8, 3)
    # Of 1.3 x (4, 8) the multiples of the stride nearest to it.
    enlarged = ops.image.resize(images, (6, 10))
    expected = (network(images) + ops.image.resize(network(enlarged), (4, 8))) / 2
    model = average_augmented(network, (4, 8, 3), horizontal_flip=False, scales=(1.3,), stride=2)
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, network(images), atol=1e-3)


def test_it_shares_the_networks_weights_and_has_none_of_its_own(network: keras.Model) -> None:
    model = average_augmented(network, (4, 4, 3), horizontal_flip=True, scales=(2.0,), stride=2)
    assert [id(weight) for weight in model.weights] == [id(weight) for weight in network.weights]
