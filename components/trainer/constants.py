"""What training takes from the transform graph besides pixels."""

from typing import NamedTuple

from components.dataset.labels import LabelSet


class Constants(NamedTuple):
    """What the transform graph learnt from the training split."""

    pixel_scale: tuple[float, ...]
    pixel_offset: tuple[float, ...]
    class_pixels: tuple[int, ...]


def untrained_classes(labels: LabelSet, constants: Constants) -> list[str]:
    """Returns the names of the classes that no pixel of the training split is of."""
    return [name for name, pixels in zip(labels.names, constants.class_pixels, strict=True) if not pixels]
