"""The recipe's ``model``, ``augmentation`` and ``training`` blocks, and what the Trainer is handed."""

from typing import Any, Literal

from pydantic import Field

from components.dataset.labels import LabelSet
from components.settings import Settings


class ModelConfig(Settings):
    """A U-Net from scratch (Ronneberger et al., 2015)."""

    filters: int = Field(default=32, ge=1, le=1024)
    """Filters of the first level; each deeper level has twice as many."""
    depth: int = Field(default=5, ge=2, le=8)
    """Number of resolutions; the input is halved ``depth - 1`` times."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of activations dropped in the two deepest levels."""
    normalization: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""


class AugmentationConfig(Settings):
    """Random changes to training pairs; never applied in validation or evaluation."""

    horizontal_flip: bool = False
    """Mirror half of the pairs."""


class TrainingConfig(Settings):
    """How the model is fitted."""

    epochs: int = Field(default=30, ge=1, le=1_000_000)
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Examples a step, over all devices together."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Adam's step size."""
    class_weights: Literal["none", "median_frequency"] = "none"
    """``median_frequency`` weighs rare classes up by the pixel counts of the training split."""
    early_stopping_patience: int | None = Field(default=5, ge=1)
    """Epochs without a better IoU on the val split before training stops; null trains every epoch."""
    mixed_precision: bool | None = None
    """Compute in float16; null decides by the hardware."""
    cache_bytes: int = Field(default=4 * 2**30, ge=0)
    """Decoded uint8 pixels of train and val are kept in memory after the first epoch if they take no more
    than this, otherwise on disk."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Initial weights, shuffling, augmentation and dropout."""


class TrainerSettings(Settings):
    """Everything ``run_fn`` needs to know, as JSON in the Trainer's ``custom_config``.

    Part of the component's parameters, and so of TFX's cache key: a change to any of it trains anew.
    """

    recipe: dict[str, Any]
    """What the model is made from, as it is written into the model."""
    labels: LabelSet
    height: int
    """Of the network's input, pixels."""
    width: int
    resize: Literal["stretch", "letterbox"]
    materialized: bool
    """Whether the examples are Transform's output or still the original files' bytes."""
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
    checkpoint_dir: str | None = None
    """Where an interrupted training finds itself again; None keeps no checkpoints beyond the run."""
    code_fingerprint: str = ""
    """Changes with the code, so that changed code trains anew."""
