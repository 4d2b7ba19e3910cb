"""The colours that masks of numbers are shown in."""

from pathlib import Path
from typing import Final

from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError, read_picture
from components.imaging.palette import Color
from pipeline.init.classes import Palette
from pipeline.init.inspection import Inspection

_FILES: Final = 20


def read_palette(root: Path, found: Inspection) -> Palette:
    """Returns the colour of each index, empty where masks have no palette, or not all the same one.

    Args:
        root: the folder that the masks' paths are relative to.
        found: what was found of them.
    """
    if found.labels.in_colors:
        return {}
    colors: dict[int, Color] = {}
    for name in [path for path, header in found.masks.items() if header.mode == "P"][:_FILES]:
        try:
            _, picture = read_picture(root / name, ANY_SIZE)
        except InputRejectedError:
            continue
        channels = picture.getpalette("RGB") or []
        for index, color in enumerate(zip(channels[::3], channels[1::3], channels[2::3], strict=False)):
            if colors.setdefault(index, color) != color:
                return {}
    return colors
