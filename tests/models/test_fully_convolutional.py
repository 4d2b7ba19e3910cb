"""Which networks may see more of a picture than they have learnt from."""

from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.encoder_unet import encoder_unet
from models.fully_convolutional import is_fully_convolutional
from models.options import EncoderName, Normalization, Upsampling
from models.unet import unet

LOCAL = {"MobileNetV2", "DenseNet121", "ResNet50V2"}


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize("normalization", get_args(Normalization))
def test_of_a_unet_only_group_normalisation_looks_at_all_of_an_image(
    upsampling: Upsampling, normalization: Normalization
) -> None:
    shape = (None, None, 3)
    network = unet(shape, 2, filters=4, depth=3, normalization=normalization, upsampling=upsampling)
    assert is_fully_convolutional(network) == (normalization != "group")


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
def test_a_graph_for_images_of_any_size_answers_as_one_for_a_single_size(upsampling: Upsampling) -> None:
    keras.utils.set_random_seed(0)
    network = unet((None, None, 3), 2, filters=4, depth=3, upsampling=upsampling)
    graph = tf.function(network, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for shape in ((2, 8, 12, 3), (1, 4, 4, 3)):
        images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        np.testing.assert_allclose(graph(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_so_do_encoders_that_squeeze_and_excite(name: EncoderName) -> None:
    network = encoder_unet((None, None, 3), 2, encoder=name, encoder_weights=None, filters=8)
    assert is_fully_convolutional(network) == (name in LOCAL)


def test_what_is_not_known_is_not_trusted() -> None:
    images = keras.Input((None, None, 3))
    assert not is_fully_convolutional(keras.Model(images, images - keras.ops.mean(images)))


@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
def test_an_encoder_says_of_a_place_what_is_around_it_wherever_that_lies(name: EncoderName) -> None:
    """So that a picture in one piece is answered as in windows, but for what these do not see."""
    keras.utils.set_random_seed(0)
    network = encoder_unet((None, None, 3), 2, encoder=name, encoder_weights=None, filters=4)
    side, stride = 384, 32
    picture = np.random.default_rng(0).integers(0, 256, (1, side + stride, side, 3), np.uint8)
    graph = tf.function(network)
    first, second = (graph(picture[:, top : top + side]).numpy()[0] for top in (0, stride))
    middle = slice(side // 2 - stride, side // 2 + stride)
    same_place = slice(middle.start - stride, middle.stop - stride)
    assert np.abs(first[middle, middle] - second[same_place, middle]).max() < 1e-3 * first.std()
    assert np.abs(first[middle, middle] - second[middle, middle]).max() > first.std()
