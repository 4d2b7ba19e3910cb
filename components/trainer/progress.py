"""What a person watching the training sees: a line an epoch."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from components.errors import StageError
from components.trainer.checkpoints import IOU

logger = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """Logs each epoch, and adds ``seconds`` and ``learning_rate`` to what it measured.

    Ends a training that has diverged.
    """

    def __init__(self, epochs: int, examples: int):
        super().__init__()
        self._epochs = epochs
        self._examples = examples
        self._begun = 0.0
        self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = time.perf_counter()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._trained = time.perf_counter() - self._begun

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        seconds = time.perf_counter() - self._begun
        logs["seconds"] = seconds
        # That of the next step, as Keras's own callbacks report it.
        logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if not math.isfinite(logs["loss"]):
            raise StageError(
                f"training diverged in epoch {epoch + 1}: the loss is {logs['loss']}; "
                "a lower training.learning_rate or a training.gradient_clip_norm usually helps"
            )
        val_iou = logs.get(f"val_{IOU}")
        validated = "" if val_iou is None else f", IoU {val_iou:.3f} on val (at input size)"
        rate = self._examples / (self._trained or seconds)
        logger.info(
            "epoch %d/%d: loss %.4f%s, %.0f images/s", epoch + 1, self._epochs, logs["loss"], validated, rate
        )
