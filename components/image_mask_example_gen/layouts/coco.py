"""COCO's JSON: instances (polygons and run lengths) or panoptic segments, from whatever tool wrote it.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; Kirillov et al., "Panoptic Segmentation",
CVPR 2019.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from components.bucket import BucketPath
from components.dataset.features import SPLITS
from components.errors import StageError
from components.folders import files_below, scan_folder
from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.layouts.json_file import read_json
from components.image_mask_example_gen.layouts.layout import (
    BACKGROUND,
    IGNORED,
    NO_OPTIONS,
    Entry,
    Layout,
    Options,
    Scan,
    classes_by_name,
    path_below,
)
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_names import innermost_split
from components.image_mask_example_gen.suffixes import PICTURES

if TYPE_CHECKING:
    from components.image_mask_example_gen.mask import Mask

_HEAD: Final = re.compile(rb'\s*\{\s*"(info|licenses|images|annotations|categories|segment_info)"')
_BEGINNING: Final = 1 << 12
_DEPTH: Final = 3
"""Folders below the root in which lists are looked for."""
_KINDS: Final = ("instances", "panoptic", "")
"""How the lists that are taken begin, where the recipe does not say; the first kind that there is."""
_NO_MASKS: Final = re.compile(r"(captions|image_info|stuff|.*_pixelmaps)(_|$)")
_READING: Final = Lock()
_FOLDERS: Final = ("", "images", "JPEGImages", "data", "train", "val", "test")


class Segment(NamedTuple):
    """One annotation, as small as can be: there are hundreds of thousands."""

    category: int
    crowd: bool
    shape: Any
    """Polygons, each an array of x, y, x, y …; or run lengths with their size; or a panoptic id."""


@dataclass
class Annotations:
    """What a list holds."""

    images: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """File name, height and width of each image id."""
    categories: dict[int, str] = field(default_factory=dict)
    segments: dict[int, list[Segment]] = field(default_factory=dict)
    """Of each image id, in the list's order."""
    pictures: dict[int, str] = field(default_factory=dict)
    """Of a panoptic list, the PNG of each image id."""


class Coco(Layout):
    """Categories by name, in the order of their ids; what no annotation covers is background.

    Larger segments are drawn first and smaller ones over them, so that a cup on a table stays a cup; of equal
    ones the later in the list wins. A crowd is drawn as any other segment: a crowd of people is people, and
    CVAT and Datumaro call every brush mask a crowd, the small one on a large polygon, too.
    """

    name = "coco"
    options = frozenset({"masks"})
    masks_are_files = False

    def __init__(self, options: Options = NO_OPTIONS):
        self._lists = options.masks
        self.classes, self.usual_classes = classes_by_name(options.classes)

    def missing(self, root: Path) -> list[str]:
        """Returns what the root lacks."""
        if self.lists(root):
            return []
        where = f" that matches dataset.masks={self._lists!r}" if self._lists else ""
        return [f'COCO list{where}: a file *.json with "images", "annotations" and "categories"']

    def lists(self, root: Path) -> list[str]:
        """Returns the JSON files that are taken, relative to the root."""
        if self._lists:
            # Whatever a list is called, and however deep it lies, whoever names it means it.
            pattern = FilePattern(self._lists)
            return sorted(
                path for path in pattern.walk(root) if path.lower().endswith(".json") and pattern.match(path)
            )
        found = [path for path in _json_files(root) if looks_like_coco(root / path)]
        for kind in _KINDS:
            if chosen := [path for path in found if PurePosixPath(path).stem.startswith(kind)]:
                return chosen
        return []

    def categories(self, root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Returns the names of the categories that are used, background first, and of those that are not.

        They are in the order of their ids. Panoptic lists have no background, as every pixel is meant to have
        a category.

        Raises:
          StageError: a list cannot be read, or two lists disagree.
        """
        known: dict[int, str] = {}
        used: set[int] = set()
        panoptic = False
        for path in self.lists(root):
            annotations = _load(root, path)
            panoptic |= bool(annotations.pictures)
            used |= {segment.category for its in annotations.segments.values() for segment in its}
            for number, name in annotations.categories.items():
                if known.setdefault(number, name) != name:
                    raise StageError(
                        f"{path}: category {number} is {name!r}, and {known[number]!r} in another list; "
                        "choose one kind of lists with dataset.masks, such as annotations/instances_*.json"
                    )
        names = dict.fromkeys(known[number] for number in sorted(used))
        unused = dict.fromkeys(known[number] for number in sorted(known) if known[number] not in names)
        return tuple(names if panoptic else {BACKGROUND: None, **names}), tuple(unused)

    def crowds(self, root: Path) -> Counter[str]:
        """Counts the crowds of each category."""
        return Counter(
            annotations.categories[segment.category]
            for annotations in (_load(root, path) for path in self.lists(root))
            for its in annotations.segments.values()
            for segment in its
            if segment.crowd
        )

    def scan(self, root: Path) -> Scan:
        """Finds each image of each list. Pictures beside them that no list has are set aside."""
        entries: dict[str, Entry] = {}
        """By image."""
        rejected: list[Rejection] = []
        lists = self.lists(root)
        files = set(lists)
        folders: set[str] = set()
        finder = _Finder(root)
        categories: set[str] = set()
        for path in lists:
            annotations = _load(root, path)
            categories |= set(annotations.categories.values())
            split = innermost_split(PurePosixPath(path).with_suffix("").parts)
            for number, (name, _, _) in annotations.images.items():
                mask = f"{path}#{number}"
                image = finder.find(name, path, split)
                if image is None:
                    found = f"its image {name!r} is in none of the folders where one would look"
                    rejected.append(Rejection(mask, Reason.MASK_WITHOUT_IMAGE, found))
                    continue
                if image in entries:
                    raise StageError(
                        f"{image} is in {entries[image].mask} and in {mask}; a picture has one mask: "
                        "remove one, or choose lists: dataset.masks, such as annotations/instances_*.json"
                    )
                entries[image] = Entry(image, image, mask, split)
                files.add(image)
                folders.add(PurePosixPath(image).parent.as_posix())
                if picture := annotations.pictures.get(number):
                    files.add(_panoptic_file(root, path, picture))
        if self.classes:
            unknown = [name for name in self.usual_classes or () if name not in categories | {BACKGROUND}]
            if unknown:
                raise StageError(
                    f"dataset.classes: {', '.join(lists)} has no category {', '.join(map(repr, unknown))}; "
                    f"it has {', '.join(sorted(categories))}"
                )
        for folder in sorted(folders):
            for image in sorted(finder.pictures(folder) - files):
                rejected.append(Rejection(image, Reason.UNLISTED, f"in none of {', '.join(lists)}"))
        return Scan(_keyed(entries), rejected, sorted(files))

    def open_mask(self, root: Path, entry: Entry, max_pixels: int) -> "Mask":
        """Opens the annotations of an image; a list is read once a process, until it is forgotten."""
        from components.image_mask_example_gen.drawn_masks import SegmentsMask
        from components.image_mask_example_gen.files import InputRejectedError, check_pixels
        from components.image_mask_example_gen.mask import PictureMask

        path, _, number = entry.mask.rpartition("#")
        try:
            annotations = _load(root, path)
        except StageError as error:
            if isinstance(root, BucketPath):
                raise
            raise InputRejectedError(Reason.NOT_DECODABLE, str(error)) from None
        _, height, width = annotations.images[int(number)]
        check_pixels(width, height, max_pixels)
        values = {raw.name: raw.value for raw in self.classes if isinstance(raw.value, int)}
        segments = annotations.segments.get(int(number), [])
        shown = {id: values.get(name, IGNORED) for id, name in annotations.categories.items()}
        background = values.get(BACKGROUND, IGNORED)
        if (picture := annotations.pictures.get(int(number))) is None:
            return SegmentsMask(height, width, segments, shown, background)
        panoptic = PictureMask(root / _panoptic_file(root, path, picture), max_pixels)
        return SegmentsMask(panoptic.height, panoptic.width, segments, shown, background, panoptic)

    def forget(self) -> None:
        """Lets go of all lists."""
        _load_unchanged.cache_clear()


def _keyed(entries: Mapping[str, Entry]) -> list[Entry]:
    """Gives each image's entry its key: its path, without the suffix where that leaves it one of its own."""
    stems = {image: str(PurePosixPath(image).with_suffix("")) for image in entries}
    taken = Counter([*stems.values(), *stems])
    keyed = (
        replace(entry, key=stems[image] if taken[stems[image]] == 1 else image)
        for image, entry in entries.items()
    )
    return sorted(keyed, key=lambda entry: entry.key)


def _load(root: Path, path: str) -> Annotations:
    """Reads a list, once a process as long as it stays the same and `Coco.forget` is not called.

    Raises:
      StageError: it cannot be read.
    """
    try:
        status = (root / path).stat()
        # Two threads that find it missing would read it twice.
        with _READING:
            return _load_unchanged(root, path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StageError(f"{path}: {reason}") from None


# All of them: pairs come in random order, and a list that is not kept would be read for each again.
@cache
def _load_unchanged(root: Path, path: str, modified: int, size: int) -> Annotations:
    content = read_json(root / path, _compact)
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise ValueError('no COCO list: "images", "annotations" or "categories" is missing or no list')
    found = Annotations()
    for item in content["categories"]:
        if not (isinstance(item, dict) and _is_id(item.get("id")) and isinstance(item.get("name"), str)):
            raise ValueError(f"a category without id and name: {str(item)[:80]}")
        if found.categories.setdefault(item["id"], item["name"]) != item["name"]:
            raise ValueError(f"two categories have the id {item['id']}")
    for item in content["images"]:
        if not isinstance(item, _Image):
            raise ValueError(f"an image without id, file_name, height and width: {str(item)[:80]}")
        if item.id in found.images:
            raise ValueError(f"two images have the id {item.id}")
        found.images[item.id] = (item.file, item.height, item.width)
    segments = defaultdict(list)
    for item in content["annotations"]:
        if not isinstance(item, _Annotation | _Panoptic):
            raise ValueError(f"an annotation without image_id, category_id or segmentation: {str(item)[:80]}")
        if item.image not in found.images:
            raise ValueError(f"an annotation of the image {item.image}, which is not in the list")
        if isinstance(item, _Panoptic):
            found.pictures[item.image] = item.file
            segments[item.image] = list(item.segments)
        else:
            segments[item.image].append(item.segment)
    found.segments = dict(segments)
    if segments and all(segment.shape == () for its in segments.values() for segment in its):
        raise ValueError("it has boxes and no outlines (segmentation), and boxes outline nothing")
    for image, its in found.segments.items():
        for segment in its:
            if segment.category not in found.categories:
                raise ValueError(f"the image {image} has the category {segment.category}, which has no name")
    return found


class _Image(NamedTuple):
    id: int
    file: str
    height: int
    width: int


class _Annotation(NamedTuple):
    image: int
    segment: Segment


class _Panoptic(NamedTuple):
    image: int
    file: str
    segments: tuple[Segment, ...]


def _compact(item: dict[str, Any]) -> Any:
    """Turns images and annotations into small tuples as soon as they are read; the rest stays as it is."""
    if _is_id(item.get("image_id")):
        if isinstance(segments := item.get("segments_info"), list):
            if isinstance(item.get("file_name"), str) and all(isinstance(each, Segment) for each in segments):
                return _Panoptic(item["image_id"], item["file_name"], tuple(segments))
        elif _is_id(item.get("category_id")):
            shape = _compact_shape(item.get("segmentation"))
            if shape is not None:
                crowd = bool(item.get("iscrowd"))
                return _Annotation(item["image_id"], Segment(item["category_id"], crowd, shape))
    elif _is_id(item.get("category_id")) and _is_id(item.get("id")):
        return Segment(item["category_id"], bool(item.get("iscrowd")), item["id"])
    elif isinstance(item.get("file_name"), str) and _is_id(item.get("id")):
        height, width = item.get("height"), item.get("width")
        if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
            return _Image(item["id"], item["file_name"], height, width)
    return item


def _compact_shape(shape: Any) -> Any:
    if isinstance(shape, dict):
        return shape
    try:
        return tuple(array("d", polygon) for polygon in shape or ())
    except (TypeError, OverflowError):
        return None


def _is_id(number: Any) -> bool:
    return type(number) is int


def _panoptic_file(root: Path, path: str, name: str) -> str:
    """The PNG of a panoptic list: in a folder of the list's name beside it, or right beside it."""
    listed = PurePosixPath(path)
    inside, beside = path_below(listed.with_suffix(""), name), path_below(listed.parent, name)
    if inside and (beside is None or (root / inside).is_file()):
        return inside
    if beside is None:
        raise StageError(f"{path}: the mask {name!r} lies outside of the dataset's folder")
    return beside


class _Finder:
    """Finds images by the names that lists have for them; each folder is listed once."""

    def __init__(self, root: Path):
        self._root = root
        self._listed: dict[str, set[str]] = {}
        self._folders: dict[str, list[PurePosixPath]] = {}
        self._last: dict[str, PurePosixPath] = {}

    def find(self, name: str, path: str, split: str | None) -> str | None:
        """Returns an image's path relative to the root, None where it is not there.

        Args:
          name: Its name in the list.
          path: The list that names it, relative to the root.
          split: The list's split.
        """
        last = self._last.get(path)
        if path not in self._folders:
            self._folders[path] = self._folders_of(path, split)
        folders = self._folders[path]
        for base in folders if last is None else (last, *folders):
            if (found := path_below(base, name)) and self._is_there(found):
                self._last[path] = base
                return found
        if "/" in name or "\\" in name:
            # A path of another machine.
            return self.find(PurePosixPath(name.replace("\\", "/")).name, path, split)
        return None

    def pictures(self, folder: str) -> set[str]:
        """Returns the paths of the pictures right in a folder."""
        names = self._names(folder)
        start = "" if folder == "." else f"{folder}/"
        return {start + name for name in names if PurePosixPath(name).suffix.lower() in PICTURES}

    def _folders_of(self, path: str, split: str | None) -> list[PurePosixPath]:
        """Where a list's images may lie: not with those of another split, where its own have a folder."""
        listed = PurePosixPath(path)
        bases = dict.fromkeys((listed.parent, listed.parent.parent, PurePosixPath(".")))
        # instances_train2017.json is about train2017.
        subject = listed.stem.partition("_")[2] or listed.stem
        own = [name for name in (subject, split) if name]
        own += [f"images/{name}" for name in own]
        others: set[str] = set()
        if split in SPLITS and (
            innermost_split(listed.parent.parts) == split
            or any(self.pictures((base / name).as_posix()) for base in bases for name in own)
        ):
            others = set(SPLITS) - {split}
        names = [*own, *(name for name in _FOLDERS if name not in others)]
        return [base / name for base in bases for name in ("", *names)]

    def _is_there(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self._names(folder or ".")

    def _names(self, folder: str) -> set[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = {
                    item.name for item in scan_folder(self._root / folder) if not item.name.startswith(".")
                }
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = set()
        return self._listed[folder]


def _json_files(root: Path) -> list[str]:
    found = (path for path in files_below(root, depth=_DEPTH) if path.lower().endswith(".json"))
    return sorted(path for path in found if not _NO_MASKS.match(PurePosixPath(path).stem))


def looks_like_coco(path: Path) -> bool:
    """Looks at the beginning of a file, where the keys of one of several kinds of JSON stand."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _HEAD.match(file.read(_BEGINNING)) is not None
