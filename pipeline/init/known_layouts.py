"""Known sets and tools' exports by what lies in a folder, and the recipe's keys that their own files tell."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Final

from components.errors import StageError
from components.folders import files_below, split_suffix
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.layouts import DATASETS
from components.image_mask_example_gen.layouts.ade20k import Ade20k
from components.image_mask_example_gen.layouts.coco import Coco
from components.image_mask_example_gen.layouts.json_file import read_json
from components.image_mask_example_gen.layouts.labelme import LabelMe
from components.image_mask_example_gen.layouts.layout import Layout, Options, subfolders
from components.image_mask_example_gen.layouts.tfds import Tfds, is_prepared, prepared
from components.image_mask_example_gen.layouts.voc import CLASSES as VOC_CLASSES
from components.image_mask_example_gen.layouts.voc import Voc
from components.image_mask_example_gen.suffixes import PICTURES
from pipeline.init import InitError
from pipeline.init.files import absolute, some
from pipeline.init.label_files import ClassNames, read_class_names

_VOC_NAME: Final = re.compile(r"\d{4}_\d{6}")
_VOC_LABELS: Final = ("labelmap.txt", "class_names.txt", "labels.txt")
"""CVAT's, with colours; labelme2voc's and others', in the order of the values."""
_ADE_LABELS: Final = ("objectInfo150.txt",)
_LABELME_IGNORED: Final = "__ignore__"
_SHOWN: Final = 5


@dataclass(frozen=True)
class Known:
    """A known layout that a folder has."""

    layout: str
    root: Path
    masks: str | None = None
    """``dataset.masks``, where one JSON file was named."""
    instead_of_pictures: bool = False
    """Whether what could be pictures of masks there are none, or are none that a pattern could pair."""


@dataclass(frozen=True)
class OwnKeys:
    """What a set's own files say of the recipe's ``dataset`` block."""

    keys: dict[str, Any]
    notes: tuple[str, ...] = ()
    """What deserves a look, a line each."""


def recognise(images: Path, masks: Path) -> Known | None:
    """Looks whether the folders of images and masks are those of a known layout.

    Args:
        images: the images' folder.
        masks: the masks' folder, which may be the same, or a JSON file of COCO's kind.
    """
    images, masks = absolute(images), absolute(masks)
    if not (images.is_dir() and masks.exists()):
        return None
    root = Path(os.path.commonpath([images, masks if masks.is_dir() else masks.parent]))
    if masks.is_file():
        if masks.suffix.lower() != ".json":
            return None
        path = escape(masks.relative_to(root).as_posix())
        return Known(Coco.name, root, path, instead_of_pictures=True)
    try:
        for layout in (known() for known in DATASETS.values()):
            if not layout.init_folders:
                continue
            if images == masks:
                if home := _home_of(layout, root):
                    return Known(layout.name, home, instead_of_pictures=True)
                continue
            first, *others = (root / folder for folder in layout.init_folders)
            if images == first and masks in others and _is(layout, root):
                return Known(layout.name, root, instead_of_pictures=True)
        no_pictures = not has_pictures(masks)
        if found := Coco().lists(masks) or Coco().lists(root):
            panoptic = all("panoptic" in path for path in found)
            return Known(Coco.name, root, instead_of_pictures=no_pictures or panoptic)
        for layout in (LabelMe(), Tfds()):
            if not layout.missing(root):
                return Known(layout.name, root, instead_of_pictures=no_pictures)
    except (OSError, StageError):
        # Whatever is wrong there, the folders may still be pairs of pictures.
        return None
    return None


def recognise_root(data: Path) -> Known:
    """Returns the layout that a folder has as a whole, or the one folder in it.

    Raises:
        InitError: none that is known.
    """
    data = absolute(data)
    try:
        for layout in (known() for known in DATASETS.values()):
            if layout.name == Tfds.name:
                if any(map(is_prepared, (data, *data.glob("*")))) or prepared(data):
                    return Known(layout.name, data)
            elif home := _home_of(layout, data):
                return Known(layout.name, home)
    except OSError as error:
        raise InitError(f"--data: {error.filename} cannot be read: {error.strerror}") from None
    except StageError as error:
        raise InitError(str(error)) from None
    raise InitError(
        f"--data: {data} is none of {', '.join(DATASETS)}; for pairs of pictures give --images and --masks"
    )


def own_keys(layout: str, root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    """Finds classes, and whatever else a layout needs, in the files of the set itself.

    Args:
        layout: its name.
        root: the folder.
        masks: ``dataset.masks``, if it is known.
        given: the classes that were named on the command line, which take precedence.

    Raises:
        InitError: a file cannot be read.
    """
    found = _FINDERS.get(layout, _selection)
    try:
        return found(root, masks, given)
    except StageError as error:
        raise InitError(str(error)) from None


def _selection(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    return OwnKeys({"root": str(root)} | ({"classes": list(given.names)} if given else {}))


def _voc(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    told, notes = (given, ()) if given else _label_file(root, _VOC_LABELS)
    keys: dict[str, Any] = {"root": str(root)}
    if told is None:
        return OwnKeys(keys)
    if not told.told and set(told.names) <= {raw.name for raw in VOC_CLASSES}:
        return OwnKeys(keys | {"classes": list(told.names)}, notes)
    names = [name for name in told.names if name != _LABELME_IGNORED]
    values = told.raws or {name: value for value, name in enumerate(names)}
    return OwnKeys(keys | {"label_values": _plain(values)}, notes)


def _ade20k(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    told, notes = (given, ()) if given else _label_file(root, _ADE_LABELS)
    keys: dict[str, Any] = {"root": str(root)}
    if told is None:
        return OwnKeys(keys)
    values = told.raws or {name: value for value, name in enumerate(told.names, start=1)}
    return OwnKeys(
        keys | {"label_values": _plain(values)}, (*notes, "0 is what has no label, so names count from 1")
    )


def _coco(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    layout = Coco(Options(masks=masks))
    keys: dict[str, Any] = {"root": str(root)} | ({"masks": masks} if masks else {})
    if given is not None:
        return OwnKeys(keys | {"classes": list(given.names)})
    used, unused = layout.categories(root)
    notes = [
        f"masks are drawn from {', '.join(layout.lists(root))}: smaller objects over larger, crowds ignored"
    ]
    if unused:
        notes.append(f"categories without any annotation, left out: {some(unused, _SHOWN, counted=True)}")
    return OwnKeys(keys | {"classes": list(used)}, tuple(notes))


def _labelme(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    names = given.names if given else LabelMe().labels(root)
    note = "masks are drawn from labelme's shapes, later ones over earlier, on background"
    return OwnKeys({"root": str(root), "classes": list(names)}, (note,))


def _tfds(root: Path, masks: str | None, given: ClassNames | None) -> OwnKeys:
    """The folder may be the ``data_dir``, or that of one set or version in it."""
    folders = [root, *(folder for depth in ("*", "*/*", "*/*/*") for folder in root.glob(depth))]
    versions = [folder for folder in folders if is_prepared(folder)]
    if not versions:
        raise InitError(f"--data: {root} has no prepared set, a folder NAME/VERSION with dataset_info.json")
    homes = sorted({_home(path) for path in versions})
    if len(homes) > 1:
        sets = ", ".join(home.name for home in homes)
        raise InitError(f"--data: {root} has several prepared sets, {sets}; name the folder of one of them")
    data_dir = homes[0].parent
    newest = max(versions, key=lambda path: [int(part) for part in path.name.split(".")])
    name = f"{newest.parent.relative_to(data_dir).as_posix()}:{newest.name}"
    keys: dict[str, Any] = {"root": str(data_dir), "name": name}
    layout = Tfds(Options(name=name))
    pictures = layout.pictures(data_dir)
    for key, wanted, fits in (
        ("images", layout.image_feature, lambda channels: channels != 1),
        ("masks", layout.mask_feature, lambda channels: channels == 1),
    ):
        if wanted not in pictures:
            candidates = [feature for feature, (channels, _) in pictures.items() if fits(channels)]
            if len(candidates) != 1:
                has = ", ".join(pictures) or "none"
                raise InitError(f"--data: {name} has no one picture for dataset.{key}; it has {has}")
            keys[key] = candidates[0]
    own = pictures[keys.get("masks", layout.mask_feature)][1]
    if own and given is None:
        keys["label_values"] = {name: value for value, name in enumerate(own)}
    return OwnKeys(keys)


def _home(version: Path) -> Path:
    """The folder of the set that a version, or a version of a configuration, belongs to."""
    try:
        name = read_json(version / "dataset_info.json")["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise InitError(f"{version}/dataset_info.json cannot be read: {error}") from None
    return next((folder for folder in version.parents[:2] if folder.name == name), version.parent)


_FINDERS: Final = {
    Voc.name: _voc,
    Ade20k.name: _ade20k,
    Coco.name: _coco,
    LabelMe.name: _labelme,
    Tfds.name: _tfds,
}


def _label_file(root: Path, names: Sequence[str]) -> tuple[ClassNames | None, tuple[str, ...]]:
    """Reads the first of the files that there is; says so in a note."""
    for name in names:
        if (root / name).is_file():
            return read_class_names(str(root / name)), (f"classes from {name}",)
    return None, ()


def _plain(values: Mapping[str, RawLabel]) -> dict[str, Any]:
    return {name: list(raw) if isinstance(raw, tuple) else raw for name, raw in values.items()}


def _home_of(layout: Layout, folder: Path) -> Path | None:
    """The folder itself if it is one of the layout's, else the one right in it that is, if there is one."""
    if _is(layout, folder):
        return folder
    if layout.masks_are_files:
        homes = [folder / name for name in subfolders(folder, ".") if _is(layout, folder / name)]
        return homes[0] if len(homes) == 1 else None
    return None


def _is(layout: Layout, root: Path) -> bool:
    """Whether a folder with the layout's folders is of its kind: others use the names, too."""
    if layout.missing(root) or not (scan := layout.scan(root)).entries:
        return False
    if isinstance(layout, Voc):
        has_labels = any((root / name).is_file() for name in _VOC_LABELS)
        return has_labels or all(_VOC_NAME.fullmatch(entry.key) for entry in scan.entries)
    if isinstance(layout, Ade20k):
        has_labels = any((root / name).is_file() for name in _ADE_LABELS)
        return has_labels or all(entry.key.startswith("ADE_") for entry in scan.entries)
    return True


def has_pictures(folder: Path) -> bool:
    """Tells whether anything in a folder could be a picture."""
    return any(split_suffix(path)[1].lower() in PICTURES for path in files_below(folder, onerror=None))
