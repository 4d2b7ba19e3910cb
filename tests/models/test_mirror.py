"""A network that looks twice."""

import keras
import numpy as np

from models.mirror import average_with_mirror
from models.unet import unet


def test_the_answer_is_the_mean_over_an_image_and_its_mirror_image() -> None:
    keras.utils.set_random_seed(0)
    network = unet((4, 6, 3), 2, filters=2, depth=2)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.float32)
    expected = (network(images) + network(images[:, :, ::-1])[:, :, ::-1]) / 2
    np.testing.assert_allclose(average_with_mirror(network)(images), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, network(images), atol=1e-3)


def test_a_mirrored_image_gets_the_mirrored_answer() -> None:
    keras.utils.set_random_seed(1)
    model = average_with_mirror(unet((4, 4, 1), 3, filters=2, depth=2))
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 1)).astype(np.float32)
    np.testing.assert_allclose(model(images[:, :, ::-1]), model(images)[:, :, ::-1], rtol=1e-5, atol=1e-6)


def test_it_shares_the_networks_weights_and_has_none_of_its_own() -> None:
    network = unet((4, 4, 3), 2, filters=2, depth=2)
    model = average_with_mirror(network)
    assert [id(weight) for weight in model.weights] == [id(weight) for weight in network.weights]
