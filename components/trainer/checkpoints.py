"""An epoch once trained stays trained: what survives a killed process, and early stopping from it."""

import json
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import keras
import numpy as np

from components.trainer.optimizers import averaged_weights

logger = logging.getLogger(__name__)

IOU = "iou_at_input_size"
"""The name of the metric, from ``models.metrics``; with ``val_`` before it, of its value on the val split."""

Epoch = dict[str, float]


class History:
    """What each epoch measured, and what follows from it: the best epoch, and whether to go on."""

    def __init__(self, epochs: list[Epoch], patience: int | None, monitor: Literal["iou", "loss"]):
        self.epochs = epochs
        self._patience = patience
        self._key, self._sign = (f"val_{IOU}", 1.0) if monitor == "iou" else ("val_loss", -1.0)

    @property
    def best_epoch(self) -> int:
        """Index of the first epoch with the best monitored value; of the last where nothing is validated."""
        return self._best(range(len(self.epochs)))

    def has_stalled(self, phase: int) -> bool:
        """Whether ``patience`` epochs of a phase have passed since the best one of that phase."""
        indices = [index for index, epoch in enumerate(self.epochs) if epoch["phase"] == phase]
        if not indices or self._patience is None:
            return False
        return indices[-1] - self._best(indices) >= self._patience

    def _best(self, indices: Sequence[int]) -> int:
        if self._key not in self.epochs[indices[-1]]:
            return indices[-1]
        return max(indices, key=lambda index: (self._sign * self.epochs[index][self._key], -index))


class Checkpoints(keras.callbacks.Callback):
    """Saves what training needs to go on after each epoch, and the best epoch's weights.

    ``epoch-0007.weights.h5`` holds model and optimiser as trained, ``epoch-0005.npz`` the weights as they
    were measured (the averaged ones, where the optimiser averages). Each epoch has files of its own.
    ``state.json`` is replaced by rename once they are on the disk, and only then are files removed that it
    does not need, so a process may die at any moment: what is found again is always the state after a whole
    epoch.
    """

    def __init__(self, directory: Path, patience: int | None = None, monitor: Literal["iou", "loss"] = "iou"):
        super().__init__()
        self._phase = 1
        self._directory = directory
        self._state_file = directory / "state.json"
        epochs = json.loads(self._state_file.read_text())["epochs"] if self._state_file.exists() else []
        self.history = History(epochs, patience, monitor)
        if epochs and not self._is_intact():
            logger.warning("the checkpoint in %s is damaged: training anew", directory)
            epochs.clear()

    @property
    def epochs_done(self) -> int:
        return len(self.history.epochs)

    @property
    def last_phase(self) -> int:
        """The phase of the last whole epoch; 0 before the first."""
        return int(self.history.epochs[-1]["phase"]) if self.epochs_done else 0

    def begin_phase(self, phase: int) -> int:
        """Counts the epochs to come to a phase; returns how many came before it."""
        self._phase = phase
        return sum(epoch["phase"] < phase for epoch in self.history.epochs)

    def restore(self, model: keras.Model) -> None:
        """Puts weights and optimiser back to where the last whole epoch left them."""
        # Unbuilt, the optimiser has no moments to load into, and would silently start from none.
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self._latest(self.epochs_done - 1))

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch, as they were measured."""
        with np.load(self._best(self.history.best_epoch)) as weights:
            model.set_weights(list(weights.values()))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self.history.epochs.append({"phase": self._phase} | measured)
        latest, best = self._latest(epoch), self._best(self.history.best_epoch)
        self.model.save_weights(latest)
        _flush(latest)
        if self.history.best_epoch == epoch:
            with averaged_weights(self.model):
                np.savez(best, *self.model.get_weights())
            _flush(best)
        self._replace_state()
        for path in self._directory.glob("epoch-*"):
            if path not in (latest, best):
                path.unlink()
        if self.history.has_stalled(self._phase):
            self.model.stop_training = True

    def _latest(self, epoch: int) -> Path:
        return self._directory / f"epoch-{epoch + 1:04d}.weights.h5"

    def _best(self, epoch: int) -> Path:
        return self._directory / f"epoch-{epoch + 1:04d}.npz"

    def _is_intact(self) -> bool:
        """Whether the files that the state names are whole, as far as their tables of contents tell."""
        try:
            h5py.File(self._latest(self.epochs_done - 1)).close()
            zipfile.ZipFile(self._best(self.history.best_epoch)).close()
        except (OSError, zipfile.BadZipFile):
            return False
        return True

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
