"""The record of how far a training is, in light imports for the views that only watch."""

from dataclasses import dataclass
from typing import Final

TICKS: Final = "components.trainer.ticks"
"""Name of the logger whose DEBUG records tell, about twice a second, how far an epoch is. They go nowhere by
themselves: such a record is for a view that is drawn anew, not for a log."""

RECORD_ATTRIBUTE: Final = "progress"
"""Attribute of a log record that has the ``TrainingProgress`` of which its message speaks."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training is, and what was measured last."""

    epoch: int
    """The epoch being trained, or, if all its steps are done, just finished; counted from 1."""
    epochs: int
    """The last epoch there can be; early stopping may end the training before."""
    step: int
    """Steps of the epoch that are done."""
    steps: int
    """Steps an epoch has."""
    loss: float | None
    """Mean training loss of the last finished epoch; None in the first one."""
    val_mean_iou: float | None
    """Mean IoU on the val split at the network's input size after the last finished epoch."""
    images_per_second: float | None
    """Training examples a second, validation excluded; None where nothing could be measured yet."""
    seconds_left: float | None
    """Until the last epoch ends, at the pace so far."""
