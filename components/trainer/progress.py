"""What a person watching the training sees: a line an epoch."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import keras

from components.errors import StageError
from components.trainer.checkpoints import MONITOR

logger = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """Logs each epoch and adds ``seconds`` to what it measured; ends a training that has diverged."""

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
        if not math.isfinite(logs["loss"]):
            raise StageError(
                f"training diverged in epoch {epoch + 1}: the loss is {logs['loss']}; "
                "a lower training.learning_rate usually helps"
            )
        validated = f", IoU {logs[MONITOR]:.3f} on val (at input size)" if MONITOR in logs else ""
        rate = self._examples / (self._trained or seconds)
        logger.info(
            "epoch %d/%d: loss %.4f%s, %.0f images/s", epoch + 1, self._epochs, logs["loss"], validated, rate
        )
