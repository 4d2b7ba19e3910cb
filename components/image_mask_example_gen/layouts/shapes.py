"""The drawn dataset, once it is drawn: images and masks numbered alike."""

from pathlib import Path

from components.image_mask_example_gen.layouts.layout import Entry, Layout, RawClass, Scan


def image_path(index: int) -> str:
    """Relative to the dataset's root."""
    return f"images/{index:06d}.jpg"


def mask_path(index: int) -> str:
    """Relative to the dataset's root."""
    return f"masks/{index:06d}.png"


class Shapes(Layout):
    """What ``components.image_mask_example_gen.shapes`` draws."""

    name = "shapes"
    classes = (
        RawClass("background", 0),
        RawClass("disc", 1),
        RawClass("square", 2),
        RawClass("triangle", 3),
        RawClass("boundary", 4),
    )

    def __init__(self, num_images: int):
        self._num_images = num_images

    def scan(self, root: Path) -> Scan:
        """Names the pairs that the settings ask for; they need not be drawn yet."""
        indices = range(self._num_images)
        return Scan([Entry(f"{index:06d}", image_path(index), mask_path(index)) for index in indices], [])
