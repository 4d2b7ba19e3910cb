"""The Keras callback that logs the first step and each epoch, and tells how far a training is."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import keras
from keras import ops

from components.durations import time_left
from components.errors import StageError
from components.trainer.checkpoints import IOU
from components.trainer.progress import RECORD_ATTRIBUTE, TICKS, TrainingProgress

logger = logging.getLogger(__name__)
ticks = logging.getLogger(TICKS)
ticks.propagate = False

_TICK_SECONDS: Final = 0.5


class _Steps:
    """Steps one after the other, the first of which may be the graph's compilation besides."""

    def __init__(self, begun: float):
        self._begun = begun
        self._first_done = begun
        self._after_first = 0

    def begin(self, step: int, now: float) -> None:
        if step == 1:
            self._first_done = now
        self._after_first = step

    def pace(self, now: float, done: int) -> float | None:
        """Seconds a step takes, the first left out; None where it is the only one of those that are done."""
        return (now - self._first_done) / (done - 1) if done > 1 else None

    def compilation(self, end: float) -> float:
        """Seconds that the first step took longer than the others; 0 where there are none."""
        each = self.pace(end, self._after_first + 1)
        return 0.0 if each is None else max(0.0, self._first_done - self._begun - each)


class Progress(keras.callbacks.Callback):
    """Logs the first step and each epoch, and adds ``seconds`` and ``learning_rate`` to what one measured.

    That rate is the one of the epoch's last step.

    Ends a training that has diverged.
    """

    def __init__(self, epochs: int, examples: int):
        super().__init__()
        self._examples = examples
        self._begun = 0.0
        self._trained: float | None = None
        self._training = _Steps(0.0)
        self._validation: _Steps | None = None
        self._compiles = True
        self._last_tick = 0.0
        self._learning_rate = math.nan
        self._epoch_seconds: float | None = None
        self._progress = TrainingProgress(0, epochs, 0, 0, None, None, None, None)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._progress = replace(self._progress, steps=self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = time.perf_counter()
        self._training, self._validation, self._trained = _Steps(self._begun), None, None
        self._progress = replace(self._progress, epoch=epoch + 1, step=0)

    # The begin of a step, not its end: that one's losses would have to be fetched from the device.
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        now = time.perf_counter()
        self._training.begin(batch, now)
        if batch == 1 and self._compiles:
            self._progress = progress = self._within_epoch(batch, now)
            logger.info(
                "the first of %d steps an epoch took %.1f s",
                progress.steps,
                now - self._begun,
                extra={RECORD_ATTRIBUTE: progress},
            )
        if batch + 1 == self._progress.steps:
            # Once the step is done, the optimiser tells that of the next one, which may be 0.
            self._learning_rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if now - self._last_tick >= _TICK_SECONDS and ticks.isEnabledFor(logging.DEBUG):
            self._last_tick = now
            self._progress = self._within_epoch(batch, now)
            ticks.debug("step %d", batch, extra={RECORD_ATTRIBUTE: self._progress})

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._trained = time.perf_counter()
        self._validation = _Steps(self._trained)

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._validation is not None:
            self._validation.begin(batch, time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        now = time.perf_counter()
        logs["seconds"] = now - self._begun
        logs["learning_rate"] = self._learning_rate
        if not math.isfinite(logs["loss"]):
            raise StageError(
                f"training diverged in epoch {epoch + 1}: the loss is {logs['loss']}; "
                "a lower training.learning_rate or a training.gradient_clip_norm usually helps"
            )
        trained = self._trained or now
        compilation = self._training.compilation(trained) if self._compiles else 0.0
        epoch_seconds = now - self._begun - compilation
        if self._compiles and self._validation is not None:
            epoch_seconds -= self._validation.compilation(now)
        self._compiles, self._epoch_seconds = False, epoch_seconds
        self._progress = progress = replace(
            self._progress,
            epoch=epoch + 1,
            step=self._progress.steps,
            loss=float(logs["loss"]),
            val_mean_iou=float(logs[f"val_{IOU}"]) if f"val_{IOU}" in logs else None,
            images_per_second=self._examples / (trained - self._begun - compilation),
            seconds_left=epoch_seconds * (self._progress.epochs - epoch - 1),
        )
        logger.info(describe(progress), extra={RECORD_ATTRIBUTE: progress})

    def _within_epoch(self, step: int, now: float) -> TrainingProgress:
        progress = replace(self._progress, step=step)
        step_seconds = self._training.pace(now, step)
        if not step_seconds:
            return progress
        whole_epochs = progress.epochs - progress.epoch
        return replace(
            progress,
            images_per_second=self._examples / progress.steps / step_seconds,
            seconds_left=step_seconds * (progress.steps - step)
            + (self._epoch_seconds or step_seconds * progress.steps) * whole_epochs,
        )


def describe(progress: TrainingProgress) -> str:
    """Returns the line that tells of a finished epoch."""
    parts = [f"loss {progress.loss:.4f}"]
    if progress.val_mean_iou is not None:
        parts.append(f"val mean IoU {progress.val_mean_iou:.3f} (at input size)")
    parts.append(f"{progress.images_per_second:.0f} images/s")
    if progress.seconds_left:
        parts.append(time_left(progress.seconds_left))
    return f"epoch {progress.epoch}/{progress.epochs}: {', '.join(parts)}"
