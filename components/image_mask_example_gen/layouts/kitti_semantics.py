"""KITTI semantic segmentation benchmark 2015: street scenes with Cityscapes' 34 label ids.

Alhaija et al., "Augmented Reality Meets Computer Vision", IJCV 2018.
"""

from pathlib import Path

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.scan import Scan, list_files, pair_files, stem

IMAGES = "training/image_2"
MASKS = "training/semantic"


def scan(config: DatasetConfig, root: Path) -> Scan:
    """Finds the pairs of the training part; the testing part has no masks to learn from."""
    return pair_files(
        ((stem(path), path) for path in list_files(root, IMAGES, ".png")),
        ((stem(path), path) for path in list_files(root, MASKS, ".png")),
    )
