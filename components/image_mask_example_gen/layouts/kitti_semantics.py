"""KITTI semantic segmentation benchmark 2015: street scenes with Cityscapes' 34 label ids.

Alhaija et al., "Augmented Reality Meets Computer Vision", IJCV 2018.
"""

from pathlib import Path

from components.image_mask_example_gen.layouts.cityscapes import LABEL_IDS, TRAIN_CLASSES
from components.image_mask_example_gen.layouts.layout import Layout, Scan, files_by_stem, pair_files

_IMAGES = "training/image_2"
_MASKS = "training/semantic"


class KittiSemantics(Layout):
    """The training part alone; the testing part has no masks to learn from."""

    name = "kitti_semantics"
    folders = (_IMAGES, _MASKS)
    classes = LABEL_IDS
    usual_classes = (*TRAIN_CLASSES, "parking")
    """The 19 classes that Cityscapes evaluates, in its order, and ``parking``, the largest of the rest."""

    def scan(self, root: Path) -> Scan:
        """Finds the pairs."""
        return pair_files(files_by_stem(root, _IMAGES, ".png"), files_by_stem(root, _MASKS, ".png"))
