"""The recipe's ``model`` block."""

from typing import Annotated, Self

from pydantic import Discriminator, Field, Tag, model_validator

from components.settings import Settings
from components.trainer.training_config import Scale
from models.options import EncoderName, Joining, Normalization, Upsampling, encoder_stride, stride

DEFAULT_DEPTH = 5
"""Levels of a U-Net from scratch."""
MAX_DEPTH = 8

MAX_FILTERS = 1024
"""Of any level: one 3x3 kernel then has 38 MB, and beyond that they grow with the square."""
_DECODER_LEVELS = 4
"""Of a decoder on an encoder."""

LevelFilters = Annotated[int, Field(ge=1, le=MAX_FILTERS)]
Filters = Annotated[
    Annotated[LevelFilters, Tag("finest")] | Annotated[tuple[LevelFilters, ...], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, list | tuple) else "finest"),
]


class TestTimeAugmentation(Settings):
    """The served model answers with the mean over these versions of an image; training is not concerned."""

    horizontal_flip: bool = False
    """The image and its mirror image: better, for twice the work."""
    scales: tuple[Scale, ...] = ()
    """The image at these sizes, too, as factors of its sides, e.g. ``[1.25]``: better, for the square of each
    factor in work."""


class ModelConfig(Settings):
    """A U-Net from scratch (Ronneberger et al., 2015), or a decoder on an encoder that Keras knows."""

    encoder: EncoderName | None = None
    """Classification network whose features the decoder starts from; null is a U-Net from scratch."""
    encoder_weights: str | None = None
    """``imagenet``, or a weights file in Keras's format; null starts the encoder at random."""
    freeze_encoder: bool = False
    """Train the decoder alone, as long as ``training.fine_tuning_epochs`` does not begin."""
    filters: Filters = 32
    """Filters of the finest level, with an encoder of the decoder at half the image's size; each deeper level
    has twice as many. Or a list, one number a level of a U-Net from scratch, finest first."""
    depth: int | None = Field(default=None, ge=2, le=MAX_DEPTH)
    """Resolutions of a U-Net from scratch, whose input is halved ``depth - 1`` times; null is 5, or as many
    as there are filters in a list."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of activations dropped in the two deepest levels."""
    normalization: Normalization = "none"
    """Normalisation after each convolution."""
    upsampling: Upsampling = "transposed"
    """How the decoder doubles a size."""
    joining: Joining = "concatenate"
    """How the decoder takes in the encoder's features: side by side, or, for less work, ``add``."""
    strided_stem: bool = False
    """Start a U-Net from scratch at half the size, and read the classes at the full one: far less work."""
    head_convolution: bool = True
    """A last 3x3 convolution before the classes are read."""
    test_time_augmentation: TestTimeAugmentation = TestTimeAugmentation()

    @property
    def levels(self) -> int:
        """Resolutions of a U-Net from scratch."""
        if isinstance(self.filters, tuple):
            return len(self.filters)
        return DEFAULT_DEPTH if self.depth is None else self.depth

    @property
    def stride(self) -> int:
        """The number of pixels by which height and width of the input must be divisible."""
        if self.encoder is not None:
            return encoder_stride(self.encoder)
        return stride(self.levels + self.strided_stem)

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
        if isinstance(self.filters, int):
            levels = self.levels if self.encoder is None else _DECODER_LEVELS
            deepest = self.filters * 2 ** (levels - 1)
            if deepest > MAX_FILTERS:
                raise ValueError(
                    f"model.filters is {self.filters}, which makes {deepest:,} at the deepest of {levels} "
                    f"levels; take {MAX_FILTERS // 2 ** (levels - 1)} at most"
                )
        if self.encoder is not None and self.strided_stem:
            raise ValueError(
                f"model.strided_stem is true, but the stem of {self.encoder} is its own; "
                "leave model.strided_stem out, or set model.encoder to null for a U-Net from scratch"
            )
        if self.encoder is None:
            for key in ("encoder_weights", "freeze_encoder"):
                if value := getattr(self, key):
                    raise ValueError(
                        f"model.{key} is {_yaml(value)}, but there is no encoder; "
                        f"name one as model.encoder, or leave model.{key} out"
                    )
        return self


def _yaml(value: bool | str) -> str:
    return "true" if value is True else repr(value)
