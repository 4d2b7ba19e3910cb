"""What people look at while a model trains and afterwards: TensorBoard, pictures, curves."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.dataset.labels import LabelSet
from components.trainer.checkpoints import IOU, History
from components.trainer.curves import draw_curves
from components.trainer.optimizers import averaged_weights
from components.trainer.panel import draw_panel

_TENSORBOARD = "tensorboard"
_PREDICTIONS = "predictions"


class TrainingRecord(keras.callbacks.Callback):
    """Writes each epoch's scalars for TensorBoard, and a picture of what the network makes of some pairs.

    Belongs before the checkpoints: an epoch that counts as trained then has its record. An epoch that is
    trained again, because the process died in between, writes the same once more.

    Args:
        directory: where ``tensorboard/`` and ``predictions/`` are written, and survive an interruption.
        pairs: the images and class ids to draw, uint8 [height, width, channels] and [height, width].
        labels: the classes' names and colours.
    """

    def __init__(
        self, directory: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: LabelSet
    ) -> None:
        super().__init__()
        self._pairs = pairs
        self._labels = labels
        self._predictions = directory / _PREDICTIONS
        self._predictions.mkdir(exist_ok=True)
        self._writers = {
            split: tf.summary.create_file_writer(str(directory / _TENSORBOARD / split))
            for split in ("train", "val")
        }

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        with averaged_weights(self.model):
            logits = self.model(np.stack([image for image, _ in self._pairs]), training=False)
        panel = draw_panel(self._pairs, np.argmax(logits, axis=-1).astype(np.uint8), self._labels)
        panel.save(self._predictions / f"epoch-{epoch + 1:04d}.png")

        step = epoch + 1
        with self._writers["train"].as_default(step):
            tf.summary.scalar("learning_rate", logs["learning_rate"])
            tf.summary.image("predictions", np.asarray(panel)[np.newaxis])
        for split, prefix in (("train", ""), ("val", "val_")):
            with self._writers[split].as_default(step):
                for name in ("loss", IOU):
                    if prefix + name in logs:
                        tf.summary.scalar(name, logs[prefix + name])
            self._writers[split].flush()


def write_record(directory: Path, history: History, run_directory: Path) -> None:
    """Puts what a finished training has recorded in ``directory`` where it is kept, and adds the whole of it.

    ``history.json`` has all that was measured, ``curves.png`` draws loss and IoU.
    """
    for name in (_TENSORBOARD, _PREDICTIONS):
        shutil.copytree(directory / name, run_directory / name, dirs_exist_ok=True)
    measured = {"best_epoch": history.best_epoch + 1, "epochs": history.epochs}
    (run_directory / "history.json").write_text(json.dumps(measured, indent=2) + "\n")
    draw_curves(history, run_directory / "curves.png")
