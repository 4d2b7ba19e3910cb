"""Trainings that two virtual CPUs of this process share; run as a program, in a process of its own.

python mirrored_training.py FILE

reads from FILE, as JSON, a list of trainings: the arguments of ``FnArgs``, the settings, whether to export.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.trainer import run_fn as trainer
from components.trainer.config import TrainerSettings

if __name__ == "__main__":
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    trainer.training_strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    export = trainer.export
    for training in json.loads(Path(sys.argv[1]).read_text()):
        trainer.export = export if training["export"] else lambda *arguments: None
        settings = TrainerSettings.model_validate_json(training["settings"])
        trainer.run_fn(FnArgs(**training["files"], custom_config={"settings": settings}))
