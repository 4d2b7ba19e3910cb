"""What a layout is: a dataset's classes, and how its files are found and paired."""

import os
import posixpath
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from components.bucket import BucketPath, path_of
from components.errors import StageError, printable
from components.folders import scan_folder, split_suffix
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.suffixes import UNREAD_PICTURES
from components.imaging.palette import Color

if TYPE_CHECKING:
    from components.image_mask_example_gen.mask import Mask

MaskValues = Literal["index", "alpha", "pages"]
"""What a mask's raw values are where they are not what its pixels show."""

Attributes = tuple[tuple[str, str], ...]
"""Names and values of features."""

BACKGROUND: Final = "background"
"""The class of what no annotation covers, where masks are drawn from names."""
IGNORED: Final = 255
"""The raw value of what counts nowhere in such a mask."""


class RawClass(NamedTuple):
    """One class as a dataset's masks write it."""

    name: str
    value: int | Color
    """The number or colour of its pixels."""
    color: Color | None = None
    """To draw it in, where the dataset has one."""


class MaskPart(NamedTuple):
    """One of the files that a mask is merged from."""

    path: str
    value: int | None = None
    """The raw value of all in it that is not 0; None where its own values count."""


class Options(NamedTuple):
    """What a recipe may say to a layout that lies in many forms."""

    classes: tuple[str, ...] = ()
    """``dataset.classes``."""
    label_values: tuple[RawClass, ...] = ()
    """``dataset.label_values``."""
    images: str | None = None
    masks: str | None = None
    name: str | None = None


NO_OPTIONS: Final = Options()
_A_FOLDER: Final = "give the dataset's folder (--data DIR)"


@dataclass(frozen=True, slots=True)
class Entry:
    """An image and its mask, one of maybe a million. Paths are relative to the dataset's root."""

    key: str
    """Unique name of the pair."""
    image: str
    mask: str
    """Where it is merged from several files, the first of them."""
    official_split: str | None = None
    """``train``, ``val``, ``trainval`` or ``test`` where the dataset has official lists."""
    attributes: Attributes = ()
    """Feature names and values, for slicing."""
    parts: tuple[MaskPart, ...] = ()
    """The files that the mask is merged from, later over earlier; empty where it is a file as it stands."""

    @property
    def mask_files(self) -> tuple[str, ...]:
        """Those that the mask is read from."""
        return tuple(part.path for part in self.parts) or (self.mask,)


@dataclass(frozen=True)
class Scan:
    """Everything a layout finds under its root, without opening a picture."""

    entries: list[Entry]
    rejected: list[Rejection]
    files: list[str] = field(default_factory=list)
    """All input files relative to the root, lists that decided about the entries among them; sorted."""
    notes: tuple[str, ...] = ()
    """What deserves to be said of the entries, a line each."""


class Layout(ABC):
    """A dataset, as its official download unpacks. All that is peculiar to it ends here."""

    name: str
    """As ``dataset.layout`` says it."""
    classes: tuple[RawClass, ...]
    """All that its masks may hold."""
    usual_classes: tuple[str, ...] | None = None
    """Names of those that are meant where the recipe chooses none; None for all."""
    attributes: tuple[str, ...] = ()
    """Names of the features for slicing that every Entry carries."""
    slices: tuple[str, ...] = ()
    """What to propose for ``evaluation.slices``."""
    group: str | None = None
    """``dataset.splits.group`` where the recipe has none."""
    options: frozenset[str] = frozenset()
    """Which of ``dataset.images``, ``masks``, ``name``, ``label_values`` and ``ignore_label`` it knows."""
    init_folders: tuple[str, ...] = ()
    """The folder of images and those of masks that ``pipeline.init`` knows it by."""
    label_files: tuple[str, ...] = ()
    """Files right under the root that may name the classes of a set made in its form."""
    key_pattern: str = ""
    """Regular expression for the beginning of its own pairs' keys, where others use its folders, too."""
    folders: tuple[str, ...] = ()
    """Folders that must be under the root."""
    files: tuple[str, ...] = ()
    """Files that must be under the root."""
    reads_buckets: bool = True
    """Whether its files are read by paths alone, which may be those of objects."""
    masks_are_files: bool = True
    """Whether each mask is a picture file of its own; otherwise ``Entry.mask`` only names it."""
    mask_values: MaskValues | None = None

    def __init__(self, options: Options = NO_OPTIONS):  # noqa: B027
        """Takes what a recipe's ``dataset`` block says to it; most layouts need nothing."""

    @abstractmethod
    def scan(self, root: Path) -> Scan:
        """Finds the pairs under a root without opening a picture."""

    def image_file(self, root: Path, entry: Entry) -> Path:
        """Returns what an image's bytes are read from: its file, or what opens like one."""
        return root / entry.image

    def open_mask(self, root: Path, entry: Entry, max_pixels: int) -> "Mask":
        """Opens an entry's mask; ``mask.open_mask`` says what comes of it and what it raises."""
        # Nothing of a picture is needed where layouts are only named.
        from components.image_mask_example_gen.mask import MergedMask, open_mask

        if entry.parts:
            return MergedMask(root, entry.parts, max_pixels, self.mask_values)
        return open_mask(root / entry.mask, max_pixels, self.mask_values)

    def forget(self) -> None:  # noqa: B027
        """Lets go of what `scan` and `open_mask` keep in memory, and would read anew."""

    def missing(self, root: Path) -> list[str]:
        """What the root lacks, in words; raises OSError for what is there and cannot be read."""
        lacking = [f"folder {path}" for path in self.folders if not _can_be_listed(root / path)]
        return lacking + [f"file {path}" for path in self.files if not _can_be_opened(root / path)]

    def check_root(self, root: str) -> None:
        """Looks, at no cost, whether a folder can be this dataset's.

        Raises:
          ValueError: it cannot; one line says what is missing or cannot be read.
        """
        folder = path_of(root)
        in_bucket = isinstance(folder, BucketPath)
        if in_bucket and not self.reads_buckets:
            raise ValueError(
                f"dataset.root: layout {self.name} reads no bucket, and {root} is in one; copy the folder "
                "and give its path (--data DIR)"
            )
        try:
            with folder.listed() if isinstance(folder, BucketPath) else nullcontext():
                if not folder.is_dir():
                    remedy = "give a folder of a bucket that has objects below it" if in_bucket else _A_FOLDER
                    raise ValueError(f"dataset.root: no folder {root!r}; {remedy}")
                missing = self.missing(folder)
                hint = self._hint(folder) if missing else None
        except OSError as error:
            raise ValueError(
                f"dataset.root: {error.filename or root!r} cannot be read: {error.strerror}; "
                "change its permissions or give another folder (--data DIR)"
            ) from error
        except StageError as error:
            raise ValueError(f"dataset.root: {error}") from error
        if not missing:
            return
        remedy = f"did you mean {str(hint)!r}?" if hint else "give the folder as the dataset unpacks"
        raise ValueError(
            f"dataset.root: {root!r} does not look like {self.name}, it has no {', '.join(missing)}; {remedy}"
        )

    def _hint(self, root: Path) -> Path | None:
        """The subfolder that was probably meant."""
        subfolders = sorted(path for path in root.iterdir() if path.is_dir())
        return next((path for path in subfolders if self._looks_right(path)), None)

    def _looks_right(self, root: Path) -> bool:
        try:
            return not self.missing(root)
        except (OSError, StageError):
            return False


def _can_be_listed(path: Path) -> bool:
    if not path.is_dir():
        return False
    # In a bucket, what may not be read fails before.
    with nullcontext() if isinstance(path, BucketPath) else os.scandir(path):
        return True


def _can_be_opened(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb"):
        return True


def files_by_stem(root: Path, folder: str, suffix: str | tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns stem and path (relative to root) of the files right under ``folder`` with these suffixes.

    Suffixes, given in lower case, may have any case. Hidden files (macOS leaves a ``._`` twin beside each
    file of an archive) are no input files.
    """
    return sorted(
        (split_suffix(item.name)[0], f"{folder}/{item.name}")
        for item in scan_folder(root / folder)
        if not item.name.startswith(".")
        and item.name.lower().endswith(suffix)
        # A link that leads nowhere is a file that is missing, and is to be told of.
        and (item.is_file() or item.is_symlink())
    )


def subfolders(root: Path, folder: str) -> list[str]:
    """Returns the names of the folders right under ``folder``, hidden ones left out, if it is there."""
    if not (root / folder).is_dir():
        return []
    return sorted(item.name for item in scan_folder(root / folder) if item.is_dir() and item.name[0] != ".")


def path_below(folder: PurePosixPath, name: str) -> str | None:
    """Joins a folder and what a file in it calls another, None where that leads out of the root.

    The name may have been written on Windows.
    """
    joined = posixpath.normpath(folder / name.replace("\\", "/"))
    return None if joined.startswith(("../", "/")) or joined == ".." else joined


def classes_told(named: tuple[RawClass, ...], void: RawClass) -> tuple[tuple[RawClass, ...], tuple[str, ...]]:
    """Returns classes, and which of them are meant, where ``dataset.label_values`` tells them.

    Args:
      named: what it says.
      void: what counts nowhere by the dataset's custom, unless that is named.
    """
    is_named = any(void.value == raw.value or void.name == raw.name for raw in named)
    return named if is_named else (*named, void), tuple(raw.name for raw in named)


def classes_by_name(names: Sequence[str]) -> tuple[tuple[RawClass, ...], tuple[str, ...]]:
    """Returns classes, and which of them are meant, where masks are drawn from names.

    The raw values are the names' places; `IGNORED` is what has another name, or none and is no background.

    Raises:
      ValueError: there are more names than a byte of a drawn mask tells apart.
    """
    if len(names) > IGNORED:
        raise ValueError(
            f"dataset.classes has {len(names)} names, and a drawn mask tells {IGNORED} apart, those that "
            "dataset.merge_classes merges among them; what has a name that is left out counts nowhere"
        )
    named = tuple(RawClass(name, value) for value, name in enumerate(names))
    return (*named, RawClass("(ignored)", IGNORED)) if named else (), tuple(names)


def pair_files(
    images: Iterable[tuple[str, str]],
    masks: Iterable[tuple[str, str]],
    other_images: Mapping[str, str] = MappingProxyType({}),
    other_masks: Mapping[str, str] = MappingProxyType({}),
) -> Scan:
    """Pairs (key, path) lists by key; a file without its counterpart is rejected.

    Names that differ in upper and lower case only are one where that is not ambiguous.

    Args:
      images: keys and paths.
      masks: keys and paths.
      other_images: by key, pictures that are no input files; to tell what became of a missing counterpart.
      other_masks: likewise.

    Raises:
      StageError: two images or two masks have the same key.
    """
    image_paths, mask_paths = _by_key(images, "images"), _by_key(masks, "masks")
    partners = {key: key for key in image_paths.keys() & mask_paths.keys()}
    partners |= _in_any_case(image_paths.keys() - partners.keys(), mask_paths.keys() - partners.keys())
    entries = [Entry(key, image_paths[key], mask_paths[partners[key]]) for key in sorted(partners)]
    lone_images = {key: path for key, path in image_paths.items() if key not in partners}
    lone_masks = {key: mask_paths[key] for key in mask_paths.keys() - set(partners.values())}
    rejected = [
        *_lone(lone_images, other_masks, Reason.IMAGE_WITHOUT_MASK, "mask"),
        *_lone(lone_masks, other_images, Reason.MASK_WITHOUT_IMAGE, "image"),
    ]
    return Scan(entries, rejected, sorted({*image_paths.values(), *mask_paths.values()}))


def _by_key(files: Iterable[tuple[str, str]], kind: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for key, path in files:
        if key in paths:
            remedy = "Rename or remove one, or narrow the pattern: names must be unique."
            if kind == "masks" and PurePosixPath(path).parent != PurePosixPath(paths[key]).parent:
                remedy += " Where each folder is a class, give dataset.masks a pattern for each of them."
            raise StageError(
                f"Two {kind} have the same name {key!r}: {printable(paths[key])} and {printable(path)}. "
                + remedy
            )
        paths[key] = path
    return paths


def _in_any_case(images: Collection[str], masks: Collection[str]) -> dict[str, str]:
    """Masks' keys by those of images that differ from them, and from no others, in case alone."""
    sides = []
    for keys in (images, masks):
        folded: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            folded[key.casefold()].append(key)
        sides.append(folded)
    of_images, of_masks = sides
    return {
        keys[0]: of_masks[name][0]
        for name, keys in of_images.items()
        if len(keys) == 1 and len(of_masks.get(name, ())) == 1
    }


def _lone(
    files: Mapping[str, str], others: Mapping[str, str], reason: Reason, missing: str
) -> Iterator[Rejection]:
    for key, path in sorted(files.items()):
        other = others.get(key)
        if other is None:
            yield Rejection(path, reason, f"no {missing} for the name {key!r}")
        elif (suffix := PurePosixPath(other).suffix.lower()) in UNREAD_PICTURES:
            found = f"{suffix} is not read here: save it as PNG{' or JPEG' if missing == 'image' else ''}"
            yield Rejection(other, Reason.NOT_READ, f"{found} ({path} is left out with it)")
        else:
            found = f"no {missing} for the name {key!r}: dataset.{missing}s does not match {other}"
            yield Rejection(path, reason, found)
