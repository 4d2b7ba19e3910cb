"""KITTI semantic segmentation benchmark 2015: street scenes with Cityscapes' 34 label ids.

Alhaija et al., "Augmented Reality Meets Computer Vision", IJCV 2018.
"""

from pathlib import Path

from components.image_mask_example_gen.layouts.layout import Layout, RawClass, Scan, files_by_stem, pair_files

_IMAGES = "training/image_2"
_MASKS = "training/semantic"


class KittiSemantics(Layout):
    """The training part alone; the testing part has no masks to learn from."""

    name = "kitti_semantics"
    folders = (_IMAGES, _MASKS)
    classes = (
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
    """The 34 label ids that KITTI shares with Cityscapes. Source: ``cityscapesscripts/helpers/labels.py``."""
    # fmt: off
    usual_classes = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
        "bicycle", "parking",
    )
    # fmt: on
    """The 19 classes that Cityscapes evaluates, in its order, and ``parking``, the largest of the rest."""

    def scan(self, root: Path) -> Scan:
        """Finds the pairs."""
        return pair_files(files_by_stem(root, _IMAGES, ".png"), files_by_stem(root, _MASKS, ".png"))
