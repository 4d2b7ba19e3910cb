"""Cityscapes: street scenes from 50 cities, with masks of 34 label ids of which 19 are evaluated.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from pathlib import Path
from typing import Final

from components.dataset.features import ATTRIBUTE_PREFIX
from components.image_mask_example_gen.layouts.layout import (
    Entry,
    Layout,
    RawClass,
    Scan,
    files_by_stem,
    pair_files,
    subfolders,
)
from components.image_mask_example_gen.report import Reason, Rejection

_IMAGES = "leftImg8bit"
_MASKS = "gtFine"
_IMAGE_SUFFIX = "_leftImg8bit.png"
_MASK_SUFFIX = "_gtFine_labelIds.png"
_CITY_FEATURE = f"{ATTRIBUTE_PREFIX}city"

LABEL_IDS: Final = (
    RawClass("unlabeled", 0, (0, 0, 0)),
    RawClass("ego vehicle", 1, (0, 0, 0)),
    RawClass("rectification border", 2, (0, 0, 0)),
    RawClass("out of roi", 3, (0, 0, 0)),
    RawClass("static", 4, (0, 0, 0)),
    RawClass("dynamic", 5, (111, 74, 0)),
    RawClass("ground", 6, (81, 0, 81)),
    RawClass("road", 7, (128, 64, 128)),
    RawClass("sidewalk", 8, (244, 35, 232)),
    RawClass("parking", 9, (250, 170, 160)),
    RawClass("rail track", 10, (230, 150, 140)),
    RawClass("building", 11, (70, 70, 70)),
    RawClass("wall", 12, (102, 102, 156)),
    RawClass("fence", 13, (190, 153, 153)),
    RawClass("guard rail", 14, (180, 165, 180)),
    RawClass("bridge", 15, (150, 100, 100)),
    RawClass("tunnel", 16, (150, 120, 90)),
    RawClass("pole", 17, (153, 153, 153)),
    RawClass("polegroup", 18, (153, 153, 153)),
    RawClass("traffic light", 19, (250, 170, 30)),
    RawClass("traffic sign", 20, (220, 220, 0)),
    RawClass("vegetation", 21, (107, 142, 35)),
    RawClass("terrain", 22, (152, 251, 152)),
    RawClass("sky", 23, (70, 130, 180)),
    RawClass("person", 24, (220, 20, 60)),
    RawClass("rider", 25, (255, 0, 0)),
    RawClass("car", 26, (0, 0, 142)),
    RawClass("truck", 27, (0, 0, 70)),
    RawClass("bus", 28, (0, 60, 100)),
    RawClass("caravan", 29, (0, 0, 90)),
    RawClass("trailer", 30, (0, 0, 110)),
    RawClass("train", 31, (0, 80, 100)),
    RawClass("motorcycle", 32, (0, 0, 230)),
    RawClass("bicycle", 33, (119, 11, 32)),
)
"""The 34 label ids, with their colours. Source: ``cityscapesscripts/helpers/labels.py``."""

# fmt: off
TRAIN_CLASSES: Final = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)
# fmt: on
"""Those that Cityscapes evaluates, in the order of their train ids."""


class Cityscapes(Layout):
    """The fine annotations. Those of ``test`` are dummies, so its images are left out."""

    name = "cityscapes"
    folders = (f"{_IMAGES}/train", f"{_MASKS}/train")
    init_folders = (_IMAGES, _MASKS)
    # The one id below 0, as a byte.
    classes = (*LABEL_IDS, RawClass("license plate", 255))
    usual_classes = TRAIN_CLASSES
    attributes = (_CITY_FEATURE,)
    slices = ("city",)
    group = "^([^_]+)_"

    def scan(self, root: Path) -> Scan:
        """Finds the pairs, city by city; ``train`` and ``val`` are official."""
        entries: list[Entry] = []
        rejected: list[Rejection] = []
        files: list[str] = []
        for split in ("train", "val"):
            for city in sorted(
                {*subfolders(root, f"{_IMAGES}/{split}"), *subfolders(root, f"{_MASKS}/{split}")}
            ):
                pairs = pair_files(
                    _named(root, f"{_IMAGES}/{split}/{city}", _IMAGE_SUFFIX),
                    _named(root, f"{_MASKS}/{split}/{city}", _MASK_SUFFIX),
                )
                attributes = ((_CITY_FEATURE, city),)
                entries += [Entry(e.key, e.image, e.mask, split, attributes) for e in pairs.entries]
                rejected += pairs.rejected
                files += pairs.files
        found = "the masks of the official test set are dummies"
        for city in subfolders(root, f"{_IMAGES}/test"):
            unlabelled = _named(root, f"{_IMAGES}/test/{city}", _IMAGE_SUFFIX)
            rejected += [Rejection(path, Reason.UNLISTED, found) for _, path in unlabelled]
        return Scan(entries, rejected, sorted(files))


def _named(root: Path, folder: str, suffix: str) -> list[tuple[str, str]]:
    """Key and path of each file of one kind, without the ending that all of the kind have."""
    if not (root / folder).is_dir():
        return []
    return [
        (stem.removesuffix(suffix.removesuffix(".png")), path)
        for stem, path in files_by_stem(root, folder, suffix.lower())
    ]
