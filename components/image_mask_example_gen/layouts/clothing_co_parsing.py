"""Clothing Co-Parsing: photos with MATLAB masks.

Yang, Luo and Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014.
"""

from dataclasses import replace
from pathlib import Path

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.scan import Scan, list_files, pair_files, stem
from components.image_mask_example_gen.rejections import Reason, Rejection

IMAGES = "photos"
MASKS = "annotations/pixel-level"
IMAGE_LEVEL = "annotations/image-level"
LABEL_LISTS = ("label_list.mat", "labels.txt")


def scan(config: DatasetConfig, root: Path) -> Scan:
    """Finds the pairs; photos that officially have labels but no mask are set aside as unlisted."""
    pairs = pair_files(
        ((stem(path), path) for path in list_files(root, IMAGES, ".jpg")),
        ((stem(path), path) for path in list_files(root, MASKS, ".mat")),
    )
    rejected = [_unlisted_if_only_labelled(rejection, root) for rejection in pairs.rejected]
    lists = [path for path in LABEL_LISTS if (root / path).is_file()]
    return replace(pairs, rejected=rejected, files=sorted([*pairs.files, *lists]))


def _unlisted_if_only_labelled(rejection: Rejection, root: Path) -> Rejection:
    labels = f"{IMAGE_LEVEL}/{stem(rejection.file)}.mat"
    is_photo = rejection.reason is Reason.IMAGE_WITHOUT_MASK
    if is_photo and (root / labels).is_file():
        return Rejection(rejection.file, Reason.UNLISTED, f"only image-level labels ({labels})")
    return rejection
