"""What a layout is: a dataset's classes, and how its files are found and paired."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from components.errors import StageError
from components.image_mask_example_gen.report import Reason, Rejection, printable
from components.imaging.palette import Color

if TYPE_CHECKING:
    from components.image_mask_example_gen.mask import Mask

OFFICIAL_TRAINVAL: Final = "trainval"
OFFICIAL_TEST: Final = "test"


class RawClass(NamedTuple):
    """One class as a dataset's masks write it."""

    name: str
    value: int | Color
    """The number or colour of its pixels."""
    color: Color | None = None
    """To draw it in, where the dataset has one."""


@dataclass(frozen=True)
class Entry:
    """An image and its mask. Paths are relative to the dataset's root."""

    key: str
    """Unique name of the pair."""
    image: str
    mask: str
    official_split: str | None = None
    """``train``, ``val``, ``trainval`` or ``test`` where the dataset has official lists."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Feature names and values, for slicing."""


@dataclass(frozen=True)
class Scan:
    """Everything a layout finds under its root, without opening a picture."""

    entries: list[Entry]
    rejected: list[Rejection]
    files: list[str] = field(default_factory=list)
    """All input files relative to the root, lists that decided about the entries among them; sorted."""


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
    folders: tuple[str, ...] = ()
    """Folders that must be under the root."""
    files: tuple[str, ...] = ()
    """Files that must be under the root."""
    masks_are_files: bool = True
    """Whether each mask is a picture file of its own; otherwise ``Entry.mask`` only names it."""

    @abstractmethod
    def scan(self, root: Path) -> Scan:
        """Finds the pairs under a root without opening a picture."""

    def image_file(self, root: Path, entry: Entry) -> Path:
        """Returns what an image's bytes are read from: its file, or what opens like one."""
        return root / entry.image

    def open_mask(self, root: Path, entry: Entry, max_pixels: int) -> "Mask":
        """Opens an entry's mask; ``mask.open_mask`` says what comes of it and what it raises."""
        # Nothing of a picture is needed where layouts are only named.
        from components.image_mask_example_gen.mask import open_mask

        return open_mask(root / entry.mask, max_pixels)

    def missing(self, root: Path) -> list[str]:
        """What the root lacks, in words; raises OSError for what is there and cannot be read."""
        lacking = [f"folder {path}" for path in self.folders if not _can_be_listed(root / path)]
        return lacking + [f"file {path}" for path in self.files if not _can_be_opened(root / path)]

    def check_root(self, root: str) -> None:
        """Looks, at no cost, whether a folder can be this dataset's.

        Raises:
          ValueError: it cannot; one line says what is missing or cannot be read.
        """
        try:
            if not Path(root).is_dir():
                raise ValueError(f"dataset.root: no folder {root!r}; give the dataset's folder (--data DIR)")
            missing = self.missing(Path(root))
            subfolders = sorted(path for path in Path(root).iterdir() if path.is_dir()) if missing else []
        except OSError as error:
            raise ValueError(
                f"dataset.root: {error.filename or root!r} cannot be read: {error.strerror}; "
                "change its permissions or give another folder (--data DIR)"
            ) from error
        if not missing:
            return
        hint = next((path for path in subfolders if self._looks_right(path)), None)
        remedy = f"did you mean {str(hint)!r}?" if hint else "give the folder as the dataset unpacks"
        raise ValueError(
            f"dataset.root: {root!r} does not look like {self.name}, it has no {', '.join(missing)}; {remedy}"
        )

    def _looks_right(self, root: Path) -> bool:
        try:
            return not self.missing(root)
        except OSError:
            return False


def _can_be_listed(path: Path) -> bool:
    if not path.is_dir():
        return False
    with os.scandir(path):
        return True


def _can_be_opened(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb"):
        return True


def files_by_stem(root: Path, folder: str, suffix: str) -> list[tuple[str, str]]:
    """Returns stem and path (relative to root) of the files right under ``folder`` with this suffix.

    The suffix may have any case. Hidden files (macOS leaves a ``._`` twin beside each file of an archive) are
    no input files.
    """
    return sorted(
        (PurePosixPath(item.name).stem, f"{folder}/{item.name}")
        for item in os.scandir(root / folder)
        if not item.name.startswith(".")
        and item.name.lower().endswith(suffix)
        # A link that leads nowhere is a file that is missing, and is to be told of.
        and (item.is_file() or item.is_symlink())
    )


def pair_files(images: Iterable[tuple[str, str]], masks: Iterable[tuple[str, str]]) -> Scan:
    """Pairs (key, path) lists by key; a file without its counterpart is rejected.

    Raises:
      StageError: two images or two masks have the same key.
    """
    image_paths, mask_paths = _by_key(images, "images"), _by_key(masks, "masks")
    entries = [
        Entry(key, path, mask_paths[key]) for key, path in sorted(image_paths.items()) if key in mask_paths
    ]
    rejected = [
        Rejection(path, Reason.IMAGE_WITHOUT_MASK, f"no mask for the name {key!r}")
        for key, path in sorted(image_paths.items())
        if key not in mask_paths
    ]
    rejected += [
        Rejection(path, Reason.MASK_WITHOUT_IMAGE, f"no image for the name {key!r}")
        for key, path in sorted(mask_paths.items())
        if key not in image_paths
    ]
    return Scan(entries, rejected, sorted({*image_paths.values(), *mask_paths.values()}))


def _by_key(files: Iterable[tuple[str, str]], kind: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for key, path in files:
        if key in paths:
            raise StageError(
                f"Two {kind} have the same name {key!r}: {printable(paths[key])} and {printable(path)}. "
                "Rename or remove one, or narrow the pattern: names must be unique."
            )
        paths[key] = path
    return paths
