"""Several devices: GPUs are absent from most test machines, so two virtual CPUs stand in for them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import RunTransform

from components.dataset.labels import LabelSet
from components.imaging.reading import InputSize, ResizeMethod
from components.trainer.config import TrainerSettings
from components.trainer.model_config import ModelConfig
from components.trainer.training_config import AugmentationConfig, TrainingConfig

_TRAIN_ON_TWO_DEVICES = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tfx.components.trainer.fn_args_utils import FnArgs
from components.trainer import run_fn as trainer
from components.trainer.config import TrainerSettings

trainer.training_strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
arguments = json.load(sys.stdin)
settings = TrainerSettings.model_validate_json(arguments["settings"])
trainer.run_fn(FnArgs(**arguments["files"], custom_config={"settings": settings}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["stretch", "native"])
def test_a_mirrored_training_learns_and_exports(
    run_transform: RunTransform, tmp_path: Path, resize: ResizeMethod
) -> None:
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
        checkpoint_dir=str(tmp_path / "checkpoints"),
    )
    files = {
        "train_files": [str(run.examples / "Split-train" / "*")],
        "eval_files": [str(run.examples / "Split-val" / "*")],
        "transform_output": str(run.graph),
        "serving_model_dir": str(tmp_path / "model"),
        "model_run_dir": str(tmp_path / "run"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN_ON_TWO_DEVICES],
        input=json.dumps({"files": files, "settings": settings.model_dump_json()}),
        text=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    epochs = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert (tmp_path / "model" / "saved_model.pb").exists()


@pytest.fixture(scope="module")
def float16_outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    program = Path(__file__).with_name("replica_precision.py")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path_factory.mktemp("float16"))],
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_shared_float16_training_scales_its_loss_and_goes_on_where_it_was(
    float16_outcome: dict[str, Any],
) -> None:
    assert float16_outcome["scales the loss"]
    assert float16_outcome["steps"] > 0
    assert float16_outcome["weights restored"] and float16_outcome["optimiser restored"]


@pytest.mark.parametrize("replica", [0, 1])
def test_an_overflow_on_one_replica_leaves_the_step_out_on_all(
    float16_outcome: dict[str, Any], replica: int
) -> None:
    assert float16_outcome[f"overflow on {replica}"] == {"weights untouched": True, "scale": 0.5}
