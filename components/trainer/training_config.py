"""The recipe's ``training`` block."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from components.settings import Settings
from models.options import ClassWeighting, LossName

NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
ClassWeights = Annotated[
    Annotated[ClassWeighting, Tag("method")] | Annotated[tuple[NotNegative, ...], Tag("factors")],
    # Told which of the two is meant, pydantic complains about that one only.
    Discriminator(lambda value: "method" if isinstance(value, str) else "factors"),
]


class TrainingConfig(Settings):
    """How the model is fitted."""

    epochs: int = Field(default=30, ge=1, le=1_000_000)
    """With a frozen encoder, those of the decoder alone."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Examples a step, over all devices together."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """What turns gradients into steps; ``sgd`` has Nesterov's momentum."""
    learning_rate: Positive = 1e-3
    """The optimiser's step size, the highest of the schedule."""
    weight_decay: NotNegative = 0.0
    """Share of the kernels taken off at each step, times the learning rate; for adamw and sgd."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """For sgd."""
    schedule: Literal["constant", "cosine", "polynomial"] = "constant"
    """How the learning rate goes on: ``constant``, or falling to 0 by the last epoch; ``polynomial`` has the
    power 0.9."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs in which the learning rate rises to its value, before the schedule begins."""
    ema_momentum: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Validate and export an exponential moving average of the weights, e.g. 0.99; null the last weights.
    It starts at the initial weights and takes about 5 / (1 - momentum) steps to forget them: 500 for 0.99.
    Batch normalisation keeps the statistics of the last weights, which suits a schedule that ends at 0."""
    gradient_clip_norm: Positive | None = None
    """Longest gradient, over all weights together; null clips nothing."""
    loss: dict[LossName, Positive] = Field(default={"cross_entropy": 1.0}, min_length=1)
    """The losses that are added up, each with its weight."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the truth given to all classes alike; for cross_entropy and focal."""
    focal_gamma: NotNegative = 2.0
    """How strongly focal fades pixels that are already right."""
    tversky_alpha: NotNegative = 0.3
    """Weight of false positives in tversky."""
    tversky_beta: Positive = 0.7
    """Weight of false negatives in tversky."""
    class_weights: ClassWeights = "none"
    """Weights from the pixel counts of the training split, or a list of them, one a class."""
    early_stopping_patience: int | None = Field(default=5, ge=1)
    """Epochs without a better val split before training stops; null trains every epoch."""
    monitor: Literal["iou", "loss"] = "iou"
    """What makes an epoch better on the val split: the IoU or the loss."""
    fine_tuning_epochs: int = Field(default=0, ge=0, le=1_000_000)
    """Epochs after the others in which a frozen encoder trains as well."""
    fine_tuning_learning_rate: Positive | None = None
    """The learning rate of these; null is a tenth of ``learning_rate``."""
    mixed_precision: Literal["none", "float16", "bfloat16"] | None = None
    """Number format of the network's activations; null decides by the GPUs: bfloat16 from compute capability
    8.0 on, float16 from 7.0 on. It is 32 bits on CPUs, where bfloat16 pays with AVX512-BF16 or AMX only."""
    jit_compile: bool | None = None
    """Compile steps with XLA; null decides by the hardware."""
    cache_bytes: int = Field(default=4 * 2**30, ge=0)
    """Decoded uint8 pixels of train and val are kept in memory after the first epoch if they take no more
    than this, otherwise on disk."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Initial weights, shuffling, augmentation and dropout."""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.warmup_epochs >= self.epochs:
            yield (
                f"training.warmup_epochs is {self.warmup_epochs}, which leaves nothing of the "
                f"{self.epochs} training.epochs; take fewer"
            )
        if self.fine_tuning_learning_rate is not None and not self.fine_tuning_epochs:
            yield (
                f"training.fine_tuning_learning_rate is {self.fine_tuning_learning_rate}, but "
                "training.fine_tuning_epochs is 0; give it epochs, or leave the rate out"
            )
        if self.optimizer == "adamw" and not self.weight_decay:
            yield (
                "training.optimizer is adamw, but training.weight_decay is 0; "
                "give it one, such as 0.1, or take adam"
            )
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            yield "training.class_weights are all 0; give at least one class a weight above 0"
        for keys, owner, choices in (
            (("weight_decay",), "optimizer", ("adamw", "sgd")),
            (("momentum",), "optimizer", ("sgd",)),
            (("label_smoothing",), "loss", ("cross_entropy", "focal")),
            (("focal_gamma",), "loss", ("focal",)),
            (("tversky_alpha", "tversky_beta"), "loss", ("tversky",)),
        ):
            chosen = (self.optimizer,) if owner == "optimizer" else tuple(self.loss)
            if set(choices) & set(chosen):
                continue
            for key in keys:
                value = getattr(self, key)
                if value != type(self).model_fields[key].default:
                    yield (
                        f"training.{key} is {value}, but training.{owner} is {', '.join(chosen)}; "
                        f"it belongs to {' and '.join(choices)}"
                    )
