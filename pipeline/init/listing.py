"""The files of two folders, listed once, and what the ingestion makes of patterns for images and masks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.errors import StageError
from components.image_mask_example_gen.layouts import folder as folder_layout
from components.image_mask_example_gen.layouts.file_pattern import FilePattern
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.report import Rejection
from components.image_mask_example_gen.suffixes import MASKS
from pipeline.init.files import Folder, suffix_of
from pipeline.init.patterns import joined


@dataclass(frozen=True)
class Pairing:
    """How files were paired, and what came of it."""

    dataset: dict[str, Any]
    """The keys ``layout``, ``root``, ``images`` and ``masks`` of the recipe's ``dataset`` block."""
    entries: tuple[Entry, ...]
    """Paths are relative to ``dataset["root"]``."""
    unpaired: tuple[Rejection, ...]
    """Files that match a pattern and have no partner."""
    files: frozenset[str] = frozenset()
    """All that match a pattern."""
    besides: frozenset[str] = frozenset()
    """Masks that match none and are named in the notes."""
    notes: tuple[str, ...] = ()
    """What was decided between several kinds of masks, and which pictures are not used, a line each."""
    other_files: tuple[str, ...] = ()
    """What else lies in the folders, and is no picture."""
    doubts: tuple[str, ...] = ()
    """What to look at before the masks are believed, a sentence each."""
    may_be_classes: Mapping[str, str] = field(default_factory=dict)
    """A pattern for each folder of masks whose name may be that of a class, or of a scene."""

    @property
    def root(self) -> Path:
        return Path(self.dataset["root"])

    @property
    def layout(self) -> folder_layout.Folder:
        """What reads the files."""
        return folder_layout.Folder(self.dataset["images"], self.dataset["masks"], ())

    @property
    def mask_of(self) -> dict[str, str]:
        return {entry.image: entry.mask for entry in self.entries}

    def noting(self, *notes: str, **more: Any) -> "Pairing":
        """Returns the same with further notes, and what else is said, as of `dataclasses.replace`."""
        return replace(self, notes=(*self.notes, *notes), **more)


class Listing:
    """What lies in the folders of images and of masks, or in one for both; paths are relative to ``root``."""

    def __init__(self, images: Folder, masks: Folder):
        self.root = Path(os.path.commonpath([images.path, masks.path]))
        files: set[str] = set()
        for each in (images, masks):
            base = each.path.relative_to(self.root).as_posix()
            files |= {joined("" if base == "." else base, path) for path in each.files + each.others}
        self.files = sorted(files)
        self.pictures = [path for path in self.files if suffix_of(path) in MASKS]
        self.problems: list[str] = []
        """Why the ingestion would not go on with patterns that were tried."""

    def scan(
        self, images: str, masks: str | Mapping[str, str], files: Sequence[str] | None = None
    ) -> Pairing | None:
        """What the ingestion makes of two patterns and all files, or some.

        None for nothing, or if it would not go on.
        """
        dataset = {"layout": "folder", "root": str(self.root), "images": images, "masks": masks}
        try:
            found: Scan = folder_layout.Folder(images, masks, ()).scan_listed(files or self.files)
        except StageError as error:
            self.problems.append(str(error))
            return None
        if not found.entries:
            return None
        return Pairing(
            dataset, tuple(found.entries), tuple(found.rejected), frozenset(found.files), notes=found.notes
        )

    def matched(self, pattern: str) -> set[str]:
        """Returns the pictures that a pattern finds."""
        match = FilePattern(pattern).match
        return {path for path in self.pictures if match(path)}
