"""Runs the init command, and reads masks as ingestion would by the recipe that it writes."""

from pathlib import Path

import numpy as np
import pytest

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.label_mapping import LabelMapping
from pipeline.config import Recipe, load_recipe
from pipeline.init.__main__ import main


def recipe_of(output: Path, *argv: str | Path) -> Recipe:
    """Runs the command, which replaces what is there, and loads the recipe without a change."""
    assert main([*map(str, argv), "--output", str(output), "--force"]) == 0
    return load_recipe(str(output))


def init(images: Path, masks: Path, output: Path, *more: str) -> Recipe:
    """The same for two folders."""
    return recipe_of(output, "--images", images, "--masks", masks, *more)


def refused(capsys: pytest.CaptureFixture[str], images: Path, masks: Path, output: Path, *more: str) -> str:
    """Returns the one line that the command ends with."""
    argv = ["--images", str(images), "--masks", str(masks), "--output", str(output), *more]
    assert main(argv) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def class_ids(dataset: DatasetConfig) -> dict[str, np.ndarray]:
    """The masks by their keys as ingestion reads and maps them, uint8 [height, width]."""
    root, layout = Path(str(dataset.root)), dataset.source
    names, ignored = dataset.raw_labels()
    mapping = LabelMapping(names, ignored, dataset.label_set().names)
    return {
        entry.key: mapping.class_ids(
            layout.open_mask(root, entry, dataset.max_pixels).read(mapping.of_colors)
        )
        for entry in layout.scan(root).entries
    }
