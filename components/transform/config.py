"""The recipe's ``transform`` block."""

from typing import Literal

from pydantic import Field

from components.settings import Settings


class TransformConfig(Settings):
    """What the network sees of an image."""

    height: int = Field(default=128, ge=1, le=8192)
    """Height of the network's input in pixels; a multiple of the U-Net's stride, 2^(depth - 1)."""
    width: int = Field(default=128, ge=1, le=8192)
    """Width of the network's input in pixels; a multiple of the U-Net's stride, 2^(depth - 1)."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """``stretch`` fills the input; ``letterbox`` keeps the aspect ratio and pads, ignored in masks."""
    normalization: Literal["unit", "signed", "imagenet", "dataset"] = "unit"
    """``unit`` 0…1, ``signed`` -1…1, ``imagenet`` or ``dataset``: zero mean and unit variance a channel."""
    materialize: bool = False
    """True: Beam writes the resized pixels, for a cluster; False: the Trainer applies the graph itself."""
