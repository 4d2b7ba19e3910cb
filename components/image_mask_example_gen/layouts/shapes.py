"""The drawn dataset, once it is drawn: images and masks numbered alike."""

from pathlib import Path

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.scan import Entry, Scan


def image_path(index: int) -> str:
    """Relative to the dataset's root."""
    return f"images/{index:06d}.jpg"


def mask_path(index: int) -> str:
    """Relative to the dataset's root."""
    return f"masks/{index:06d}.png"


def scan(config: DatasetConfig, root: Path) -> Scan:
    """Names the pairs that the settings ask for; they need not be drawn yet."""
    indices = range(config.shapes.num_images)
    return Scan([Entry(f"{index:06d}", image_path(index), mask_path(index)) for index in indices], [])
