"""How pixels are read of an image's bytes: a recipe says it, the graph does it, whoever draws knows it.

Imports neither TensorFlow nor Pillow, and no pydantic: clients read as training does, and need none of them.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Exif = Literal["upright", "stored"]
ValueRange = tuple[float, float]
"""Values of pixels that become 0 and 255."""
Bands = tuple[int, ...]
"""Numbers of bands, counted from 1."""
ResizeMethod = Literal["stretch", "letterbox", "native"]
"""How a picture comes to the network: in one piece at its input size, or in windows at its own."""

JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
START_OF_SCAN: Final = b"\xff\xda\0"
"""Begins each scan of a JPEG, and stands in no coded pixels."""
MOST_SCANS: Final = 100
"""Of a JPEG that is decoded. Each goes over all pixels, however few bytes it has; usual are ten."""
MOST_PIXELS: Final = (1 << 29) - 1
"""Of a picture that TensorFlow decodes as PNG (its ``decode_image_op.cc``), and so of any."""

MAX_SIDE: Final = 1 << 17
"""Pixels of a picture that a served model takes. What is computed a row at a time, the logits of 255
classes, then stays under 128 MiB."""


class InputSize(NamedTuple):
    """The network's input, and how a picture is brought to it."""

    height: int
    width: int
    method: ResizeMethod
    scale: float = 1.0
    """Of ``native``: a factor of the picture's sides."""
    overlap: float = 0.5
    """Of ``native``: the share of a side by which neighbouring windows overlap."""

    @property
    def keeps_pixels(self) -> bool:
        """Whether pictures stay as they are, without any resampling."""
        return self.method == "native" and self.scale == 1.0

    def content(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that a picture of these has for the network, padding left out."""
        if self.method == "stretch":
            return self.height, self.width
        if self.method == "native":
            return max(1, round(height * self.scale)), max(1, round(width * self.scale))
        factor = min(self.height / height, self.width / width)
        inner_height, inner_width = round(height * factor), round(width * factor)
        return min(max(1, inner_height), self.height), min(max(1, inner_width), self.width)


def check_ascending(value: ValueRange) -> ValueRange:
    """Returns a range; raises ValueError for what is none."""
    low, high = value
    if not low < high:
        raise ValueError(f"[{low:g}, {high:g}] is no range; the lower value comes first")
    return value


@dataclass(frozen=True)
class Reading:
    """What ``decode_image`` makes of an image.

    Raises:
        ValueError: ``value_range`` is none.
    """

    channels: int = 3
    """1 is luma, 3 RGB, 4 RGB and alpha; with ``bands`` their number."""
    bands: Bands | None = None
    """Those of a file that become channels, in their order: an image is then a gray PNG of 8 or 16 bits with
    the bands one below the other, [bands * height, width]."""
    exif: Exif | None = None
    """``upright`` applies an EXIF orientation; otherwise pixels are taken as they are stored."""
    value_range: ValueRange | None = None
    """What of more than 8 bits is spread over the 8 that the network sees; None for their upper 8."""

    def __post_init__(self) -> None:
        if self.value_range is not None:
            check_ascending(self.value_range)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha; of four bands each is one."""
        return self.channels == 4 and self.bands is None

    @property
    def upright(self) -> bool:
        return self.exif == "upright"


RGB: Final = Reading()
"""Three channels as they are stored."""
FULL_RANGE: Final[ValueRange] = (0.0, 65_535.0)
"""What the upper 8 of 16 bits are, but for the rounding."""
FEWEST_LEVELS: Final = 65
"""Pixels that use fewer of the 256 levels are those of 10, 12 or 14 bits in 16, of which 14 use 64, or tell
little apart."""


def levels(used: tuple[float, float], value_range: ValueRange) -> int:
    """Returns of how many of 256 levels pixels are that use a range, where another is spread over them."""
    low, high = value_range
    first, last = (min(max((value - low) / (high - low), 0.0), 1.0) for value in used)
    return int(255 * last) - int(255 * first) + 1
