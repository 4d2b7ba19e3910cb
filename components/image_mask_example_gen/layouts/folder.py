"""Any images and masks: patterns under the root, paired by name."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from components.image_mask_example_gen.layouts.file_pattern import FilePattern, Files, Found
from components.image_mask_example_gen.layouts.layout import (
    Entry,
    Layout,
    MaskPart,
    MaskValues,
    RawClass,
    Scan,
    pair_files,
)
from components.image_mask_example_gen.report import Reason


class Folder(Layout):
    """Files that patterns find, and classes that the recipe names.

    Args:
      images: pattern of the images.
      masks: pattern of the masks, or one for each class that has masks of its own.
      classes: what the masks may hold.
      mask_values: what their raw values are where their pixels are not.
    """

    name = "folder"

    def __init__(
        self,
        images: str,
        masks: str | Mapping[str, str],
        classes: tuple[RawClass, ...],
        mask_values: MaskValues | None = None,
    ):
        self._images = FilePattern(images)
        patterns = {"": masks} if isinstance(masks, str) else masks
        self._masks = {name: FilePattern(pattern) for name, pattern in patterns.items()}
        self.classes = classes
        self.mask_values = mask_values

    def scan(self, root: Path) -> Scan:
        """Finds the pairs.

        The name of a file is what its pattern leaves open: the file's stem without the literal ending of
        the pattern, so ``images/*.jpg`` meets ``masks/*_mask.png``. Where both patterns leave the same
        number of folders open, those are part of the name: ``*/images/*.jpg`` meets ``*/masks/*.png``
        within one folder. Where masks keep the whole name of their image, ``b.jpg.png`` is that of
        ``b.jpg``. Names are compared in Unicode's form C and, where that leaves no doubt, in any case.

        Where no two names meet, the first of these that makes some meet is taken:

        - The patterns begin in different ways, and the literal beginnings count no more than the endings:
          ``images/*.jpg`` meets ``masks/mask_*.png``, and ``*/photo.jpg`` meets ``*/labels.png``.
        - Folders' names have a literal part that differs: ``{train,val}/*.jpg`` meets
          ``{train,val}annot/*.png``.
        - A mask's name has two wildcards, and the first ends its image's: ``images/*.jpg`` meets all of
          ``masks/*_mask*.png``.
        - The masks lie a folder deeper, and that is the name: ``images/*.jpg`` meets ``masks/*/*.png``.
        - Both leave folders open, with one image in each: ``*/images/*.jpg`` meets ``*/masks/*.png``.
        - An image's name has two wildcards, and the first ends its mask's: ``*_{training,test}.tif`` meets
          ``*_manual1.gif``.

        In the three before the last one an image may have several masks. A file that both patterns find is a
        mask.
        """
        return self._pair(lambda pattern: pattern.walk(root))

    def scan_listed(self, files: Sequence[str]) -> Scan:
        """The same of files that are listed already, relative to the root."""
        return self._pair(lambda _: files)

    def missing(self, root: Path) -> list[str]:
        """The patterns that match nothing."""
        patterns = {"images": self._images}
        patterns |= {f"masks.{name}".rstrip("."): pattern for name, pattern in self._masks.items()}
        return [
            f"file that matches dataset.{key}={pattern.text!r}"
            for key, pattern in patterns.items()
            if not any(map(pattern.match, pattern.walk(root)))
        ]

    def _pair(self, list_files: Callable[[FilePattern], Iterable[str]]) -> Scan:
        images = self._images.find(list_files(self._images))
        masks = {name: pattern.find(list_files(pattern)) for name, pattern in self._masks.items()}
        are_masks = {mask.path for files in masks.values() for mask in files.found}
        images = Files([image for image in images.found if image.path not in are_masks], images.others)
        scans = {
            name: _pair(self._images, pattern, images, masks[name]) for name, pattern in self._masks.items()
        }
        return scans[""] if "" in scans else _united(scans)


class _Naming(NamedTuple):
    """A way to tell which masks are an image's."""

    of_image: Callable[[Found], str]
    of_mask: Callable[[Found], str]
    several: bool = False
    """Whether an image may have more than one."""


def _namings(images: FilePattern, masks: FilePattern) -> Iterator[_Naming]:
    """Yields what `Folder.scan` says, in that order."""
    levels = masks.open_folders - images.open_folders

    def key(item: Found, name: str, beginning: str = "") -> str:
        return _joined(item.folders if levels == 0 else "", name.removeprefix(beginning))

    yield _Naming(lambda image: key(image, image.name), lambda mask: key(mask, mask.name))
    if images.beginning != masks.beginning:
        yield _Naming(
            lambda image: key(image, image.name, images.beginning),
            lambda mask: key(mask, mask.name, masks.beginning),
        )
    if levels == 0 and (images.names_folders or masks.names_folders):
        yield _Naming(_open_part, _open_part)
    if masks.has_parts:
        yield _Naming(lambda image: key(image, image.name), lambda mask: key(mask, mask.first), several=True)
        yield _Naming(
            lambda image: key(image, image.name, images.beginning),
            lambda mask: key(mask, mask.first, masks.beginning),
            several=True,
        )
    if levels == 1:
        yield _Naming(lambda image: _joined(image.folders, image.name), _folders, several=True)
    if levels == 0 and images.open_folders:
        yield _Naming(_folders, _folders, several=True)
    if images.has_parts:
        yield _Naming(lambda image: key(image, image.first), lambda mask: key(mask, mask.name))


def _joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


def _open_part(item: Found) -> str:
    return _joined(item.open_part, item.name)


def _folders(item: Found) -> str:
    return item.folders


def _pair(images: FilePattern, masks: FilePattern, image_files: Files, mask_files: Files) -> Scan:
    naming, whole = _choose(list(_namings(images, masks)), image_files, mask_files)

    def image_key(image: Found) -> str:
        return naming.of_image(image) + (image.suffix if whole else "")

    mask_paths: Iterable[tuple[str, str]] = ((naming.of_mask(mask), mask.path) for mask in mask_files.found)
    parts: dict[str, list[str]] = defaultdict(list)
    if naming.several:
        for key, path in mask_paths:
            parts[key].append(path)
        mask_paths = ((key, min(paths)) for key, paths in parts.items())
    scan = pair_files(
        ((image_key(image), image.path) for image in image_files.found),
        mask_paths,
        {image_key(image): image.path for image in image_files.others},
        {naming.of_mask(mask): mask.path for mask in mask_files.others},
    )
    if not parts:
        return scan
    merged = {min(paths): tuple(map(MaskPart, sorted(paths))) for paths in parts.values() if len(paths) > 1}
    entries = [replace(entry, parts=merged.get(entry.mask, ())) for entry in scan.entries]
    return replace(
        scan, entries=entries, files=sorted({*scan.files, *(mask.path for mask in mask_files.found)})
    )


def _choose(namings: Sequence[_Naming], image_files: Files, mask_files: Files) -> tuple[_Naming, bool]:
    """Returns the first naming by which some meet, and whether masks keep the whole names of their images."""
    for naming in namings:
        mask_keys = {naming.of_mask(mask).casefold() for mask in mask_files.found}
        keys = [naming.of_image(image) for image in image_files.found]
        whole_keys = [key + image.suffix for key, image in zip(keys, image_files.found, strict=True)]
        met, met_whole = (sum(key.casefold() in mask_keys for key in each) for each in (keys, whole_keys))
        if (met or met_whole) and not (naming.several and len(set(keys)) < len(keys)):
            return naming, met_whole > met
    return namings[0], False


def _united(scans: Mapping[str, Scan]) -> Scan:
    """One scan of those of each class's masks; an image needs one of them at least."""
    entries: dict[str, Entry] = {}
    counts = dict.fromkeys(scans, 0)
    for value, (name, scan) in enumerate(scans.items(), start=1):
        counts[name] = len(scan.entries)
        for entry in scan.entries:
            first = entries.setdefault(entry.image, replace(entry, parts=()))
            files = entry.parts or (MaskPart(entry.mask),)
            parts = (*first.parts, *(part._replace(value=value) for part in files))
            entries[entry.image] = replace(first, parts=parts)
    rejected = {
        item.file: item
        for scan in scans.values()
        for item in scan.rejected
        if item.reason is not Reason.IMAGE_WITHOUT_MASK or item.file not in entries
    }
    lacking = [
        f"{name} in {count} of {len(entries)}" for name, count in counts.items() if count < len(entries)
    ]
    note = f"images have a mask file of each class, but {', '.join(lacking)}"
    return Scan(
        sorted(entries.values(), key=lambda entry: entry.key),
        sorted(rejected.values(), key=lambda item: item.file),
        sorted({file for scan in scans.values() for file in scan.files}),
        (note,) if lacking else (),
    )
