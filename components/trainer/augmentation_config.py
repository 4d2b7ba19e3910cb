"""The recipe's ``augmentation`` block."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.settings import Settings
from models.options import VariantName

CropScale = Annotated[float, Field(ge=0.5, le=10.0)]
"""Below a half, reading between pixels skips some: pictures would get grainier than any that is served."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]


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
    zoom: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest change of size either way, as a share."""
    translate: Share = 0.0
    """Largest shift either way, as a share of the side."""
    shear: float = Field(default=0.0, ge=0.0, lt=90.0)
    """Largest angle either way, degrees."""
    scale_crop: tuple[CropScale, CropScale] | None = None
    """Enlarge by a factor from this range and cut the input's size out, e.g. ``[0.5, 2.0]``; what is made
    smaller is put at a random place, and nothing around it counts."""
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
    variants: tuple[VariantConfig, ...] = ()
    """Fixed changes, for each of which the training set is repeated once beside the originals."""

    @model_validator(mode="after")
    def _range_is_a_range(self) -> Self:
        if self.scale_crop is not None and self.scale_crop[0] > self.scale_crop[1]:
            low, high = self.scale_crop
            raise ValueError(
                f"augmentation.scale_crop is [{low}, {high}]; give the smaller first: [{high}, {low}]"
            )
        return self
