"""ADE20K as the scene parsing benchmark has it: 150 classes, and 0 for what has none.

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from components.image_mask_example_gen.layouts.layout import (
    NO_OPTIONS,
    Entry,
    Layout,
    Options,
    RawClass,
    Scan,
    classes_told,
    files_by_stem,
    pair_files,
)
from components.image_mask_example_gen.report import Rejection

_SPLITS = {"training": "train", "validation": "val"}
_UNLABELLED = RawClass("unlabelled", 0)

# fmt: off
NAMES: Final = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
    "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing",
    "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink",
    "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case",
    "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind",
    "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus",
    "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth",
    "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister",
    "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain",
    "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket",
    "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
    "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen",
    "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass",
    "clock", "flag",
)
# fmt: on
"""In the order of the masks' values 1 … 150, the first name of each. Source: ``objectInfo150.txt``."""


class Ade20k(Layout):
    """``training`` and ``validation`` are official; the test images come without masks."""

    name = "ade20k"
    folders = ("images/training", "annotations/training")
    init_folders = ("images", "annotations")
    label_files = ("objectInfo150.txt",)
    key_pattern = "ADE_"
    options = frozenset({"label_values"})
    classes: tuple[RawClass, ...] = (
        _UNLABELLED,
        *(RawClass(name, value) for value, name in enumerate(NAMES, start=1)),
    )
    usual_classes: tuple[str, ...] = NAMES

    def __init__(self, options: Options = NO_OPTIONS):
        if named := options.label_values:
            self.classes, self.usual_classes = classes_told(named, _UNLABELLED)

    def scan(self, root: Path) -> Scan:
        """Finds the pairs."""
        entries: list[Entry] = []
        rejected: list[Rejection] = []
        files: list[str] = []
        for folder, split in _SPLITS.items():
            images, masks = (
                files_by_stem(root, f"{kind}/{folder}", suffix) if (root / kind / folder).is_dir() else []
                for kind, suffix in (("images", ".jpg"), ("annotations", ".png"))
            )
            pairs = pair_files(images, masks)
            entries += [replace(pair, official_split=split) for pair in pairs.entries]
            rejected += pairs.rejected
            files += pairs.files
        return Scan(entries, rejected, sorted(files))
