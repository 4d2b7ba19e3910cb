"""The recipe's ``transform`` block."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from components.imaging.reading import Bands, InputSize, ResizeMethod
from components.settings import Settings

Normalization = Literal["unit", "signed", "imagenet", "dataset"]


def _channels_or_bands(value: Any) -> Any:
    if isinstance(value, list | tuple):
        fits = bool(value) and all(type(band) is int and band >= 1 for band in value)
    else:
        fits = type(value) is int and value in (1, 3, 4)
    if not fits:
        raise ValueError(
            "1, 3 and 4 are read, or a list of bands, counted from 1, such as [1, 2, 3, 4, 5, 6]"
        )
    return value


_BandList = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False)]


class TransformConfig(Settings):
    """What the network sees of an image."""

    height: int = Field(default=128, ge=1, le=8192)
    """Height of the network's input in pixels; a multiple of the network's stride."""
    width: int = Field(default=128, ge=1, le=8192)
    """Width of the network's input in pixels; a multiple of the network's stride."""
    channels: Annotated[Literal[1, 3, 4] | _BandList, BeforeValidator(_channels_or_bands)] = 3
    """What is read of an image: 1 its luma, 3 RGB, 4 RGB and alpha, 255 where it has none. Or a list of its
    bands, counted from 1, in the order in which the network gets them, such as ``[4, 3, 2, 1, 6]``; TIFFs may
    have any number of them, gray pictures have 1, RGB 3."""
    resize: ResizeMethod = "stretch"
    """``stretch`` fills the input; ``letterbox`` keeps the aspect ratio and pads, ignored in masks;
    ``native`` leaves pictures as large as they are: the network learns from windows of ``height`` x
    ``width``, and a picture is segmented window by window."""
    scale: float = Field(default=1.0, ge=0.05, le=4.0)
    """For ``native``: a factor of the pictures' sides, below 1 where they are larger than they need be."""
    overlap: float = Field(default=0.5, ge=0.0, le=0.9)
    """For ``native``: the share of a side by which neighbouring windows overlap in evaluation and serving."""
    normalization: Normalization | None = None
    """``unit`` 0…1, ``signed`` -1…1, ``imagenet`` or ``dataset``: zero mean and unit variance a channel;
    null is what a pretrained encoder was trained with, and ``unit`` without one."""
    materialize: bool = False
    """True: Beam writes the resized pixels, for a cluster; False: the Trainer applies the graph itself."""

    @model_validator(mode="after")
    def _channels_have_moments(self) -> Self:
        if self.normalization == "imagenet" and self.num_channels != 3:
            raise ValueError(
                f"transform.normalization is imagenet, whose moments are those of 3 channels, but "
                f"transform.channels is {self.num_channels}; use unit, signed or dataset, or 3 channels"
            )
        return self

    @model_validator(mode="after")
    def _windows_are_native(self) -> Self:
        for key in ("scale", "overlap"):
            value = getattr(self, key)
            if self.resize != "native" and value != type(self).model_fields[key].default:
                raise ValueError(
                    f"transform.{key} is {value:g}, but transform.resize is {self.resize}; "
                    "it belongs to native"
                )
        return self

    @property
    def num_channels(self) -> int:
        """How many channels the network's input has."""
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    @property
    def bands(self) -> Bands | None:
        """The bands that are read by number; None for luma, RGB and alpha."""
        return None if isinstance(self.channels, int) else self.channels

    @property
    def input_size(self) -> InputSize:
        """The network's input, and how pictures are brought to it."""
        return InputSize(self.height, self.width, self.resize, self.scale, self.overlap)
