"""Which raw labels mean no class, but "not labelled": by custom, by name, or by how their pixels lie."""

from collections.abc import Iterator, Mapping
from typing import Final

from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.label_mapping import raw_word
from pipeline.init.label_values import RawLabels

BY_CUSTOM: Final[Mapping[RawLabel, str]] = {
    255: "by custom, 255 beside small ids marks what is not labelled",
    65535: "by custom, 65535 beside small ids marks what is not labelled",
    (224, 224, 192): "the colour of PASCAL VOC's borders",
    (0, 0, 0): "black is void beside the colours of CamVid and Cityscapes",
}
_BLACK: Final = (0, 0, 0)
_ROAD: Final = (128, 64, 128)
_SKIES_AND_BUILDINGS: Final = {(128, 128, 128), (128, 0, 0), (70, 130, 180), (70, 70, 70)}
"""With the road's, what tells the colours of CamVid and of Cityscapes from any others."""
_SMALL_IDS: Final = 64
_NAMES: Final = {
    "void",
    "unlabelled",
    "unlabeled",
    "notlabelled",
    "notlabeled",
    "ignore",
    "ignored",
    "dontcare",
}
_DOUBTFUL_NAMES: Final = {"unknown", "undefined", "unclassified", "other", "others"}
_BACKGROUND_NAMES: Final = {"background", "bg", "null", "none"}
_MOST: Final = 0.5
"""What covers more than this part of the pixels is the background, whatever it is called."""
_SELDOM_INSIDE: Final = 0.6
"""Void in CamVid and the border in Oxford-IIIT Pet lie away from other labels less often than this, 0.21 to
0.43 and 0.47, and so do thin classes."""
_ALONG_ALL: Final = 0.15
"""See ``_lies_between``: 0.36 to 0.68 in the three folders of CamVid and 1.6 in Oxford-IIIT Pet; of classes
that are thin 0.04 at most, there, in Clothing Co-Parsing and in KITTI."""


def is_void_by_custom(value: RawLabel, found: RawLabels) -> bool:
    """Whether a raw label that no class has counts nowhere in most datasets whose masks look like these."""
    if value not in BY_CUSTOM or len(found.values) < 3:
        return False
    if value == _BLACK:
        streets = _ROAD in found.pixels and not _SKIES_AND_BUILDINGS.isdisjoint(found.values)
        return streets and found.share(value) < _MOST
    if isinstance(value, tuple):
        return True
    ids = [other for other in found.values if isinstance(other, int) and other != value]
    # 0, 1, 2 … with gaps are ids, 0, 128 and 255 shades.
    return max(ids) < max(_SMALL_IDS, 2 * len(ids))


def is_void_by_name(name: str, value: RawLabel, found: RawLabels) -> bool:
    """Whether a class is one by nobody's account; a background is one, whatever it is called."""
    return _folded(name) in _NAMES and found.share(value) < _MOST


def is_background(name: str) -> bool:
    """Whether a name is that of a background."""
    return _folded(name) in _BACKGROUND_NAMES


def is_void_or_background(name: str) -> bool:
    """Whether a list may begin with this name because raw value 0 is no object."""
    return is_background(name) or _folded(name) in _NAMES | _DOUBTFUL_NAMES


def looks_void(value: RawLabel, found: RawLabels) -> bool:
    """Whether a raw label lies in thin strips between all others, as no class does."""
    shape = found.shapes.get(value)
    return shape is not None and shape.inside < _SELDOM_INSIDE * shape.pixels and _lies_between(value, found)


def _lies_between(value: RawLabel, found: RawLabels) -> bool:
    """Whether it parts different labels, and makes up some of the outline of every single one."""
    shape = found.shapes[value]
    others = [other for label, other in found.shapes.items() if label != value and other.outline]
    least = min((other.outline[value] / other.outline.total() for other in others), default=0.0)
    # An even share of an outline is one part in as many as there are labels to lie along.
    along = least * len(others)
    return shape.crossings > 0 and shape.partings / shape.crossings * along > _ALONG_ALL


def doubts(found: RawLabels, classes: Mapping[str, RawLabel]) -> Iterator[str]:
    """What may be no class, though nothing says so, a sentence each."""
    if len(classes) < 3:
        return
    for name, value in classes.items():
        if value in found.pixels and _folded(name) in _DOUBTFUL_NAMES | _NAMES:
            yield f"by its name, {name} means not labelled; if so, make {raw_word(value)} the ignore_label"
    values = [value for value in classes.values() if value in found.pixels]
    if (0, 0, 0) in values and not is_background(next(n for n, v in classes.items() if v == (0, 0, 0))):
        yield "black often means not labelled; if so, move [0, 0, 0] to ignore_label"
    # Colours have no order; of numbers, what is no class comes first or last.
    ends = values if found.in_colors else [found.values[0], found.values[-1]]
    for value in ends:
        if value in values and value != (0, 0, 0) and looks_void(value, found):
            end = "lowest" if value == found.values[0] else "highest"
            which = "" if found.in_colors else f", the {end} value,"
            yield (
                f"{raw_word(value)}{which} lies in thin strips between all others: if it means border or not "
                "labelled rather than a class, make it the ignore_label"
            )


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
