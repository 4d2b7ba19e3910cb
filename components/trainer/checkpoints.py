"""An epoch once trained stays trained: what survives a killed process, and early stopping from it."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

logger = logging.getLogger(__name__)

MONITOR = "val_iou_at_input_size"
"""What chooses the checkpoint; more is better."""

Epoch = dict[str, float]


class History:
    """What each epoch measured, and what follows from it: the best epoch, and whether to go on."""

    def __init__(self, epochs: list[Epoch], patience: int | None):
        self.epochs = epochs
        self._patience = patience

    @property
    def best_epoch(self) -> int:
        """Index of the first epoch with the highest ``MONITOR``; of the last where nothing is validated."""
        if MONITOR not in self.epochs[-1]:
            return len(self.epochs) - 1
        return max(range(len(self.epochs)), key=lambda index: (self.epochs[index][MONITOR], -index))

    @property
    def has_stalled(self) -> bool:
        """Whether ``patience`` epochs have passed since the best one."""
        if not self.epochs or self._patience is None:
            return False
        return len(self.epochs) - 1 - self.best_epoch >= self._patience


class Checkpoints(keras.callbacks.Callback):
    """Saves model and optimiser after each epoch, keeps the best epoch's, and stops when stalled.

    Each epoch has a file of its own. ``state.json`` is replaced by rename once the epoch's file is on the
    disk, and only then are files removed that it does not need, so a process may die at any moment: what
    is found again is always the state after a whole epoch.
    """

    def __init__(self, directory: Path, patience: int | None):
        super().__init__()
        self._directory = directory
        self._state_file = directory / "state.json"
        epochs = json.loads(self._state_file.read_text())["epochs"] if self._state_file.exists() else []
        self.history = History(epochs, patience)

    @property
    def epochs_done(self) -> int:
        return len(self.history.epochs)

    def restore(self, model: keras.Model) -> None:
        """Puts weights and optimiser back to where the last whole epoch left them, if there is one."""
        if not self.epochs_done:
            return
        # Unbuilt, the optimiser has no moments to load into, and would silently start from none.
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(self._weights(self.epochs_done - 1))
        except OSError as error:
            logger.warning("the checkpoint in %s is damaged (%s): training anew", self._directory, error)
            self.history.epochs.clear()

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch."""
        model.load_weights(self._weights(self.history.best_epoch))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.history.epochs.append({name: float(value) for name, value in (logs or {}).items()})
        latest = self._weights(epoch)
        self.model.save_weights(latest)
        _flush(latest)
        self._replace_state()
        needed = {latest, self._weights(self.history.best_epoch)}
        for path in self._directory.glob("epoch-*.weights.h5"):
            if path not in needed:
                path.unlink()
        if self.history.has_stalled:
            self.model.stop_training = True

    def _weights(self, epoch: int) -> Path:
        return self._directory / f"epoch-{epoch + 1:04d}.weights.h5"

    def _replace_state(self) -> None:
        temporary = self._state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"epochs": self.history.epochs}))
        _flush(temporary)
        temporary.replace(self._state_file)
        _flush(self._directory)


def _flush(path: Path) -> None:
    """Waits until a file or a directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
