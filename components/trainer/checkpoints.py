"""An epoch once trained stays trained: what survives a killed process, and early stopping from it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

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
    """Saves model and optimiser after each epoch, the best epoch's weights apart, and stops when stalled.

    ``state.json`` is replaced by rename once the weights that it names are complete, so a process may
    die at any moment: what is found again is always the state after a whole epoch.
    """

    def __init__(self, directory: Path, patience: int | None):
        super().__init__()
        self._directory = directory
        self._state_file = directory / "state.json"
        directory.mkdir(parents=True, exist_ok=True)
        epochs = json.loads(self._state_file.read_text())["epochs"] if self._state_file.exists() else []
        self.history = History(epochs, patience)

    @property
    def epochs_done(self) -> int:
        return len(self.history.epochs)

    def restore(self, model: keras.Model) -> None:
        """Puts weights and optimiser back to where the last whole epoch left them, if there is one."""
        if self.epochs_done:
            # Unbuilt, the optimiser has no moments to load into, and would silently start from none.
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._latest(self.epochs_done))

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch."""
        model.load_weights(self._directory / "best.weights.h5")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self.history.epochs.append(measured)
        self.model.save_weights(self._latest(self.epochs_done))
        if self.history.best_epoch == epoch:
            # A copy, complete before it takes the name: the best epoch's weights must outlive any crash.
            copy = self._directory / "best.tmp"
            shutil.copyfile(self._latest(self.epochs_done), copy)
            copy.replace(self._directory / "best.weights.h5")
        _replace_text(self._state_file, json.dumps({"epochs": self.history.epochs}))
        self._latest(self.epochs_done - 1).unlink(missing_ok=True)
        if self.history.has_stalled:
            self.model.stop_training = True

    def _latest(self, epochs: int) -> Path:
        return self._directory / f"epoch-{epochs:04d}.weights.h5"


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
