"""Checkpoints after every epoch, resuming from them exactly, and early stopping."""

import hashlib
import io
import json
import logging
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.errors import StageError
from components.files import flush, sha256
from components.trainer.optimizers import averaged_weights

logger = logging.getLogger(__name__)

IOU = "iou_at_input_size"
"""Name of `ResizedMeanIoU` in the history; with ``val_`` before it, of its value on the val split."""
_VAL_IOU = f"val_{IOU}"

STATE_FILE = "state.json"
"""Of a training's directory: which epochs are done, and what files they need."""

Epoch = dict[str, float]


class History:
    """What each epoch measured, and what follows from it: the best epoch, and whether to go on."""

    def __init__(self, epochs: list[Epoch], patience: int | None):
        self.epochs = epochs
        self._patience = patience

    @property
    def best_epoch(self) -> int:
        """Index of the first epoch with the best IoU on val; of the last where nothing is validated."""
        return self._best(range(len(self.epochs)))

    def has_stalled(self, phase: int) -> bool:
        """Whether ``patience`` epochs of a phase have passed since the best one of that phase."""
        indices = [index for index, epoch in enumerate(self.epochs) if epoch["phase"] == phase]
        if not indices or self._patience is None:
            return False
        return indices[-1] - self._best(indices) >= self._patience

    def _best(self, indices: Sequence[int]) -> int:
        if _VAL_IOU not in self.epochs[indices[-1]]:
            return indices[-1]
        return max(indices, key=lambda index: (self.epochs[index][_VAL_IOU], -index))


class LeavesOutUncounted(keras.callbacks.Callback):
    """Takes an IoU of no pixel, which is no number, out of what an epoch measured.

    Belongs before all that reads it. Where no pixel of val counts, that is as if there were no val split: no
    epoch is better than another, which is said once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_said = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        for name in (IOU, _VAL_IOU):
            if name in logs and not math.isfinite(logs[name]):
                del logs[name]
                if name == _VAL_IOU and not self._is_said:
                    self._is_said = True
                    logger.warning(
                        "no pixel of the val split counts, all are to be ignored: the last epoch is "
                        "exported, not the best one, and no training ends early; give it masks that say "
                        "something, or set dataset.splits.val to 0"
                    )


class _InMemory(io.BytesIO):
    """A file of weights that is on no disk yet: HDF5 ends the process where it fills one."""

    def __str__(self) -> str:
        # What Keras tells the format by.
        return ".weights.h5"


class Checkpoints(keras.callbacks.Callback):
    """Saves what training needs to go on after each epoch, and the best epoch's weights.

    ``epoch-0007.weights.h5`` holds model and optimiser as trained, ``epoch-0005.npz`` the weights as they
    were measured (the averaged ones, where the optimiser averages). Each epoch has files of its own.
    ``state.json`` is replaced by rename once they are on the disk, and only then are files removed that it
    does not need, so a process may die at any moment: what is found again is always the state after a whole
    epoch. It has the files' digests and its own: no training goes on from weights of which a bit has turned.
    """

    def __init__(self, directory: Path, patience: int | None = None):
        """Looks for a checkpoint in the directory, which is there.

        One that is damaged is put aside with all that the directory holds, and training begins anew.

        Raises:
            StageError: it cannot be read, which does not say that it is damaged.
        """
        super().__init__()
        self._phase = 1
        self._directory = directory
        self._state_file = directory / STATE_FILE
        self.history = History([], patience)
        self._steps_per_epoch = 0
        """Of the last whole epoch; how many there are depends on the devices."""
        self._digests: dict[str, str] = {}
        """SHA-256 of the files that the state is of, by name."""
        if not self._read_state():
            aside = directory.with_name(f"{directory.name}.damaged")
            logger.warning("the checkpoint in %s is damaged, and kept as %s: training anew", directory, aside)
            if aside.exists():
                shutil.rmtree(aside)
            # With the record of what was trained, which would otherwise go on from there.
            directory.rename(aside)
            directory.mkdir()

    @property
    def epochs_done(self) -> int:
        return len(self.history.epochs)

    @property
    def last_phase(self) -> int:
        """The phase of the last whole epoch; 0 before the first."""
        return int(self.history.epochs[-1]["phase"]) if self.epochs_done else 0

    @property
    def digest(self) -> str:
        """Of all that a training goes on from."""
        return _digest([self.history.epochs, self._steps_per_epoch, self._digests])

    def begin_phase(self, phase: int) -> int:
        """Counts the epochs to come to a phase; returns how many came before it."""
        self._phase = phase
        return sum(epoch["phase"] < phase for epoch in self.history.epochs)

    def restore(self, model: keras.Model, steps_per_epoch: int) -> None:
        """Puts weights and optimiser, which has its variables, back to where the last whole epoch left them.

        Where epochs had another number of steps, the optimiser's step becomes that of as many epochs of
        these: its learning rate is that of the epoch, as if all had been trained so.

        Raises:
            StageError: the checkpoint is that of another network or another optimiser.
        """
        with warnings.catch_warnings():
            # Keras only warns that it leaves an optimiser's state out, which would then start from none.
            warnings.filterwarnings("error", "Skipping variable loading")
            try:
                model.load_weights(self._latest(self.epochs_done - 1))
            except ValueError as error:
                raise StageError(
                    f"the checkpoint in {self._directory} is not that of this network and its optimiser; "
                    "remove the directory to train anew"
                ) from error
        if steps_per_epoch != self._steps_per_epoch:
            step = model.optimizer.iterations
            # Several devices have a variable that `int` does not take.
            taken = int(keras.ops.convert_to_numpy(step))
            step.assign(round(taken * steps_per_epoch / self._steps_per_epoch))

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch, as they were measured."""
        with np.load(self._best(self.history.best_epoch)) as weights:
            model.set_weights(list(weights.values()))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self.history.epochs.append({"phase": self._phase} | measured)
        latest, best = self._latest(epoch), self._best(self.history.best_epoch)
        weights = _InMemory()
        self.model.save_weights(weights)
        latest.write_bytes(weights.getbuffer())
        self._written(latest)
        if self.history.best_epoch == epoch:
            with averaged_weights(self.model):
                np.savez(best, *self.model.get_weights())
            self._written(best)
        self._digests = {path.name: self._digests[path.name] for path in (latest, best)}
        self._steps_per_epoch = int(self.params["steps"])
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

    def _written(self, path: Path) -> None:
        flush(path)
        # Now, not with each state: what changes later is damage.
        self._digests[path.name] = sha256(path)

    def _read_state(self) -> bool:
        """Reads what was trained, if anything was; returns whether all of it is there, byte for byte."""
        try:
            if self._state_file not in self._directory.iterdir():
                return True
            state = json.loads(self._state_file.read_text())
            self.history.epochs = state["epochs"]
            latest, best = self._latest(self.epochs_done - 1), self._best(self.history.best_epoch)
            self._digests = {path.name: sha256(path) for path in (latest, best)}
            self._steps_per_epoch = state["steps_per_epoch"]
            intact = state["sha256_of_epochs"] == self._digest_of_epochs()
            intact = intact and state["sha256"] == self._digests
        except FileNotFoundError:
            intact = False
        except OSError as error:
            raise StageError(
                f"{error.filename or self._state_file} cannot be read: {error.strerror}; make that possible, "
                f"or remove {self._directory} to train anew"
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError):
            intact = False
        if not intact:
            self.history.epochs, self._steps_per_epoch, self._digests = [], 0, {}
        return intact

    def _replace_state(self) -> None:
        state = {
            "epochs": self.history.epochs,
            "steps_per_epoch": self._steps_per_epoch,
            "sha256": self._digests,
            "sha256_of_epochs": self._digest_of_epochs(),
        }
        temporary = self._state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        flush(temporary)
        temporary.replace(self._state_file)
        flush(self._directory)

    def _digest_of_epochs(self) -> str:
        return _digest([self.history.epochs, self._steps_per_epoch])


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
