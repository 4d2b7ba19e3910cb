"""Class names, raw mask values and colours of the datasets that define their own."""

from typing import Final, NamedTuple

from components.dataset.labels import Color


class RawClass(NamedTuple):
    """One class as a dataset's masks write it."""

    name: str
    value: int
    color: Color | None = None


OXFORD_IIIT_PET: Final = (
    RawClass("pet", 1),
    RawClass("background", 2),
    RawClass("border", 3),
)
"""Trimap values. Source: README of the Oxford-IIIT Pet annotations."""

KITTI_SEMANTICS: Final = (
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

KITTI_DEFAULT_CLASSES: Final = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "parking",
)
"""The 19 classes that Cityscapes evaluates, in its order, and ``parking``, the largest of the rest."""

SHAPES: Final = (
    RawClass("background", 0),
    RawClass("disc", 1),
    RawClass("square", 2),
    RawClass("triangle", 3),
    RawClass("boundary", 4),
)
"""What ``shapes.py`` draws."""

# fmt: off
_CLOTHING_NAMES: Final = (
    "null", "accessories", "bag", "belt", "blazer", "blouse", "bodysuit", "boots", "bra",
    "bracelet", "cape", "cardigan", "clogs", "coat", "dress", "earrings", "flats", "glasses",
    "gloves", "hair", "hat", "heels", "hoodie", "intimate", "jacket", "jeans", "jumper", "leggings",
    "loafers", "necklace", "panties", "pants", "pumps", "purse", "ring", "romper", "sandals",
    "scarf", "shirt", "shoes", "shorts", "skin", "skirt", "sneakers", "socks", "stockings", "suit",
    "sunglasses", "sweater", "sweatshirt", "swimwear", "t-shirt", "tie", "tights", "top", "vest",
    "wallet", "watch", "wedges",
)
# fmt: on
CLOTHING_CO_PARSING: Final = tuple(RawClass(name, value) for value, name in enumerate(_CLOTHING_NAMES))
"""The 59 names of the dataset's own ``label_list.mat``, in its order."""
