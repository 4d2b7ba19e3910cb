"""Known sets and tools' exports by what lies in a folder, and the recipe's keys that their own files tell."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from components.errors import StageError
from components.folders import files_below
from components.image_mask_example_gen.layouts import DATASETS
from components.image_mask_example_gen.layouts.coco import Coco
from components.image_mask_example_gen.layouts.json_file import read_json
from components.image_mask_example_gen.layouts.labelme import LabelMe
from components.image_mask_example_gen.layouts.layout import Layout, Options, subfolders
from components.image_mask_example_gen.layouts.tfds import Tfds, is_prepared, prepared
from components.image_mask_example_gen.suffixes import PICTURES
from pipeline.init import InitError
from pipeline.init.files import absolute, may_hold_anything, some, suffix_of
from pipeline.init.label_files import ClassNames, read_class_names
from pipeline.init.name_patterns import escape

_LABELME_IGNORED: Final = "__ignore__"
_SHOWN: Final = 5


@dataclass(frozen=True)
class Known:
    """A known layout that a folder has."""

    layout: str
    root: Path
    masks: str | None = None
    """``dataset.masks``, where a JSON file was named, or a folder and others' lists lie around it."""
    instead_of_pictures: bool = False
    """Whether what could be pictures of masks there are none, or are none that a pattern could pair."""
    notes: tuple[str, ...] = ()
    """What deserves a look, a line each."""


_Own = tuple[dict[str, Any], tuple[str, ...]]
"""What a set's own files say of the recipe's ``dataset`` block, and what deserves a look, a line each."""


def recognise(images: Path, masks: Path) -> Known | None:
    """Looks whether the folders of images and masks are those of a known layout.

    They may be the same one; in place of masks' there may be a JSON file of COCO's kind.
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
        # Below a folder that may hold anything other sets lie, or all that the machine has.
        is_set = not may_hold_anything(root) or root in (images, masks)
        own = Coco().lists(masks)
        try:
            around = Coco().lists(root) if is_set else []
        except (OSError, StageError):
            if not own:
                raise
            around = []
        if found := own or around:
            panoptic = all("panoptic" in path for path in found)
            are_all = not own or [(masks / path).relative_to(root).as_posix() for path in own] == around
            lists = None if are_all else _pattern(masks.relative_to(root), own)
            return Known(Coco.name, root, lists, instead_of_pictures=no_pictures or panoptic)
        if is_set and not all(LabelMe().missing(folder) for folder in (masks, images)):
            notes = tuple(_elsewhere(root, (images, masks)))
            return Known(LabelMe.name, root, instead_of_pictures=no_pictures, notes=notes)
        if is_set and not Tfds().missing(root):
            return Known(Tfds.name, root, instead_of_pictures=no_pictures)
    except (OSError, StageError):
        # Whatever is wrong there, the folders may still be pairs of pictures.
        return None
    return None


def _pattern(folder: Path, files: Sequence[str]) -> str:
    """A pattern for these files of a folder, and for no others of it but those of the same names."""
    paths = [PurePosixPath(folder.as_posix(), path) for path in files]
    names = sorted({path.stem for path in paths})
    if len(names) == 1:
        name = escape(names[0])
    else:
        choices = ",".join(re.sub("[,{}]", r"[\g<0>]", each) for each in names)
        name = f"{{{choices}}}"
    parents = {path.parent for path in paths}
    start = escape(str(parents.pop())) if len(parents) == 1 else f"{escape(folder.as_posix())}/**"
    return f"{start}/{name}.json"


def _elsewhere(root: Path, folders: Sequence[Path]) -> Iterator[str]:
    """Says which of the root's labelme files lie in neither folder: the layout takes them, too."""
    others = [
        path
        for path in LabelMe().annotations(root)
        if not any((root / path).is_relative_to(f) for f in folders)
    ]
    if others:
        yield (
            f"{len(others)} JSON files of labelme lie below {root} and in neither folder, and are taken as "
            f"well ({some(others)}): if they are another set's, give this one a folder of its own"
        )


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


def own_keys(layout: str, root: Path, masks: str | None, given: ClassNames | None) -> _Own:
    """Finds classes, and whatever else a layout needs, in the files of the set itself.

    Args:
        layout: its name.
        root: the folder.
        masks: ``dataset.masks``, if it is known.
        given: what the command was given as classes, which takes precedence.

    Raises:
        InitError: a file cannot be read.
    """
    named: dict[str, Any] = {"classes": list(given.names)} if given else {}
    keys: dict[str, Any] = named
    notes: tuple[str, ...] = ()
    try:
        if (kind := DATASETS[layout]()).label_files:
            keys, notes = _from_label_file(kind, root, given)
        elif layout == Coco.name:
            keys, notes = (named, ()) if given else _coco(root, masks)
            notes += _crowds(root, masks, keys["classes"])
            keys |= {"masks": masks} if masks else {}
        elif layout == LabelMe.name:
            keys = named or {"classes": list(LabelMe().labels(root))}
            notes = ("masks are drawn from labelme's shapes, later ones over earlier, on background",)
        elif layout == Tfds.name:
            keys = _tfds(root, given)
    except StageError as error:
        raise InitError(str(error)) from None
    return {"root": str(root)} | keys, notes


def _from_label_file(layout: Layout, root: Path, given: ClassNames | None) -> _Own:
    """Takes the names that were given, or those in the first of the layout's files that there is."""
    file = next((name for name in layout.label_files if (root / name).is_file()), None)
    if given is None and file is None:
        return {}, ()
    told = given or read_class_names(f"{root}/{file}")
    notes = () if given else (f"classes from {file}",)
    usual = layout.usual_classes or ()
    if not told.told and set(told.names) <= set(usual):
        return {"classes": list(told.names)}, notes
    first = int(all(raw.value for raw in layout.classes if raw.name in usual))
    names = [name for name in told.names if name != _LABELME_IGNORED]
    values = told.raws or {name: value for value, name in enumerate(names, first)}
    plain = {name: list(raw) if isinstance(raw, tuple) else raw for name, raw in values.items()}
    note = ("0 is what has no label, so names count from 1",) if first else ()
    return {"label_values": plain}, (*notes, *note)


def _coco(root: Path, masks: str | None) -> _Own:
    layout = Coco(Options(masks=masks))
    used, unused = layout.categories(root)
    lists = ", ".join(layout.lists(root))
    notes = [f"masks are drawn from {lists}: smaller objects over larger"]
    if unused:
        notes.append(f"categories without any annotation, left out: {some(unused, _SHOWN, counted=True)}")
    return {"classes": list(used)}, tuple(notes)


def _crowds(root: Path, masks: str | None, classes: Sequence[str]) -> tuple[str, ...]:
    crowds = Coco(Options(masks=masks)).crowds(root)
    # What is none of the classes counts nowhere, crowd or not.
    counted = [f"{count} of {name}" for name, count in crowds.most_common() if name in classes]
    said = f"marked as crowds (iscrowd), and drawn as other objects are: {some(counted, _SHOWN)}"
    return (said,) if counted else ()


def _tfds(root: Path, given: ClassNames | None) -> dict[str, Any]:
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
    return keys


def _home(version: Path) -> Path:
    """The folder of the set that a version, or a version of a configuration, belongs to."""
    try:
        name = read_json(version / "dataset_info.json")["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise InitError(f"{version}/dataset_info.json cannot be read: {error}") from None
    return next((folder for folder in version.parents[:2] if folder.name == name), version.parent)


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
    has_labels = any((root / name).is_file() for name in layout.label_files)
    return has_labels or all(re.match(layout.key_pattern, entry.key) for entry in scan.entries)


def has_pictures(folder: Path) -> bool:
    """Tells whether anything in a folder could be a picture."""
    return any(suffix_of(path) in PICTURES for path in files_below(folder, onerror=None))
