"""Image and mask files: what lies in a folder, and what their headers say, pixels unread."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from PIL import Image

from components.errors import StageError, printable
from components.folders import files_below, open_file, split_suffix
from components.image_mask_example_gen.bands import TiffHeader, check_pages, read_tiff_of_bands
from components.image_mask_example_gen.files import (
    TIFF_SIGNATURES,
    InputRejectedError,
    check_pixels,
    is_deep_tiff,
    naming_in_memory_error,
    open_image,
    read_file,
    stored_orientation,
)
from components.image_mask_example_gen.mask import Mask, open_mask
from components.image_mask_example_gen.report import Reason
from components.imaging.deep import is_deep_png
from components.imaging.exif import swaps_sides
from pipeline.init import InitError

_THREADS: Final = min(8, len(os.sched_getaffinity(0)))
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_AT_ONCE: Final = 1000
_BEGINNING: Final = 1 << 16
"""Bytes that hold nearly every header."""
_KINDS_SHOWN: Final = 3
_SIXTEEN_BITS: Final = ("I", "I;16", "I;16B", "I;16L", "F")


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Calls a function that reads files for each item, several at once; the results keep the order.

    Raises:
        MemoryError: there is not enough; it says the path, where items are paths.
    """

    def call(item: _Item) -> _Result:
        if not isinstance(item, Path):
            return function(item)
        with naming_in_memory_error(str(item)):
            return function(item)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(call, items))


def absolute(path: Path) -> Path:
    """Follows a leading ~ and dots, but no link: what the user calls the folder stands in the recipe."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def may_hold_anything(folder: Path) -> bool:
    """Tells whether a folder is nobody's dataset: what else lies in it is none of ours and may be endless."""
    return folder in (Path.home(), Path(folder.anchor))


@dataclass(frozen=True)
class Folder:
    """A folder's files, those in its subfolders included, hidden ones left out."""

    path: Path
    """Absolute."""
    files: tuple[str, ...]
    """Those with a suffix that was asked for, relative to the folder, sorted."""
    others: tuple[str, ...] = ()
    """The rest, likewise."""


def find_files(path: Path, suffixes: Collection[str], option: str) -> Folder:
    """Lists a folder that ``option`` named; ``suffixes`` to look for are in lower case.

    Raises:
        InitError: there is no such folder, it cannot be read, or nothing in it has such a suffix.
    """
    root = absolute(path)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise InitError(f"{option}: {path} {problem}; name a folder")

    def give_up(error: OSError) -> None:
        raise InitError(f"{option}: {error.filename} cannot be read: {error.strerror}")

    names = sorted(files_below(root, give_up))
    found = tuple(name for name in names if suffix_of(name) in suffixes)
    others = tuple(name for name in names if suffix_of(name) not in suffixes)
    if not found:
        kinds = Counter(split_suffix(name)[1] or "no suffix" for name in names).most_common(3)
        listed = ", ".join(f"{count} with {kind}" for kind, count in kinds)
        contents = f"holds {len(names)} files, of which {listed}" if names else "is empty"
        raise InitError(
            f"{option}: {path} {contents}; what can be read ends in {', '.join(sorted(suffixes))}"
        )
    return Folder(root, found, others)


def some(names: Iterable[str], shown: int = 3, *, counted: bool = False) -> str:
    """The first few of the names, and how many there are."""
    names = list(names)
    more = f", … ({len(names)})" if counted else ", …"
    return ", ".join(map(printable, names[:shown])) + (more if len(names) > shown else "")


def some_counts(kinds: Counter[str]) -> str:
    """The most frequent, and how many each."""
    counts = ", ".join(f"{count} {printable(kind)}" for kind, count in kinds.most_common(_KINDS_SHOWN))
    return counts + (", …" if len(kinds) > _KINDS_SHOWN else "")


def suffix_of(path: str) -> str:
    """Returns the ending of a file's name, in lower case."""
    return split_suffix(path)[1].lower()


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True, slots=True)
class Header:
    """A picture without its pixels; of a ``.mat`` file the size only."""

    width: int
    height: int
    format: str = "MAT"
    """As Pillow says it: JPEG, PNG …"""
    mode: str = ""
    """As Pillow says it: L is gray, P a palette, RGBA colours and alpha …"""
    orientation: int = 1
    """EXIF's; width and height are those of the picture as it is stored, unless `upright` has turned them."""

    is_deep: bool = False
    """Whether the file's channels have more than 8 bits, whatever Pillow makes of them."""
    bands: tuple[int, ...] = ()
    """All but alpha of a TIFF that is read by its bands; empty of any other picture."""
    of_numbers: bool = False
    """Whether a range of values must make pixels of them."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.width, self.height

    @property
    def upright_size(self) -> tuple[int, int]:
        """The same once the orientation is applied."""
        return self.size[::-1] if swaps_sides(self.orientation) else self.size

    def upright(self) -> "Header":
        """Returns the header of the picture that the orientation is applied to."""
        width, height = self.upright_size
        return replace(self, width=width, height=height)

    @property
    def has_alpha(self) -> bool:
        return self.mode.endswith("A")

    @property
    def all_bands(self) -> tuple[int, ...]:
        """Numbers of those that are read if somebody asks for all, but for alpha."""
        return self.bands or ((1,) if self.is_gray else (1, 2, 3))

    @property
    def is_gray(self) -> bool:
        return self.mode in ("1", "L", "LA", *_SIXTEEN_BITS)


def read_headers(
    paths: Iterable[Path], max_pixels: int, *, of_images: bool = False
) -> list[Header | InputRejectedError]:
    """Reads the headers of pictures and masks, several at once.

    Args:
        paths: the files.
        max_pixels: the most that one may have.
        of_images: whether pictures may have any number of bands, of any numbers.

    Returns:
        One item a path; an exception is the reason for which the ingestion will set the file aside. Equal
        headers are one object.
    """
    # What it registers would be registered by several threads at once.
    Image.init()
    remaining = iter(paths)
    headers: list[Header | InputRejectedError] = []
    known: dict[Header | InputRejectedError, Header | InputRejectedError] = {}
    # A file that waits for its turn takes a kilobyte or two: not all of them at once.
    while chunk := list(islice(remaining, _AT_ONCE)):
        read = in_threads(lambda path: _read_header(path, max_pixels, of_images), chunk)
        headers += (known.setdefault(header, header) for header in read)
    return headers


def read_size(open_mask: Callable[[], Mask]) -> Header | InputRejectedError:
    """The same for a mask that has no file of its own, of which only the size is known."""
    try:
        mask = open_mask()
    except InputRejectedError as rejected:
        return rejected
    return Header(mask.width, mask.height, "")


def _header_of_bands(tiff: TiffHeader, max_pixels: int) -> Header:
    check_pixels(tiff.width, tiff.height, max_pixels)
    return Header(
        tiff.width,
        tiff.height,
        "TIFF",
        ("L" if len(tiff.bands) == 1 else "RGB") + ("A" if tiff.has_alpha else ""),
        tiff.orientation,
        is_deep=tiff.dtype.itemsize > 1 or tiff.holds_numbers,
        bands=tiff.bands,
        of_numbers=tiff.holds_numbers,
    )


def _read_header(path: Path, max_pixels: int, is_image: bool) -> Header | InputRejectedError:
    try:
        if path.suffix.lower() == ".mat":
            mask = open_mask(path, max_pixels)
            return Header(mask.width, mask.height)
        if is_image:
            check_pages(path)
        try:
            with open_file(path) as file:
                data = file.read(_BEGINNING)
            if is_image and data.startswith(TIFF_SIGNATURES) and (tiff := read_tiff_of_bands(path)):
                return _header_of_bands(tiff, max_pixels)
            picture = open_image(data, max_pixels)
        except (InputRejectedError, OSError):
            # Some formats keep their header elsewhere; and this knows what is wrong with a whole file.
            data = read_file(path)
            picture = open_image(data, max_pixels)
        orientation = stored_orientation(data, picture)
        width, height = picture.size
        if picture.format == "TIFF" and swaps_sides(orientation):
            # Of all formats, Pillow turns this one alone.
            width, height = height, width
        is_deep = is_deep_png(data) or is_deep_tiff(picture) or picture.mode in _SIXTEEN_BITS
        return Header(width, height, picture.format or "", picture.mode, orientation, is_deep)
    except InputRejectedError as rejected:
        return rejected
    except (StageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise a dozen types over damaged bytes.
        return InputRejectedError(Reason.NOT_DECODABLE, f"its header cannot be read: {error}")
