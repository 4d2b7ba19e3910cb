"""The Trainer's settings, how its blocks may contradict each other, and the transform graph's constants."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from pydantic import Field, model_validator

from components.dataset.labels import LabelSet
from components.imaging.reading import InputSize, Reading
from components.settings import Settings
from components.trainer.model_config import ModelConfig
from components.trainer.training_config import AugmentationConfig, TrainingConfig
from models.options import scaled_size


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
    seen = {(height, width)}
    for scale in model.test_time_augmentation.scales:
        size = scaled_size(height, width, scale, model.stride)
        if size in seen:
            yield (
                f"model.test_time_augmentation.scales has {scale:g}, which makes {size[0]} x {size[1]} "
                f"pixels, the nearest multiple of {model.stride}, as another scale does; take one further "
                "away, or leave it out"
            )
        seen.add(size)
    weights = training.class_weights
    if isinstance(weights, tuple) and len(weights) != labels.num_classes:
        yield (
            f"training.class_weights has {len(weights)} values for {labels.num_classes} classes; "
            f"give one each for {', '.join(labels.names)}"
        )
    if height != width and augmentation.rot90:
        yield (
            f"augmentation turns by rot90, but the input is {height} x {width}; "
            "make transform.height and transform.width equal, or leave rot90 out"
        )
    if channels != 3:
        for key in [key for key in ("saturation", "hue") if getattr(augmentation, key)]:
            yield f"augmentation changes {key}, but images have {channels} channels, not 3; leave it out"


class TrainerSettings(Settings):
    """Everything ``run_fn`` needs to know.

    Part of the component's parameters, and so of TFX's cache key: a change to any of it trains anew.
    """

    name: str
    """The recipe's."""
    dataset: dict[str, Any] = Field(default_factory=dict)
    """The recipe's block, for the record alone."""
    transform: dict[str, Any] = Field(default_factory=dict)
    """Likewise."""
    labels: LabelSet
    input_size: InputSize
    """The network's input, and how pictures are brought to it."""
    reading: Reading = Reading()
    """How images become pixels."""
    materialized: bool
    """Whether the examples are Transform's output or still the original files' bytes."""
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
    checkpoint_dir: str | None = None
    """Where an interrupted training finds itself again; None keeps no checkpoints beyond the run."""
    encoder_digest: str = ""
    """SHA-256 of the file that model.encoder_weights names, so that other weights train anew; empty where it
    names none, or the Trainer reads it on another machine."""
    code_fingerprint: str = ""
    """Changes with the code, so that changed code trains anew."""

    @property
    def height(self) -> int:
        """Of the network's input, pixels."""
        return self.input_size.height

    @property
    def width(self) -> int:
        """Likewise."""
        return self.input_size.width

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return self.reading.channels

    @model_validator(mode="after")
    def _blocks_agree(self) -> Self:
        input_shape = (self.height, self.width, self.channels)
        problems = list(
            contradictions(self.model, self.augmentation, self.training, self.labels, input_shape)
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def identity(self) -> str:
        """Returns a text that two settings share whose trainings may go on from each other's checkpoints.

        What it leaves out decides about speed and memory, or about the exported model alone, as names and
        colours of classes do. Dataset and
        transform are told apart by the files that come of them, and ``mixed_precision`` by what it comes to
        on the hardware at hand.
        """
        windows_apart = self.model_copy(update={"input_size": self.input_size._replace(overlap=0.0)})
        learnt = windows_apart.model_dump_json(
            exclude={
                "name": True,
                "labels": True,
                "dataset": True,
                "transform": True,
                "checkpoint_dir": True,
                "model": {"test_time_augmentation"},
                "training": {"cache_bytes", "jit_compile", "mixed_precision"},
            }
        )
        return f"{self.labels.num_classes} classes {learnt}"

    def made_from(self) -> dict[str, Any]:
        """Returns the part of the recipe that makes the model, as it is written into the model."""
        blocks = ("name", "dataset", "transform", "model", "augmentation", "training")
        values = self.model_dump(mode="json", include=set(blocks))
        return {block: values[block] for block in blocks}


class Constants(NamedTuple):
    """What the transform graph learnt from the training split, which training needs besides pixels."""

    pixel_scale: tuple[float, ...]
    pixel_offset: tuple[float, ...]
    class_pixels: tuple[int, ...]


def untrained_classes(labels: LabelSet, constants: Constants) -> list[str]:
    """Returns the names of the classes that no pixel of the training split is of."""
    return [name for name, pixels in zip(labels.names, constants.class_pixels, strict=True) if not pixels]
