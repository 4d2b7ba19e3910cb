"""What people look at while a model trains and afterwards: TensorBoard, pictures, curves."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from components.dataset.contracts import HISTORY_FILE
from components.dataset.labels import LabelSet
from components.imaging.curves import TrainingCurves, save_curves
from components.imaging.drawing import class_map, grid, legend, text
from components.imaging.palette import IGNORED_COLOR, with_ignored
from components.trainer.checkpoints import IOU, History
from components.trainer.optimizers import averaged_weights

_TENSORBOARD = "tensorboard"
_PREDICTIONS = "predictions"

_TILE = 192
"""Longer side of each tile, pixels."""
_GAP = 8
_FONT_SIZE = 13
_LEGEND_CLASSES = 24
"""A longer legend would be no help."""


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


def write_record(
    directory: Path, history: History, untrained_classes: Sequence[str], run_directory: Path
) -> None:
    """Puts what a finished training has recorded in ``directory`` where it is kept, and adds the whole of it.

    ``history.json`` has all that was measured and which classes the training split lacks, ``curves.png``
    draws loss and IoU.
    """
    for name in (_TENSORBOARD, _PREDICTIONS):
        shutil.copytree(directory / name, run_directory / name, dirs_exist_ok=True)
    measured = {
        "best_epoch": history.best_epoch + 1,
        "epochs": history.epochs,
        "untrained_classes": list(untrained_classes),
    }
    (run_directory / HISTORY_FILE).write_text(json.dumps(measured, indent=2) + "\n")
    save_curves(TrainingCurves(history.epochs, history.best_epoch + 1), run_directory / "curves.png")


def draw_panel(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], predictions: Sequence[np.ndarray], labels: LabelSet
) -> Image.Image:
    """Draws image, truth and prediction side by side, one row a pair, and the classes' colours below.

    Args:
        pairs: uint8 images [height, width, channels] and uint8 class ids [height, width], all of one size.
        predictions: uint8 class ids [height, width], one a pair.
        labels: the classes' names and colours.
    """
    height, width = pairs[0][1].shape
    scale = _TILE / max(height, width)
    tile = max(1, round(width * scale)), max(1, round(height * scale))
    colors = with_ignored(labels.palette)
    rows = [[text(title, _FONT_SIZE) for title in ("image", "truth", "prediction")]]
    for (image, truth), predicted in zip(pairs, predictions, strict=True):
        # Grey is repeated, as is the first of two bands; channels after the third are not shown.
        rgb = np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else image[..., :3]
        maps = (class_map(class_ids, colors).convert("RGB") for class_ids in (truth, predicted))
        rows.append(
            [
                Image.fromarray(rgb).resize(tile, Image.Resampling.BILINEAR),
                *(each.resize(tile, Image.Resampling.NEAREST) for each in maps),
            ]
        )
    panel = grid(rows, _GAP)
    if labels.num_classes > _LEGEND_CLASSES:
        return panel
    items = [*zip(labels.names, labels.palette, strict=True), ("ignored", IGNORED_COLOR)]
    return grid([[panel], [legend(items, panel.width, _FONT_SIZE)]])
