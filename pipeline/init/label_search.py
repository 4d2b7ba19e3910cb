"""Label files beside the data: where they lie, which one fits the masks, and what to say of the others."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from components.errors import printable
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError, read_picture
from components.image_mask_example_gen.mask import Palette
from components.imaging.palette import Color
from pipeline.init import InitError
from pipeline.init.classes import Labels, as_meant, propose_labels, some_named
from pipeline.init.files import may_hold_anything
from pipeline.init.inspection import Inspection
from pipeline.init.label_files import SUFFIXES, ClassNames, read_label_file
from pipeline.init.label_values import RawLabels
from pipeline.terminal import short_path

_STEMS: Final = re.compile(
    r"_?class(es)?|class[_ -]?(names?|dict|list|map)(_seg)?|label[_ -]?(s|names?|list|map|classes|colou?rs?)"
    r"|labels?|names|codes|categories|colou?r[_ -]?map|palette|id2label|objectinfo\d*"
    r"|obj_class_to_machine_color"
)
_OF_MANY_KINDS: Final = ("meta.json", "dataset.json", "data.yaml")
"""Supervisely's, nnU-Net's, YOLO's: what holds no classes is not worth a word."""
_MOST_FOLDERS: Final = 50
_PALETTES: Final = 20
_OF_OBJECTS: Final = "SegmentationObject"
_OF_CLASSES: Final = "SegmentationClass"
"""PASCAL VOC and CVAT have one beside the other."""


@dataclass(frozen=True)
class _Candidate:
    path: Path
    given: ClassNames
    labels: Labels


def name_classes(inspection: Inspection, given: ClassNames | None, folders: tuple[Path, Path]) -> Labels:
    """Names classes as told, else by a label file beside the ``folders`` of images and masks, else by none.

    Raises:
        InitError: what was given does not fit the masks, or these are known to hold no classes.
    """
    found, palette = inspection.labels, _shared_palette(inspection)
    try:
        labels = None if given is None else propose_labels(found, as_meant(given, found), palette)
    except InitError as error:
        raise InitError(f"--classes: {error}") from None
    masks = folders[1]
    if masks.name == _OF_OBJECTS and masks.with_name(_OF_CLASSES).is_dir():
        raise InitError(
            f"--masks: {masks} numbers single objects, and no value is a class; name {_OF_CLASSES} beside it"
        )
    return labels or _labels_from_files(found, folders, palette)


def _shared_palette(inspection: Inspection) -> Palette:
    """The colour of each index, empty where masks have no palette, or not all the same one."""
    if inspection.labels.in_colors:
        return {}
    colors: dict[int, Color] = {}
    for name in [path for path, header in inspection.masks.items() if header.mode == "P"][:_PALETTES]:
        try:
            _, picture = read_picture(inspection.root / name, ANY_SIZE)
        except InputRejectedError:
            continue
        channels = picture.getpalette("RGB") or []
        for index, color in enumerate(zip(channels[::3], channels[1::3], channels[2::3], strict=False)):
            if colors.setdefault(index, color) != color:
                return {}
    return colors


def _labels_from_files(found: RawLabels, folders: Sequence[Path], palette: Palette) -> Labels:
    """Files that tell values or colours go before lists of names, and near ones before far ones."""
    fitting: list[_Candidate] = []
    said: list[tuple[Path, ClassNames | None, str]] = []
    for path in _files(folders):
        given = None
        try:
            given = as_meant(read_label_file(path), found)
            if found.in_colors and not given.told:
                raise InitError("it tells no colours, and the masks hold colours")
            fitting.append(_Candidate(path, given, propose_labels(found, given, palette)))
        except InitError as error:
            if given is not None or path.name.lower() not in _OF_MANY_KINDS:
                said.append((path, given, f"{printable(short_path(path))} is not used: {error}"))
    if not fitting:
        labels = propose_labels(found, None)
        return replace(labels, doubts=(*(text for *_, text in said), *labels.doubts))
    chosen = min(fitting, key=lambda item: not item.given.told)
    name = printable(short_path(chosen.path))
    # Of another file of the same classes it does not matter why it would not do.
    names = set(chosen.given.names)
    notes = [text for _, given, text in said if given is None or set(given.names) != names]
    notes += [
        f"{printable(short_path(item.path))} says otherwise, {some_named(item.labels.values, 3)}; {name} "
        "was taken"
        for item in fitting
        if not _agree(chosen, item)
    ]
    files = frozenset(item.path for item in fitting if _agree(chosen, item))
    return replace(chosen.labels, source=name, files=files, doubts=(*notes, *chosen.labels.doubts))


def _agree(one: _Candidate, other: _Candidate) -> bool:
    if not other.given.told:
        return set(other.given.names) == set(one.given.names)
    return other.labels.values == one.labels.values


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    """Label files in the folders, in those around them up to one above the data's own, and beside them."""
    for folder in _places(folders):
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if _may_be_one(entry.name) and entry.is_file())
        except OSError:
            continue
        yield from (folder / name for name in names)


def _may_be_one(name: str) -> bool:
    stem, suffix = os.path.splitext(name.lower())
    return name.lower() in _OF_MANY_KINDS or (suffix in SUFFIXES and _STEMS.fullmatch(stem) is not None)


def _places(folders: Sequence[Path]) -> Iterable[Path]:
    common = Path(os.path.commonpath(folders))
    places = dict.fromkeys([*folders, *(folder.parent for folder in folders)])
    if may_hold_anything(common):
        return places
    for folder in folders:
        places |= dict.fromkeys(parent for parent in folder.parents if parent.is_relative_to(common))
    if not may_hold_anything(common.parent):
        places[common.parent] = None
    try:
        with os.scandir(common) as entries:
            beside = sorted(
                entry.path for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:
        beside = []
    return places | dict.fromkeys(map(Path, beside[:_MOST_FOLDERS]))
