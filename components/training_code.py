"""The code that decides what a training comes to, for its fingerprint."""

from typing import Final

import components.dataset
import components.imaging
import components.serving.config
import components.trainer
import components.transform
import models

TRAINING_CODE: Final = (
    components.trainer,
    components.transform,
    components.imaging,
    components.dataset,
    components.serving.config,
    models,
)
"""Of the Transform, too: its graph, through which the Trainer reads, is known by nothing else."""
