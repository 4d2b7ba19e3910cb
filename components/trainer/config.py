"""The recipe's ``model``, ``augmentation`` and ``training`` blocks, and what the Trainer is handed."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from components.dataset.labels import LabelSet
from components.settings import Settings
from models.geometry import encoder_stride, stride
from models.options import ClassWeighting, EncoderName, LossName, Normalization, Upsampling, VariantName

DEFAULT_DEPTH = 5
"""Levels of a U-Net from scratch."""
MAX_DEPTH = 8

_ODD_TURNS = (("rot90", 1), ("rot90", 3))

LevelFilters = Annotated[int, Field(ge=1, le=1024)]
Filters = Annotated[
    Annotated[LevelFilters, Tag("finest")] | Annotated[tuple[LevelFilters, ...], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, list | tuple) else "finest"),
]
Scale = Annotated[float, Field(ge=0.1, le=10.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
ClassWeights = Annotated[
    Annotated[ClassWeighting, Tag("method")] | Annotated[tuple[NotNegative, ...], Tag("factors")],
    # Told which of the two is meant, pydantic complains about that one only.
    Discriminator(lambda value: "method" if isinstance(value, str) else "factors"),
]


class ModelConfig(Settings):
    """A U-Net from scratch (Ronneberger et al., 2015), or a decoder on an encoder that Keras knows."""

    encoder: EncoderName | None = None
    """Classification network whose features the decoder starts from; null is a U-Net from scratch."""
    encoder_weights: str | None = None
    """``imagenet``, or a weights file in Keras's format; null starts the encoder at random."""
    freeze_encoder: bool = False
    """Train the decoder alone, as long as ``training.fine_tuning_epochs`` does not begin."""
    filters: Filters = 32
    """Filters of the finest level, with an encoder of the decoder's; each deeper level has twice as many.
    Or a list, one number a level of a U-Net from scratch, finest first."""
    depth: int | None = Field(default=None, ge=2, le=MAX_DEPTH)
    """Resolutions of a U-Net from scratch, whose input is halved ``depth - 1`` times; null is 5, or as many
    as there are filters in a list."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of activations dropped in the two deepest levels."""
    normalization: Normalization = "none"
    """Normalisation after each convolution."""
    upsampling: Upsampling = "transposed"
    """How the decoder doubles a size."""
    head_convolution: bool = True
    """A last 3x3 convolution before the classes are read."""
    average_mirrored: bool = False
    """Serve the mean of what is said of an image and of its mirror image: better, for twice the work."""
    average_scales: tuple[Scale, ...] = ()
    """Serve the mean over the image at these sizes, too, as factors of its sides, e.g. ``[1.25]``: better,
    for the square of each factor in work."""

    @property
    def levels(self) -> int:
        """Resolutions of a U-Net from scratch."""
        if isinstance(self.filters, tuple):
            return len(self.filters)
        return DEFAULT_DEPTH if self.depth is None else self.depth

    @property
    def stride(self) -> int:
        """The number of pixels by which height and width of the input must be divisible."""
        return stride(self.levels) if self.encoder is None else encoder_stride(self.encoder)

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.encoder is not None and self.depth is not None:
            raise ValueError(
                f"model.depth is {self.depth}, but the depth of {self.encoder} is its own; "
                "set model.depth to null, or model.encoder to null for a U-Net from scratch"
            )
        if isinstance(self.filters, tuple):
            if self.encoder is not None:
                raise ValueError(
                    f"model.filters is a list, but the levels are those of {self.encoder}; give the finest "
                    "level's filters alone, or set model.encoder to null for a U-Net from scratch"
                )
            if not 2 <= len(self.filters) <= MAX_DEPTH:
                raise ValueError(
                    f"model.filters has {len(self.filters)} values, one a level; give 2 to {MAX_DEPTH}"
                )
            if self.depth not in (None, len(self.filters)):
                raise ValueError(
                    f"model.depth is {self.depth}, but model.filters has {len(self.filters)} values; "
                    "leave model.depth out"
                )
        if self.encoder is None:
            for key in ("encoder_weights", "freeze_encoder"):
                if value := getattr(self, key):
                    raise ValueError(
                        f"model.{key} is {_yaml(value)}, but there is no encoder; "
                        f"name one as model.encoder, or leave model.{key} out"
                    )
        return self


class VariantConfig(Settings):
    """One fixed change to a training pair; give exactly one key."""

    brightness: float | None = Field(default=None, ge=-1.0, le=1.0)
    """Added to the pixels, as a share of the full range."""
    gamma: float | None = Field(default=None, gt=0.0, le=10.0)
    """Exponent of the pixels, taken as 0 … 1."""
    hue: float | None = Field(default=None, ge=-0.5, le=0.5)
    """Share of a turn of the colour circle."""
    central_crop: float | None = Field(default=None, gt=0.0, le=1.0)
    """Share of each side that is kept from the middle and enlarged to the full size."""
    horizontal_flip: Literal[True] | None = None
    """Mirror left to right."""
    vertical_flip: Literal[True] | None = None
    """Mirror top to bottom."""
    rot90: int | None = Field(default=None, ge=1, le=3)
    """Quarter turns counter-clockwise."""

    @property
    def change(self) -> tuple[VariantName, float]:
        """Name and value of the change, as ``models.augmentation.apply_variant`` takes them."""
        given: dict[VariantName, float] = self.model_dump(exclude_none=True)  # type: ignore[assignment]
        [change] = given.items()
        return change

    @model_validator(mode="after")
    def _is_one_change(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(
                f"a variant is one change, such as {{gamma: 0.1}}, not {len(given)}; "
                "write several as several items of the list"
            )
        return self


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
    zoom: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest change of size either way, as a share."""
    translate: Share = 0.0
    """Largest shift either way, as a share of the side."""
    shear: float = Field(default=0.0, ge=0.0, lt=90.0)
    """Largest angle either way, degrees."""
    scale_crop: tuple[Scale, Scale] | None = None
    """Enlarge by a factor from this range and cut the input's size out, e.g. ``[0.5, 2.0]``."""
    brightness: Share = 0.0
    """Largest change either way, as a share of the full range."""
    contrast: Share = 0.0
    """Largest change either way, as a share."""
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
    copy_paste: Share = 0.0
    """Share of the pairs onto which what another pair shows of ``pasted_classes`` is pasted."""
    pasted_classes: tuple[str, ...] = ()
    """All classes that make up an object and its outline, e.g. ``[pet, border]``."""
    variants: tuple[VariantConfig, ...] = ()
    """Fixed changes, for each of which the training set is repeated once beside the originals."""

    @model_validator(mode="after")
    def _range_is_a_range(self) -> Self:
        if self.scale_crop is not None and self.scale_crop[0] > self.scale_crop[1]:
            low, high = self.scale_crop
            raise ValueError(
                f"augmentation.scale_crop is [{low}, {high}]; give the smaller first: [{high}, {low}]"
            )
        if bool(self.copy_paste) != bool(self.pasted_classes):
            raise ValueError(
                f"augmentation.copy_paste is {self.copy_paste:g} and pasted_classes names "
                f"{len(self.pasted_classes)} classes; give both, or leave both out"
            )
        return self


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
    """How the learning rate falls to 0 by the last epoch; ``polynomial`` has the power 0.9."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs in which the learning rate rises to its value, before the schedule begins."""
    ema_momentum: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Validate and export an exponential moving average of the weights, e.g. 0.99; null the last weights.
    It starts at the initial weights and takes about 5 / (1 - momentum) steps to forget them: 500 for 0.99."""
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


def contradictions(
    model: ModelConfig,
    augmentation: AugmentationConfig,
    training: TrainingConfig,
    labels: LabelSet,
    input_shape: tuple[int, int, int],
) -> Iterator[str]:
    """Yields a line for each thing in which the blocks disagree with each other or with the data.

    ``input_shape`` is the height, width and channels of the network's input.
    """
    height, width, channels = input_shape
    if training.fine_tuning_epochs and not model.freeze_encoder:
        yield (
            f"training.fine_tuning_epochs is {training.fine_tuning_epochs}, but nothing is frozen before; "
            "set model.freeze_encoder to true, or give the epochs to training.epochs"
        )
    if model.encoder_weights is not None and channels != 3:
        yield (
            f"model.encoder_weights is {model.encoder_weights!r}, trained on 3 channels, but "
            f"transform.channels is {channels}; set the channels to 3, or the weights to null"
        )
    weights = training.class_weights
    if isinstance(weights, tuple) and len(weights) != labels.num_classes:
        yield (
            f"training.class_weights has {len(weights)} values for {labels.num_classes} classes; "
            f"give one each for {', '.join(labels.names)}"
        )
    for name in augmentation.pasted_classes:
        if name not in labels.names:
            yield (
                f"augmentation.pasted_classes names the class {name!r}, which does not exist; "
                f"the classes are {', '.join(labels.names)}"
            )
    variants = [variant.change for variant in augmentation.variants]
    if height != width and (augmentation.rot90 or any(change in variants for change in _ODD_TURNS)):
        yield (
            f"augmentation turns by rot90, but the input is {height} x {width}; "
            "make transform.height and transform.width equal, or leave rot90 out"
        )
    if channels != 3:
        colors = [key for key in ("saturation", "hue") if getattr(augmentation, key)]
        colors += [name for name, _ in variants if name == "hue"]
        for key in dict.fromkeys(colors):
            yield f"augmentation changes {key}, but images have {channels} channels, not 3; leave it out"


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
    channels: int = 3
    """Of the images."""
    resize: Literal["stretch", "letterbox"]
    materialized: bool
    """Whether the examples are Transform's output or still the original files' bytes."""
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
    checkpoint_dir: str | None = None
    """Where an interrupted training finds itself again; None keeps no checkpoints beyond the run."""
    encoder_digest: str = ""
    """Changes with the content of the file that model.encoder_weights names, so that other weights train
    anew."""
    code_fingerprint: str = ""
    """Changes with the code, so that changed code trains anew."""

    @model_validator(mode="after")
    def _blocks_agree(self) -> Self:
        input_shape = (self.height, self.width, self.channels)
        problems = list(
            contradictions(self.model, self.augmentation, self.training, self.labels, input_shape)
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def with_training(self, values: Mapping[str, Any]) -> Self:
        """Returns settings in which these keys of the recipe's ``training`` block have other values.

        Raises:
            ValidationError: a value is impossible.
        """
        changed = self.model_dump(mode="json")
        for training in (changed["training"], changed["recipe"]["training"]):
            training.update(values)
        return type(self).model_validate_json(json.dumps(changed))


def _yaml(value: bool | str) -> str:
    return "true" if value is True else repr(value)
