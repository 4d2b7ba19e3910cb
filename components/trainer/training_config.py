"""The recipe's ``training`` and ``augmentation`` blocks."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    create_model,
    model_serializer,
    model_validator,
)

from components.settings import Settings
from models.losses import LOSSES, WEIGHT, Loss, Parameter
from models.options import ClassWeighting

NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
ClassWeights = Annotated[
    Annotated[ClassWeighting, Tag("method")] | Annotated[tuple[NotNegative, ...], Tag("factors")],
    # Told which of the two is meant, pydantic complains about that one only.
    Discriminator(lambda value: "method" if isinstance(value, str) else "factors"),
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Scale = Annotated[float, Field(ge=0.5, le=10.0)]
"""A factor of an image's sides. Below a half, reading between pixels skips some: pictures would get grainier
than any that is served."""


def _loss_field(name: str, loss: Loss) -> tuple[Any, None]:
    """Returns type and default of a registered loss's key: a block of its parameters, or its weight alone."""

    def field(parameter: Parameter) -> tuple[type[float], Any]:
        bounds: dict[str, Any] = parameter.bounds
        return float, Field(default=parameter.default, description=parameter.meaning, **bounds)

    parameters = {"weight": WEIGHT} | loss.parameters
    fields: dict[str, Any] = {key: field(parameter) for key, parameter in parameters.items()}
    block = create_model(name, __base__=Settings, __doc__=loss.meaning, **fields)
    choice = Annotated[
        Annotated[Positive, Tag("weight")] | Annotated[block, Tag("block")],
        Discriminator(lambda value: "block" if isinstance(value, Mapping | Settings) else "weight"),
        AfterValidator(lambda value: block(weight=value) if isinstance(value, float) else value),
    ]
    return choice | None, None


_LOSS_FIELDS: dict[str, Any] = {name: _loss_field(name, loss) for name, loss in LOSSES.items()}


class LossConfig(create_model("Losses", __base__=Settings, **_LOSS_FIELDS)):  # type: ignore[misc]
    """The losses that are added up, by default cross_entropy alone; a number is a weight:
    ``{cross_entropy: 1, focal: {weight: 0.5, gamma: 1}}``.
    """

    @model_validator(mode="after")
    def _has_a_loss(self) -> Self:
        if not self.model_dump():
            raise ValueError(f"training.loss is empty; give at least one a weight: {', '.join(LOSSES)}")
        return self

    @model_serializer(mode="wrap")
    def _chosen(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: parameters for name, parameters in serialize(self).items() if parameters is not None}


class TrainingConfig(Settings):
    """How the model is fitted."""

    epochs: int = Field(default=30, ge=1, le=1_000_000)
    """With a frozen encoder, those of the decoder alone."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Examples a step, over all devices together."""
    windows_per_epoch: int | None = Field(default=None, ge=1, le=10_000_000)
    """With ``transform.resize: native``: windows that an epoch shows, cut at random places, rounded up to
    whole batches; null is as many as have the pixels of all training pictures, one a picture at least."""
    foreground_windows: Share = 0.33
    """With ``transform.resize: native``: the share of the windows that are laid around a pixel of one of the
    classes but the commonest, the rare ones as often as the others."""
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
    It starts at the weights after the first step and takes about 5 / (1 - momentum) steps to forget them: 500
    for 0.99."""
    gradient_clip_norm: Positive | None = None
    """Longest gradient, over all weights together; null clips nothing."""
    loss: LossConfig = LossConfig(cross_entropy=1.0)
    class_weights: ClassWeights = "none"
    """Weights from the pixel counts of the training split, or a list of them, one a class."""
    early_stopping_patience: int | None = Field(default=5, ge=1)
    """Epochs without a better IoU on the val split before training stops; null trains every epoch."""
    fine_tuning_epochs: int = Field(default=0, ge=0, le=1_000_000)
    """Epochs after the others in which a frozen encoder trains as well."""
    fine_tuning_learning_rate: Positive | None = None
    """The learning rate of these; null is a tenth of ``learning_rate``."""
    mixed_precision: Literal["none", "float16", "bfloat16"] | None = None
    """Number format of the network's activations; null decides by the GPUs: bfloat16 from compute capability
    8.0 on, float16 from 7.0 on. It is 32 bits on CPUs, where bfloat16 pays with AVX512-BF16 or AMX only."""
    jit_compile: bool | None = None
    """Compile steps with XLA; null does for one GPU, but not for NVIDIA's from compute capability
    10 on."""
    cache_bytes: int = Field(default=4 * 2**30, ge=0)
    """Decoded uint8 pixels of train and val are kept in memory if they take no more than this, otherwise on
    disk."""
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
        for key, choices in (("weight_decay", ("adamw", "sgd")), ("momentum", ("sgd",))):
            value = getattr(self, key)
            if self.optimizer not in choices and value != type(self).model_fields[key].default:
                yield (
                    f"training.{key} is {value}, but training.optimizer is {self.optimizer}; "
                    f"it belongs to {' and '.join(choices)}"
                )


class AugmentationConfig(Settings):
    """Changes to training pairs, drawn at random for each; never applied in validation or evaluation."""

    horizontal_flip: bool = False
    """Mirror half of the pairs left to right."""
    vertical_flip: bool = False
    """Mirror half of the pairs top to bottom."""
    rot90: bool = False
    """Turn by 0, 1, 2 or 3 quarters; the input must be square."""
    rotate: float = Field(default=0.0, ge=0.0, le=180.0)
    """Largest angle either way, degrees."""
    scale_crop: tuple[Scale, Scale] | None = None
    """Enlarge by a factor from this range and cut the input's size out, e.g. ``[0.5, 2.0]``; what is made
    smaller is put at a random place, and nothing around it counts. With ``transform.resize: native``, what is
    around a window is the picture, as far as it goes."""
    brightness: Share = 0.0
    """Largest change either way, as a share of the full range."""
    contrast: Share = 0.0
    """Largest change either way, as a share, about the mean of the whole input: with ``transform.resize:
    letterbox`` its black padding is part of that, so pictures become lighter and darker, too."""
    saturation: Share = 0.0
    """Largest change either way, as a share."""
    hue: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest turn of the colour circle either way, as a share of a full one."""
    gamma: float = Field(default=0.0, ge=0.0, le=10.0)
    """The exponent lies between 1 / (1 + gamma) and 1 + gamma."""
    blur: float = Field(default=0.0, ge=0.0, le=32.0)
    """Largest standard deviation of a Gaussian, pixels."""
    noise: Share = 0.0
    """Largest standard deviation, as a share of the full range."""

    @model_validator(mode="after")
    def _range_is_a_range(self) -> Self:
        if self.scale_crop is not None and self.scale_crop[0] > self.scale_crop[1]:
            low, high = self.scale_crop
            raise ValueError(
                f"augmentation.scale_crop is [{low}, {high}]; give the smaller first: [{high}, {low}]"
            )
        return self
