"""Clothing Co-Parsing: photos with MATLAB masks.

Yang, Luo and Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from components.image_mask_example_gen.layouts.layout import Layout, RawClass, Scan, files_by_stem, pair_files
from components.image_mask_example_gen.report import Reason, Rejection

_IMAGES = "photos"
_MASKS = "annotations/pixel-level"
_IMAGE_LEVEL = "annotations/image-level"
_LABEL_LISTS = ("label_list.mat", "labels.txt")

# fmt: off
_NAMES = (
    "null", "accessories", "bag", "belt", "blazer", "blouse", "bodysuit", "boots", "bra",
    "bracelet", "cape", "cardigan", "clogs", "coat", "dress", "earrings", "flats", "glasses",
    "gloves", "hair", "hat", "heels", "hoodie", "intimate", "jacket", "jeans", "jumper", "leggings",
    "loafers", "necklace", "panties", "pants", "pumps", "purse", "ring", "romper", "sandals",
    "scarf", "shirt", "shoes", "shorts", "skin", "skirt", "sneakers", "socks", "stockings", "suit",
    "sunglasses", "sweater", "sweatshirt", "swimwear", "t-shirt", "tie", "tights", "top", "vest",
    "wallet", "watch", "wedges",
)
# fmt: on


class ClothingCoParsing(Layout):
    """The photos that have pixel-level labels."""

    name = "clothing_co_parsing"
    folders = (_IMAGES, _MASKS)
    classes = tuple(RawClass(name, value) for value, name in enumerate(_NAMES))
    """The 59 names of the dataset's own ``label_list.mat``, in its order."""

    def scan(self, root: Path) -> Scan:
        """Finds the pairs; photos that officially have labels but no mask are set aside as unlisted."""
        pairs = pair_files(files_by_stem(root, _IMAGES, ".jpg"), files_by_stem(root, _MASKS, ".mat"))
        rejected = [_unlisted_if_only_labelled(rejection, root) for rejection in pairs.rejected]
        lists = [path for path in _LABEL_LISTS if (root / path).is_file()]
        return replace(pairs, rejected=rejected, files=sorted([*pairs.files, *lists]))


def _unlisted_if_only_labelled(rejection: Rejection, root: Path) -> Rejection:
    labels = f"{_IMAGE_LEVEL}/{PurePosixPath(rejection.file).stem}.mat"
    is_photo = rejection.reason is Reason.IMAGE_WITHOUT_MASK
    if is_photo and (root / labels).is_file():
        return Rejection(rejection.file, Reason.UNLISTED, f"only image-level labels ({labels})")
    return rejection
