"""PASCAL VOC's segmentation set, and what annotation tools export as such.

Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from components.errors import StageError
from components.image_mask_example_gen.layouts.layout import (
    NO_OPTIONS,
    Layout,
    Options,
    RawClass,
    Scan,
    classes_told,
    files_by_stem,
    pair_files,
)
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_names import split_name
from components.image_mask_example_gen.suffixes import PICTURES
from components.text_files import read_names, windows_spelling

_IMAGES = "JPEGImages"
_MASKS = "SegmentationClass"
_PNG_MASKS = "SegmentationClassPNG"
"""Where labelme2voc once put them, with NumPy arrays in the other folder."""
_LISTS = "ImageSets/Segmentation"
_SPLITS = ("test", "train", "val", "trainval")
"""The first of them whose lists have a name decides."""
_VOID = (RawClass("void", 255), RawClass("void", (224, 224, 192)))
"""By number and by colour: borders and what nobody could tell."""

CLASSES: Final = tuple(
    RawClass(name, value, color)
    for value, (name, color) in enumerate(
        {
            "background": (0, 0, 0),
            "aeroplane": (128, 0, 0),
            "bicycle": (0, 128, 0),
            "bird": (128, 128, 0),
            "boat": (0, 0, 128),
            "bottle": (128, 0, 128),
            "bus": (0, 128, 128),
            "car": (128, 128, 128),
            "cat": (64, 0, 0),
            "chair": (192, 0, 0),
            "cow": (64, 128, 0),
            "diningtable": (192, 128, 0),
            "dog": (64, 0, 128),
            "horse": (192, 0, 128),
            "motorbike": (64, 128, 128),
            "person": (192, 128, 128),
            "pottedplant": (0, 64, 0),
            "sheep": (128, 64, 0),
            "sofa": (0, 192, 0),
            "train": (128, 192, 0),
            "tvmonitor": (0, 64, 128),
        }.items()
    )
)
"""The 21 classes with their values and colours. Source: PASCAL VOC 2012 development kit."""


class Voc(Layout):
    """Palette masks. ``dataset.label_values`` tells the classes of sets that are not VOC's own."""

    name = "voc"
    folders = (_IMAGES, _MASKS)
    init_folders = (_IMAGES, _MASKS, _PNG_MASKS)
    label_files = ("labelmap.txt", "class_names.txt", "labels.txt")
    """CVAT's, with colours; labelme2voc's and others', in the order of the values."""
    key_pattern = r"\d{4}_\d{6}$"
    options = frozenset({"label_values"})
    classes: tuple[RawClass, ...] = (*CLASSES, _VOID[0])
    usual_classes: tuple[str, ...] = tuple(raw.name for raw in CLASSES)

    def __init__(self, options: Options = NO_OPTIONS):
        if named := options.label_values:
            void = _VOID[isinstance(named[0].value, tuple)]
            self.classes, self.usual_classes = classes_told(named, void)

    def scan(self, root: Path) -> Scan:
        """Finds the pairs. Most of VOC's images have no mask, which is no damage unless a list names them.

        Where there are lists, a pair in none of them is set aside.
        """
        masks = _PNG_MASKS if (root / _PNG_MASKS).is_dir() else _MASKS
        pairs = pair_files(files_by_stem(root, _IMAGES, tuple(PICTURES)), files_by_stem(root, masks, ".png"))
        known = {pair.key for pair in pairs.entries} | {Path(item.file).stem for item in pairs.rejected}
        lists, listed = _read_lists(root, known)
        entries = []
        rejected = []
        for item in pairs.rejected:
            stem = Path(item.file).stem
            if item.reason is Reason.IMAGE_WITHOUT_MASK and listed.get(stem) in (None, "test"):
                item = Rejection(item.file, Reason.UNLISTED, "it has no mask, and no list wants one")
            rejected.append(item)
        for pair in pairs.entries:
            if listed and pair.key not in listed:
                found = f"in none of {', '.join(lists)}; its mask {pair.mask} stays aside as well"
                rejected.append(Rejection(pair.image, Reason.UNLISTED, found))
            else:
                entries.append(replace(pair, official_split=listed.get(pair.key)))
        for key in sorted(listed.keys() - known):
            if listed[key] != "test":
                found = f"listed as {listed[key]}, and there is neither image nor mask"
                rejected.append(Rejection(f"{_IMAGES}/{key}.jpg", Reason.MASK_WITHOUT_IMAGE, found))
        return Scan(entries, rejected, sorted([*pairs.files, *lists]))


def _read_lists(root: Path, known: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the lists there are, and the split of each name in them."""
    own: dict[str, dict[str, list[str]]] = {}
    others: dict[str, dict[str, list[str]]] = {}
    if (root / _LISTS).is_dir():
        for stem, path in files_by_stem(root, _LISTS, ".txt"):
            if (named := split_name(stem)) and named[2] == "{}" and (root / path).is_file():
                lines = read_names(root, path, "layout voc").splitlines()
                names = list(dict.fromkeys(_listed_name(line, known) for line in lines if line.strip()))
                (own if stem in _SPLITS else others).setdefault(named[0], {})[path] = names
    # VOC's own are in lower case; CVAT's are called Train, Validation and Test, others' valid.txt. Beside its
    # own another, dev.txt say, may be a second name for a part of them: it counts where it tells more.
    of_own = {name for split in own.keys() - {"trainval"} for names in own[split].values() for name in names}
    for split, paths in others.items():
        if told := {path: names for path, names in paths.items() if not of_own.issuperset(names)}:
            own[split] = own.get(split, {}) | told
    lists = [(split, path, names) for split in _SPLITS for path, names in own.get(split, {}).items()]
    listed: dict[str, str] = {}
    told_by: dict[str, str] = {}
    for split, path, names in lists:
        for name in names:
            if split != "trainval" and listed.get(name, split) != split:
                raise StageError(f"{path}: {name} is in {told_by[name]}, too; a picture has one split")
            listed.setdefault(name, split)
            told_by.setdefault(name, path)
    return [path for _, path, _ in lists], listed


def _listed_name(line: str, known: Collection[str]) -> str:
    """Returns what a line names: all of it, or its first column, as lists of other tasks have two."""
    first, *more = line.split()
    # Some tools write whole paths.
    names = [Path(text).stem if "/" in text else text for text in (line.strip(), first)]
    # Of VOC's other tasks: not there, there, difficult.
    unknown = names[more in (["-1"], ["0"], ["1"])]
    spellings = (*names, *filter(None, map(windows_spelling, names)))
    return next((name for name in spellings if name in known), unknown)
