"""Image files: which are meant, under which names their masks go, and what is sent of them."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from components.errors import StageError
from components.folders import files_below
from components.image_mask_example_gen.as_png import as_png, with_orientation
from components.image_mask_example_gen.bands import encode_bands
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    InputRejectedError,
    open_image,
    rejecting_damage,
    stored_orientation,
)
from components.image_mask_example_gen.report import Reason
from components.image_mask_example_gen.suffixes import PICTURES
from components.imaging.reading import JPEG_SIGNATURE, PNG_SIGNATURE, RGB, Reading

SUFFIXES: Final = ", ".join(sorted(PICTURES))
"""Of what is taken for an image in a folder; a file that is named itself may be called anything."""


MOST_PIXELS: Final = 1 << 27
"""Of a picture that is decoded here. Of those that go as they are the model has a limit of its own."""


@dataclass(frozen=True)
class ImageFile:
    """An image to segment."""

    path: Path
    """As it was named, or found in a folder that was."""
    name: Path
    """Relative; where its results go below the output folder."""


class Found(NamedTuple):
    """What files, folders and patterns name."""

    images: list[ImageFile]
    passed_over: list[Path]
    """Files in a folder that are not taken for images; hidden ones are not told of."""


def find_images(arguments: Sequence[str], listed: Iterable[str] = (), *, leave_out: Path) -> Found:
    """Finds the images that files, folders and patterns name, each once, in the order given.

    Results keep the images' folders: an image's name is its path below the folder that all arguments have
    in common, where a folder counts for itself, a file for its folder, and a pattern for the part before its
    first wildcard. So no two images share a name.

    Args:
        arguments: files; folders, searched through for `PICTURES`, links followed and hidden files passed
            by; patterns, with ``**`` for folders at any depth.
        listed: names of further files, which need not exist: whoever reads them will notice.
        leave_out: a folder in which neither folders nor patterns look for images: the one for results. One
            that begins in it means what it says.

    Raises:
        OSError: a folder that is looked into cannot be read.
        ValueError: an argument that names nothing, or `leave_out` itself; links that multiply.
    """
    paths: dict[str, Path] = {}
    passed_over: list[Path] = []
    roots = []
    for argument in arguments:
        root, found, others = _expand(argument, leave_out)
        passed_over += others
        roots.append(root)
        paths.update((os.path.abspath(path), path) for path in found)
    for line in listed:
        roots.append(Path(line).parent)
        paths[os.path.abspath(line)] = Path(line)
    if not paths:
        return Found([], passed_over)
    common = os.path.commonpath([os.path.abspath(root) for root in roots])
    images = [ImageFile(path, Path(os.path.relpath(full, common))) for full, path in paths.items()]
    # A file that is passed over in a folder may be named itself.
    return Found(images, [path for path in passed_over if os.path.abspath(path) not in paths])


def sent_bytes(data: bytes, reading: Reading = RGB) -> bytes:
    """Returns a file's bytes as a served model reads them, with the very pixels that training had.

    JPEG and PNG go as they are, damaged ones too: the server says what is wrong with them. (An orientation
    that a PNG has behind its pixels is said before them, too.) All else that
    ingestion takes (TIFF, WebP, JPEG 2000, Netpbm, the first frame of a GIF, BMP, whose palettes TensorFlow
    misreads) goes as PNG. Ingestion also re-encodes the odd JPEG or PNG that TensorFlow does not read as
    Pillow does; without TensorFlow that cannot be known. Where the model reads a list of bands, all files go
    as gray PNGs of them, and TIFFs of floats as those of 8 bits that its range of values makes of them.

    Args:
        data: the file.
        reading: how the model reads it.

    Raises:
        InputRejectedError: no such picture, a damaged one, one of more than `MOST_PIXELS` or with too few
            bands.
    """
    if not data:
        raise InputRejectedError(Reason.EMPTY_FILE, "0 bytes")
    try:
        with rejecting_damage(data):
            return _sent_bytes(data, reading)
    except InputRejectedError as rejected:
        if rejected.reason is not Reason.TOO_MANY_PIXELS:
            raise
        raise InputRejectedError(
            rejected.reason,
            f"more than {MOST_PIXELS:,} pixels, or 16 bytes for each, which is not decoded here; JPEG and "
            "PNG are sent as they are",
        ) from None


def _sent_bytes(data: bytes, reading: Reading) -> bytes:
    if (made := encode_bands(data, MOST_PIXELS, reading)) is not None:
        return made.png
    if data.startswith(JPEG_SIGNATURE):
        return data
    if data.startswith(PNG_SIGNATURE):
        return _with_orientation_in_sight(data)
    return as_png(data, open_image(data, MOST_PIXELS), MOST_PIXELS)


def _with_orientation_in_sight(png: bytes) -> bytes:
    """Returns a PNG whose orientation a model's graph finds; a damaged one as it is."""
    if b"eXIf" not in png:
        return png
    try:
        return with_orientation(png, stored_orientation(png, open_image(png, ANY_SIZE)))
    except InputRejectedError:
        return png


def _expand(argument: str, leave_out: Path) -> tuple[Path, list[Path], list[Path]]:
    """An argument's root, its images, and what is passed over."""
    path = Path(argument)
    if path.is_dir():
        if _is_same(path, leave_out):
            raise ValueError(f"{argument}: images and results in one folder would get mixed up; name another")
        files = list(_files_below(path, leave_out))
        found = [file for file in files if file.suffix.lower() in PICTURES]
        if not found:
            raise ValueError(f"{argument}: no images in this folder ({SUFFIXES})")
        return path, found, [file for file in files if file.suffix.lower() not in PICTURES]
    # A file may have brackets in its name.
    if path.exists():
        return path.parent, [path], []
    if glob.has_magic(argument):
        root = _part_before_wildcards(path)
        _require_readable_folders(path)
        matches = (Path(match) for match in sorted(glob.glob(argument, recursive=True)))
        found = [match for match in matches if match.is_file()]
        if not _is_in(root, leave_out):
            found = [match for match in found if not _is_in(match.parent, leave_out)]
        if not found:
            raise ValueError(f"{argument}: no file matches this pattern")
        return root, found, []
    raise ValueError(f"{argument}: no such file or folder")


def _files_below(folder: Path, leave_out: Path) -> Iterator[Path]:
    """The files that ingestion would find there, links followed, but those of earlier results."""

    @cache
    def holds_results(subfolder: str) -> bool:
        return _is_in(folder / subfolder, leave_out)

    # One that begins among the results means what it says.
    looks_everywhere = holds_results("")
    try:
        for name in files_below(folder):
            if looks_everywhere or not holds_results(os.path.dirname(name)):
                yield folder / name
    except StageError as error:
        raise ValueError(str(error)) from None


def _is_same(folder: Path, other: Path) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)


def _is_in(folder: Path, other: Path) -> bool:
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(other))


def _part_before_wildcards(pattern: Path) -> Path:
    parts = list(pattern.parts)
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])


def _require_readable_folders(pattern: Path) -> None:
    """Raises OSError for a folder that a pattern leads into and that cannot be read: glob passes over it."""
    for number, part in enumerate(pattern.parts):
        above = Path(*pattern.parts[:number])
        if not glob.has_magic(part):
            if glob.has_magic(str(above)):
                _require_searchable(above, part)
            continue
        # All that "**" stands for is looked into, too.
        looked_into = above / part if part == "**" else above
        for folder in glob.iglob(os.path.join(looked_into, ""), recursive=True):
            with suppress(FileNotFoundError):
                os.scandir(Path(folder)).close()


def _require_searchable(folders: Path, name: str) -> None:
    """Raises OSError for a folder that a pattern stands for where it cannot be seen whether it has a name."""
    for folder in glob.iglob(os.path.join(folders, ""), recursive=True):
        with suppress(FileNotFoundError):
            os.lstat(Path(folder, name))
