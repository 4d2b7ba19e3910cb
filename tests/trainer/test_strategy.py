"""Several devices: GPUs are absent from most test machines, so two virtual CPUs stand in for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunTransform

from components.dataset.labels import LabelSet
from components.trainer.config import (
    AugmentationConfig,
    ModelConfig,
    TrainerSettings,
    TrainingConfig,
    VariantConfig,
)

_TRAIN_ON_TWO_DEVICES = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tfx.v1.components import FnArgs
from components.trainer import run_fn as trainer

trainer.training_strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
trainer.run_fn(FnArgs(**json.load(sys.stdin)))
"""


@pytest.mark.slow
def test_a_mirrored_training_learns_and_exports(run_transform: RunTransform, tmp_path: Path) -> None:
    run = run_transform(height=16, width=16)
    settings = TrainerSettings(
        recipe={"name": "discs"},
        labels=LabelSet(names=("ground", "disc")),
        height=16,
        width=16,
        resize="stretch",
        materialized=False,
        model=ModelConfig(filters=4, depth=2, normalization="batch", dropout=0.1),
        augmentation=AugmentationConfig(horizontal_flip=True, variants=(VariantConfig(vertical_flip=True),)),
        training=TrainingConfig(
            epochs=3, batch_size=10, learning_rate=1e-2, schedule="cosine", ema_momentum=0.5
        ),
        checkpoint_dir=str(tmp_path / "checkpoints"),
    )
    arguments = {
        "train_files": [str(run.examples / "Split-train" / "*")],
        "eval_files": [str(run.examples / "Split-val" / "*")],
        "transform_output": str(run.graph),
        "serving_model_dir": str(tmp_path / "model"),
        "model_run_dir": str(tmp_path / "run"),
        "custom_config": {"settings": settings.model_dump_json()},
    }
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN_ON_TWO_DEVICES],
        input=json.dumps(arguments),
        text=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    epochs = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert (tmp_path / "model" / "saved_model.pb").exists()
