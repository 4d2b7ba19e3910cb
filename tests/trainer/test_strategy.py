"""Several devices: GPUs are absent from most test machines, so two virtual CPUs stand in for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import RunTransform
from warm_process import WarmProcess

from components.dataset.labels import LabelSet
from components.imaging.reading import InputSize, ResizeMethod
from components.trainer.config import TrainerSettings
from components.trainer.model_config import ModelConfig
from components.trainer.training_config import AugmentationConfig, TrainingConfig

_EXPORTED: ResizeMethod = "stretch"
"""The export sees no devices, only the weights that were kept."""


@pytest.fixture(scope="module")
def mirrored(run_transform: RunTransform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains on whole pictures and on windows; the folder of the two, by the way of resizing."""
    root = tmp_path_factory.mktemp("mirrored")
    trainings = [_training(run_transform, root, resize) for resize in ("stretch", "native")]
    (root / "trainings.json").write_text(json.dumps(trainings))
    _run("mirrored_training.py", root / "trainings.json")
    return root


def _training(run_transform: RunTransform, root: Path, resize: ResizeMethod) -> dict[str, Any]:
    run = run_transform(height=16, width=16, resize=resize)
    settings = TrainerSettings(
        name="discs",
        labels=LabelSet(names=("ground", "disc")),
        input_size=InputSize(16, 16, resize),
        materialized=False,
        model=ModelConfig(filters=4, depth=2, normalization="batch", dropout=0.1),
        augmentation=AugmentationConfig(horizontal_flip=True),
        training=TrainingConfig(
            epochs=3, batch_size=10, learning_rate=1e-2, schedule="cosine", ema_momentum=0.5
        ),
        checkpoint_dir=str(root / resize / "checkpoints"),
    )
    files = {
        "train_files": [str(run.examples / "Split-train" / "*")],
        "eval_files": [str(run.examples / "Split-val" / "*")],
        "transform_output": str(run.graph),
        "serving_model_dir": str(root / resize / "model"),
        "model_run_dir": str(root / resize / "run"),
    }
    return {"files": files, "settings": settings.model_dump_json(), "export": resize == _EXPORTED}


def _run(program: str, argument: Path) -> None:
    """Runs a program of this folder."""
    process = WarmProcess([str(Path(__file__).with_name(program)), str(argument)], merged=True)
    output, _ = process.communicate()
    assert process.wait() == 0, output[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("resize", ["stretch", "native"])
def test_a_mirrored_training_learns(mirrored: Path, resize: ResizeMethod) -> None:
    epochs = json.loads((mirrored / resize / "run" / "history.json").read_text())["epochs"]
    assert epochs[-1]["loss"] < epochs[0]["loss"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_mirrored_training_exports(mirrored: Path) -> None:
    assert (mirrored / _EXPORTED / "model" / "saved_model.pb").exists()


@pytest.fixture(scope="module")
def float16_outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("float16")
    _run("replica_precision.py", directory)
    return json.loads((directory / "outcome.json").read_text())


def test_a_shared_float16_training_scales_its_loss_and_goes_on_where_it_was(
    float16_outcome: dict[str, Any],
) -> None:
    assert float16_outcome["scales the loss"]
    assert float16_outcome["steps"] > 0
    assert float16_outcome["weights restored"] and float16_outcome["optimiser restored"]
    assert float16_outcome["steps of epochs twice as long"] == 2 * float16_outcome["steps"]


@pytest.mark.parametrize("replica", [0, 1])
def test_an_overflow_on_one_replica_leaves_the_step_out_on_all(
    float16_outcome: dict[str, Any], replica: int
) -> None:
    assert float16_outcome[f"overflow on {replica}"] == {"weights untouched": True, "scale": 0.5}
