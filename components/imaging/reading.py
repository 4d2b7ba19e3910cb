"""How pixels are read of an image's bytes: a recipe says it, the graph does it, whoever draws knows it.

Imports neither TensorFlow nor Pillow.
"""

from typing import Final, Literal

from components.settings import Settings

Exif = Literal["upright", "stored"]


class Reading(Settings):
    """What ``decode_image`` makes of an image."""

    channels: int = 3
    """1 is luma, 3 RGB, 4 RGB and alpha."""
    exif: Exif | None = None
    """``upright`` applies an EXIF orientation; otherwise pixels are taken as they are stored."""

    @property
    def upright(self) -> bool:
        return self.exif == "upright"


RGB: Final = Reading()
"""Three channels as they are stored."""
