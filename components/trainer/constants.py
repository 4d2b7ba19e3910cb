"""What training takes from the transform graph besides pixels."""

from typing import NamedTuple


class Constants(NamedTuple):
    """What the transform graph learnt from the training split."""

    pixel_scale: tuple[float, ...]
    pixel_offset: tuple[float, ...]
    class_pixels: tuple[int, ...]
