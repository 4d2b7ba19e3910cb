"""LabelMe: a JSON file of shapes beside each image.

Russell et al., "LabelMe: A Database and Web-Based Tool for Image Annotation", IJCV 2008; the files are those
of its Python successor, ``labelme``.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, cast

from components.bucket import BucketPath
from components.errors import StageError
from components.folders import check_machine, files_below, open_file
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

_NAMES: Final = {"_background_": BACKGROUND, "__ignore__": None}
"""labelme's own labels; None counts nowhere."""
_BEGINNING: Final = 1 << 16


class LabelMe(Layout):
    """Shapes are drawn in their order, later ones over earlier ones; what no shape covers is background."""

    name = "labelme"
    init_folders = (".", ".")
    masks_are_files = False

    def __init__(self, options: Options = NO_OPTIONS):
        self.classes, self.usual_classes = classes_by_name(options.classes)

    def missing(self, root: Path) -> list[str]:
        """Returns what the root lacks."""
        return (
            []
            if next(self.annotations(root), None)
            else ['file *.json with "shapes" and "imagePath", as labelme writes beside images']
        )

    def annotations(self, root: Path) -> Iterator[str]:
        """Yields the JSON files that hold shapes, relative to the root."""
        return (path for path in _json_files(root) if _is_labelme(root / path))

    def labels(self, root: Path) -> tuple[str, ...]:
        """Returns the labels that any shape has, in alphabetical order, background first.

        Raises:
          StageError: a file cannot be read.
        """
        found = {BACKGROUND}
        for path in self.annotations(root):
            try:
                shapes = _read(root / path)["shapes"]
            except ValueError as error:
                raise StageError(f"{path}: {error}") from None
            found |= {label for shape in shapes if (label := label_of(shape)) is not None}
        return (BACKGROUND, *sorted(found - {BACKGROUND}))

    def scan(self, root: Path) -> Scan:
        """Finds each JSON file's image: what it names, else the picture of the same name beside it.

        A picture elsewhere that alone has the name is meant where the JSON file is called so as well, or lies
        beside none of its own name but a PNG instead of another kind, as renderings are: else both may have
        been renamed since it was written.
        Pictures without a JSON file have not been annotated and are set aside.
        """
        pictures, annotations = [], []
        for path in files_below(root):
            suffix = PurePosixPath(path).suffix.lower()
            if suffix in PICTURES:
                pictures.append(path)
            elif suffix == ".json" and _is_labelme(root / path):
                annotations.append(path)
        known = set(pictures)
        stems = {str(PurePosixPath(path).with_suffix("")): path for path in pictures}
        places: dict[str, list[str]] = defaultdict(list)
        for path in pictures:
            places[PurePosixPath(path).name].append(path)
        entries: list[Entry] = []
        rejected: list[Rejection] = []
        used: dict[str, str] = {}
        for path in annotations:
            stem = str(PurePosixPath(path).with_suffix(""))
            try:
                image = _image_of(path, root, known, places, stems.get(stem))
            except ValueError as error:
                rejected.append(Rejection(path, Reason.NOT_DECODABLE, str(error)))
                continue
            if image is None:
                found = f"no image is called as its imagePath says, or {PurePosixPath(stem).name}.* beside it"
                rejected.append(Rejection(path, Reason.MASK_WITHOUT_IMAGE, found))
                continue
            if image in used:
                raise StageError(f"{used[image]} and {path} are both of the image {image}; remove one")
            used[image] = path
            entries.append(Entry(stem, image, path, innermost_split(PurePosixPath(path).parts[:-1])))
        for image in sorted(known - used.keys()):
            found = "no JSON file beside it: not annotated"
            rejected.append(Rejection(image, Reason.UNLISTED, found))
        return Scan(sorted(entries, key=lambda entry: entry.key), rejected, sorted([*used, *annotations]))

    def open_mask(self, root: Path, entry: Entry, max_pixels: int) -> "Mask":
        """Opens the shapes of an image."""
        from components.image_mask_example_gen.drawn_masks import ShapesMask
        from components.image_mask_example_gen.files import InputRejectedError, check_pixels, read_picture

        try:
            content = _read(root / entry.mask)
        except ValueError as error:
            raise InputRejectedError(Reason.NOT_DECODABLE, str(error)) from None
        height, width = (_size(content.get(key)) for key in ("imageHeight", "imageWidth"))
        if not (height and width):
            # Old versions did not tell.
            _, picture = read_picture(self.image_file(root, entry), max_pixels)
            width, height = picture.size
        check_pixels(width, height, max_pixels)
        values: dict[str | None, int] = {
            raw.name: raw.value for raw in self.classes if isinstance(raw.value, int)
        }
        return ShapesMask(height, width, content["shapes"], values, values.get(BACKGROUND, IGNORED))


def label_of(shape: dict[str, Any]) -> str | None:
    """Returns the class that a shape names, None for what counts nowhere."""
    label: str = shape["label"]
    return _NAMES.get(label, label)


def _size(number: Any) -> int:
    return number if isinstance(number, int) and number > 0 else 0


def _read(path: Path) -> dict[str, Any]:
    """Reads a file as far as its ``shapes`` can be relied on.

    Raises:
      ValueError: they cannot.
      StageError: it is no longer in its bucket.
    """
    try:
        content = read_json(path)
    except OSError as error:
        if isinstance(path, BucketPath):
            raise StageError(f"{path} is gone since its folder was listed; start again") from error
        check_machine(error, path)
        raise ValueError(f"cannot be read: {error.strerror}") from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise ValueError('no "shapes" in it, as labelme writes them')
    for number, shape in enumerate(shapes):
        if not (isinstance(shape, dict) and isinstance(shape.get("label"), str) and shape.get("points")):
            raise ValueError(f"shape {number} has no label or no points")
    return cast(dict[str, Any], content)


def _image_of(
    path: str, root: Path, pictures: set[str], places: dict[str, list[str]], beside: str | None
) -> str | None:
    named = _read(root / path).get("imagePath")
    if not isinstance(named, str):
        return beside
    # What was annotated elsewhere has folders that are not here.
    folder, name = PurePosixPath(path).parent, PurePosixPath(named.replace("\\", "/")).name
    candidates = [path_below(folder, named), path_below(folder, name)]
    # A PNG beside, where none is named, may be what was drawn of the shapes. Of other kinds one is spelt in
    # several ways, .jpg and .jpeg.
    is_renamed = (
        beside is not None
        and (_is_png(name) or not _is_png(beside))
        and PurePosixPath(name).stem != PurePosixPath(path).stem
    )
    if len(places[name]) == 1 and not is_renamed:
        candidates += places[name]
    return next((each for each in candidates if each in pictures), beside)


def _is_png(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() == ".png"


def _is_labelme(path: Path) -> bool:
    """Looks at the beginning, where the keys of one of several kinds of JSON stand.

    In alphabetical order the embedded picture comes before all but flags, and fills the beginning.
    """
    try:
        with open_file(path) as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return True
    return b'"shapes"' in beginning or b'"imageData"' in beginning


def _json_files(root: Path) -> Iterator[str]:
    return (path for path in files_below(root) if path.lower().endswith(".json"))
