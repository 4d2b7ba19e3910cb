"""The networks that the named recipes build, by the number of their parameters."""

from pathlib import Path

import keras
import numpy as np
import pytest

from components.errors import StageError
from components.trainer import network as network_module
from components.trainer.config import Constants
from components.trainer.network import build_network
from pipeline.config import load_recipe

ORACLES = {
    "pets_unet": (8_639_811, 8_639_811),
    "pets_mobilenetv2": (6_504_227, 4_660_323),
    "kitti_unet": (7_698_580, 7_698_580),
    "ccp_densenet121": (16_472_827, 9_433_403),
}
"""All parameters, and those that train."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with as much of a dataset as decides about a network: the names of the clothing."""
    root = tmp_path_factory.mktemp("clothing")
    (root / "labels.txt").write_text("\n".join(f"garment {number}" for number in range(59)))
    return str(root)


def network_of(name: str, root: str, *overrides: str) -> keras.Model:
    settings = load_recipe(name, root, overrides).trainer_settings()
    constants = Constants((1 / 255,) * 3, (0.0,) * 3, (1,) * settings.labels.num_classes)
    return build_network(settings, constants, "float32")


def parameters(network: keras.Model) -> tuple[int, int]:
    trainable = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    return network.count_params(), trainable


@pytest.mark.parametrize("name", ["pets_unet", "kitti_unet"])
def test_a_recipe_builds_the_network_it_is_named_after(name: str, root: str) -> None:
    assert parameters(network_of(name, root)) == ORACLES[name]


@pytest.mark.parametrize(
    ("name", "encoder"), [("pets_mobilenetv2", "MobileNetV2"), ("ccp_densenet121", "DenseNet121")]
)
def test_so_does_one_with_an_encoder_which_takes_trained_weights_from_a_file(
    name: str, encoder: str, root: str, tmp_path: Path
) -> None:
    path = tmp_path / "encoder.weights.h5"
    keras.utils.set_random_seed(7)
    trained = getattr(keras.applications, encoder)(include_top=False, weights=None, input_shape=(128, 128, 3))
    trained.save_weights(path)
    network = network_of(name, root, f"model.encoder_weights={path}")
    assert parameters(network) == ORACLES[name]
    assert isinstance(network.get_layer("logits"), keras.layers.Conv2DTranspose)
    loaded = {weight.path: weight for weight in network.get_layer("encoder").weights}
    for weight in trained.weights:
        # What lies behind the deepest features that the decoder uses is not part of the network.
        if weight.path in loaded:
            np.testing.assert_array_equal(loaded.pop(weight.path), weight)
    assert not loaded


def test_a_weights_file_that_changed_since_the_pipeline_was_composed_is_refused(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache would give the model to whoever has the file of before."""
    path = tmp_path / "encoder.weights.h5"
    path.write_bytes(b"once")
    built = keras.Sequential()
    monkeypatch.setattr(network_module, "encoder_unet", lambda *_, **__: built)
    overrides = [f"model.encoder_weights={path}"]
    settings = load_recipe("pets_mobilenetv2", root, overrides).trainer_settings()
    constants = Constants((1 / 255,) * 3, (0.0,) * 3, (1,) * settings.labels.num_classes)
    assert build_network(settings, constants, "float32") is built
    path.write_bytes(b"anew")
    with pytest.raises(
        StageError, match=rf"^model\.encoder_weights: {path} changed after the run had begun; run"
    ):
        build_network(settings, constants, "float32")
