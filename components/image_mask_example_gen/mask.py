"""Masks: files to raw values or colours."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from components.image_mask_example_gen.files import (
    ANY_SIZE,
    InputRejectedError,
    check_pixels,
    decode,
    decode_gray,
    open_picture,
    read_file,
    read_picture,
    rejecting_damage,
)
from components.image_mask_example_gen.layouts.layout import MaskPart, MaskValues
from components.image_mask_example_gen.matlab import EndsEarlyError, MatlabError, read_variables
from components.image_mask_example_gen.report import Reason
from components.imaging.palette import Color
from components.pillow import Image

Palette = Mapping[int, Color]
"""The colour that each index in a mask shows."""

_MAT_VARIABLE = "groundtruth"
_HIGHEST_BYTE = 255
_PAGE_PIXELS, _FRAME_PIXELS = 1 << 32, 1 << 28
"""Of all pages of a TIFF together, and of all frames of an animation, each drawn over the last."""
_SHOWN_VALUES = 5
_COLOR_MODES = ("RGB", "RGBA", "RGBX", "YCbCr", "PA")
_OPAQUE = 128
_ALPHA_DECIDES = 0.001
"""From this part of the pixels on, colours that are both transparent and opaque say that alpha matters."""


class Mask(Protocol):
    """A mask whose size is known before anything of it is decoded."""

    height: int
    width: int

    @property
    def palettes(self) -> tuple[Palette, ...]:
        """After ``read``: those whose indices are the raw values."""

    def read(self, as_colors: bool) -> np.ndarray:
        """Returns the raw values, integers [height, width], or colours, uint8 [height, width, 3].

        Colours come unasked where nothing else stands in the mask.

        Raises:
          InputRejectedError: the mask is damaged.
        """


class PictureMask:
    """A mask in any picture format.

    A palette's indices are the raw values, as are the numbers 0 and 1 of a 1-bit mask; an RGB mask whose
    channels agree everywhere counts as gray. Alpha is left out, and so are pages after the first: where they
    tell what the rest does not, the mask is refused.
    """

    def __init__(self, path: Path, max_pixels: int, values: MaskValues | None = None):
        self._data, self._picture = read_picture(path, max_pixels)
        self._values = values
        self.height, self.width = self._picture.height, self._picture.width
        self.mode = self._picture.mode
        """As Pillow says it."""
        self.palettes: tuple[Palette, ...] = ()
        with rejecting_damage(self._data):
            # Asked before the pixels are decoded: Pillow forgets it then.
            self._packing, self._highest = _as_stored(self._picture)

    @cached_property
    def pages(self) -> int:
        """How many, or how many frames; counted to one more than are read at all."""
        # A GIF knows only once it has been searched; all others as they are opened.
        if self._picture.format != "GIF" and not getattr(self._picture, "is_animated", False):
            return 1
        with rejecting_damage(self._data):
            return _count_pages(self._data, self._most_pages)

    @property
    def _most_pages(self) -> int:
        together = _PAGE_PIXELS if self._picture.format == "TIFF" else _FRAME_PIXELS
        return min(_HIGHEST_BYTE, max(1, together // (self.width * self.height)))

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`."""
        with rejecting_damage(self._data):
            return self._read(as_colors)

    def _read(self, as_colors: bool) -> np.ndarray:
        if self.pages > self._most_pages:
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                f"the mask has more than {self._most_pages} pages or frames of {self.width} x {self.height} "
                "pixels; save the one that is meant",
            )
        if self._values == "pages":
            return self._page_numbers()
        self._check_pages()
        if self._values == "alpha":
            return self._alpha()
        if as_colors:
            return self._without_alpha(self._colors())
        mode = self._picture.mode
        if self._loses_bits():
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                "16 bits a channel in colours or with alpha; save class ids in one channel, or in 8 bits",
            )
        if mode == "F":
            return whole_numbers(np.asarray(decode(self._data, self._picture)), "pixels")
        if mode == "L":
            return self._unstretched(decode_gray(self._data, self._picture))
        if mode in ("1", "LA", "P") or mode.startswith("I"):
            picture = decode(self._data, self._picture)
            pixels = np.asarray(picture.getchannel("L") if mode == "LA" else picture)
            if mode == "P" and self._values != "index":
                self.palettes = (_shown(picture),)
            pixels = self._unstretched(pixels.astype(np.uint8, copy=False) if mode == "1" else pixels)
            return self._without_alpha(pixels)
        colors = self._colors()
        if (colors == colors[..., :1]).all():
            return self._without_alpha(self._unstretched(colors[..., 0]))
        return self._without_alpha(colors)

    def _colors(self) -> np.ndarray:
        mode = self._picture.mode
        if not (mode in ("1", "L", "LA", "P", *_COLOR_MODES) or mode.startswith("I")):
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                f"{mode} pixels; a mask in colours is RGB, one in numbers has one channel",
            )
        if mode.startswith("I"):
            # Converted, everything above a byte would be white.
            pixels = np.asarray(decode(self._data, self._picture))
            if pixels.min() < 0 or pixels.max() > _HIGHEST_BYTE:
                raise InputRejectedError(
                    Reason.NOT_DECODABLE, f"{mode} pixels, up to {pixels.max()}, where masks are in colours"
                )
            return np.repeat(pixels.astype(np.uint8)[..., np.newaxis], 3, axis=-1)
        return np.asarray(decode(self._data, self._picture, "RGB"))

    def _alpha(self) -> np.ndarray:
        if not self._picture.has_transparency_data:
            raise InputRejectedError(
                Reason.NOT_DECODABLE, "dataset.mask_values: alpha is told, and the mask has none"
            )
        return np.asarray(decode(self._data, self._picture, "RGBA"))[..., 3]

    def _without_alpha(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the pixels, or refuses them where alpha divides what is all one to them.

        Args:
          pixels: [height, width], or [height, width, 3].
        """
        if not self._picture.mode.endswith("A"):
            return pixels
        opaque = self._alpha() >= _OPAQUE
        if opaque.all() or not opaque.any():
            return pixels
        numbers = packed(pixels)
        shown, times_shown = np.unique(numbers[opaque], return_counts=True)
        hidden, times_hidden = np.unique(numbers[~opaque], return_counts=True)
        both, of_shown, of_hidden = np.intersect1d(shown, hidden, assume_unique=True, return_indices=True)
        divided = np.minimum(times_shown[of_shown], times_hidden[of_hidden])
        if divided.sum() <= _ALPHA_DECIDES * opaque.size:
            return pixels
        value = int(both[np.argmax(divided)])
        raw = value if pixels.ndim == 2 else list(unpack_color(value))
        raise InputRejectedError(
            Reason.NOT_DECODABLE,
            f"alpha, which is left out, tells apart what is {raw} all the same; if alpha is the mask, give "
            "dataset.mask_values: alpha, else save the mask without it",
        )

    def _pages(self) -> Iterator[np.ndarray | None]:
        """The pixels of each page in turn, [height, width] or [height, width, channels].

        A page of another size, such as a small copy, comes as None.
        """
        for page in range(self.pages):
            self._picture.seek(page)
            size = self._picture.size
            yield np.asarray(self._picture) if size == (self.width, self.height) else None

    def _check_pages(self) -> None:
        """Refuses a mask of which pages after the first, or frames, hold something else."""
        if self.pages == 1:
            return
        pages = self._pages()
        first = next(pages)
        if any(other is not None and not np.array_equal(first, other) for other in pages):
            kind = "pages" if self._picture.format == "TIFF" else "frames"
            remedy = "; if each page is a class, give dataset.mask_values: pages" if kind == "pages" else ""
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                f"the mask has {self.pages} {kind}, which differ; save the one that is meant{remedy}",
            )
        self._picture = open_picture(self._data, ANY_SIZE)

    def _page_numbers(self) -> np.ndarray:
        """The number of the last page, counted from 1, that is not 0 at a pixel; 0 where none is."""
        numbers = np.zeros((self.height, self.width), np.uint8)
        for number, page in enumerate(self._pages(), start=1):
            if page is None or page.ndim != 2 or number > _HIGHEST_BYTE:
                raise InputRejectedError(
                    Reason.NOT_DECODABLE,
                    f"dataset.mask_values: pages is told, and page {number} is no channel of that size",
                )
            if len(np.unique(page[page != 0])) > 1:
                raise InputRejectedError(
                    Reason.LABEL_OUTSIDE_CLASSES,
                    f"page {number} holds several values besides 0; where each page is a class, it holds one",
                )
            numbers[page != 0] = number
        return numbers

    def _loses_bits(self) -> bool:
        """Whether Pillow keeps 8 of more bits: in colours, or with alpha."""
        deep = self._picture.format in ("PNG", "TIFF") and ";16" in self._packing
        return not self._picture.mode.startswith("I") and (
            deep or (self._picture.mode == "RGB" and (self._highest or 0) > _HIGHEST_BYTE)
        )

    def _unstretched(self, pixels: np.ndarray) -> np.ndarray:
        """The numbers as they are stored: Pillow stretches them to the whole range of a byte, or of two."""
        stretched = 65_535 if self._picture.mode == "I" else _HIGHEST_BYTE
        if self._highest in (None, stretched):
            return pixels
        return ((pixels.astype(np.int64) * self._highest + stretched // 2) // stretched).astype(pixels.dtype)


def _count_pages(data: bytes, most: int) -> int:
    """The number of a picture's pages or frames, counted to one more than ``most``."""
    picture = open_picture(data, ANY_SIZE)
    size = picture.size
    if picture.format == "MPO" or not getattr(picture, "is_animated", False):
        return 1
    for page in range(1, most + 1):
        try:
            picture.seek(page)
        except EOFError:
            return page
        if picture.format == "GIF" and picture.size != size:
            raise InputRejectedError(Reason.NOT_DECODABLE, f"frame {page + 1} is larger than the picture")
    return most + 1


def _as_stored(picture: Image.Image) -> tuple[str, int | None]:
    """How a file packs its pixels, as Pillow says it (``L;2``, ``RGB;16B``); its highest number, if known."""
    [tile] = picture.tile[:1] or [None]  # type: ignore[attr-defined]
    if tile is None:
        return "", None
    args = (tile.args,) if isinstance(tile.args, str) else tile.args
    packing = str(args[0])
    if tile.codec_name.startswith("ppm") and len(args) > 1:
        return packing, int(args[-1])
    gray = re.match(r"L;([24])", packing)
    return packing, (1 << int(gray[1])) - 1 if gray else None


def _shown(picture: Image.Image) -> dict[int, Color]:
    """The colour of each index that stands in a decoded picture with a palette."""
    palette = picture.getpalette("RGB") or []
    palette += [0] * (3 * 256 - len(palette))
    return {
        index: (palette[3 * index], palette[3 * index + 1], palette[3 * index + 2])
        for index, count in enumerate(picture.histogram())
        if count
    }


def no_data_remedy(value: str, instead: int = _HIGHEST_BYTE) -> str:
    """What to do about a value that no class can have, as geographic information systems mark "no data"."""
    kind = "Byte" if instead <= _HIGHEST_BYTE else "UInt16"
    return (
        f"if it is a GIS's 'no data', gdalwarp -srcnodata {value} -dstnodata {instead} -ot {kind} OLD NEW "
        f"writes {instead} there, which can be dataset.ignore_label"
    )


def whole_numbers(values: np.ndarray, what: str) -> np.ndarray:
    """Returns whole numbers as integers, whatever type holds them.

    Args:
      values: Of any shape.
      what: They are, for the message.

    Raises:
      InputRejectedError: they are none.
    """
    if values.dtype.kind == "f":
        large = ~(np.abs(values) < 1 << 31)
        stray = values[large | (values != np.trunc(values))]
        if not stray.size:
            return values.astype(np.int64)
        value = f"{stray[0]:.9g}"
        shown = value.replace("nan", "NaN")
        found = f"{what} are {values.dtype}, not whole numbers: {shown} is among them"
        if len(np.unique(stray)) == 1 and large.any():
            found += f"; {no_data_remedy(value)}"
        raise InputRejectedError(Reason.NOT_DECODABLE, found)
    if values.dtype.kind not in "iub":
        raise InputRejectedError(Reason.NOT_DECODABLE, f"{what} are {values.dtype}, not whole numbers")
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


class MatMask:
    """A mask in a MATLAB 5 file, in the variable ``groundtruth``."""

    palettes: tuple[Palette, ...] = ()

    def __init__(self, path: Path, max_pixels: int):
        self._size = len(data := read_file(path))
        with self._rejecting_damage():
            variables = read_variables(data)
        named = [item for item in variables if item.name == _MAT_VARIABLE and len(item.shape) == 2]
        if len(named) != 1:
            sizes = (f"{item.name} {list(item.shape) or 'of no size'}" for item in variables)
            holds = ", ".join(sizes) or "nothing"
            raise InputRejectedError(
                Reason.NOT_DECODABLE, f"a mask is one matrix named {_MAT_VARIABLE!r}; the file holds {holds}"
            )
        [self._variable] = named
        self.height, self.width = self._variable.shape
        check_pixels(self.width, self.height, max_pixels)

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`."""
        with self._rejecting_damage():
            values = self._variable.numbers()
        values = whole_numbers(values, f"the numbers in {_MAT_VARIABLE!r}")
        if not as_colors:
            return values
        if values.min() < 0 or values.max() > _HIGHEST_BYTE:
            raise InputRejectedError(
                Reason.NOT_DECODABLE, f"numbers up to {values.max()}, where masks are in colours"
            )
        return np.repeat(values.astype(np.uint8)[..., np.newaxis], 3, axis=-1)

    @contextmanager
    def _rejecting_damage(self) -> Iterator[None]:
        try:
            yield
        except MatlabError as error:
            # A MATLAB file says nowhere how long it is; running out of bytes is how a cut one shows.
            reason = Reason.TRUNCATED if isinstance(error, EndsEarlyError) else Reason.NOT_DECODABLE
            raise InputRejectedError(reason, f"MATLAB file of {self._size:,} bytes: {error}") from None


def open_mask(path: Path, max_pixels: int, values: MaskValues | None = None) -> PictureMask | MatMask:
    """Reads a mask's file and header.

    Args:
      path: The file; its name tells ``.mat`` files from pictures.
      max_pixels: More are rejected.
      values: What a picture's raw values are where its pixels are not.

    Raises:
      InputRejectedError: damaged, no mask, or too many pixels; ``read`` raises it, too.
    """
    if path.suffix.lower() == ".mat":
        return MatMask(path, max_pixels)
    return PictureMask(path, max_pixels, values)


class MergedMask:
    """A mask whose files lie over each other, the later over the earlier.

    What is 0, or black, in a file is left as the files before it have it, 0 at first. A part with a value
    of its own has this one wherever it is not 0.

    Args:
      root: The dataset's folder.
      parts: The files in their order.
      max_pixels: Files with more are rejected.
      values: What a file's raw values are where its pixels are not.

    Raises:
      InputRejectedError: a file is damaged, or their sizes differ.
    """

    def __init__(
        self, root: Path, parts: Sequence[MaskPart], max_pixels: int, values: MaskValues | None = None
    ):
        self._parts = [(part, open_mask(root / part.path, max_pixels, values)) for part in parts]
        (first, mask), *others = self._parts
        self.height, self.width = mask.height, mask.width
        for part, other in others:
            if (other.height, other.width) != (self.height, self.width):
                raise InputRejectedError(
                    Reason.SIZES_DIFFER,
                    f"{first.path} is {self.width} x {self.height} pixels, {part.path}, which belongs to the "
                    f"same image, {other.width} x {other.height}",
                )

    @property
    def palettes(self) -> tuple[Palette, ...]:
        """After ``read``: those of its files, but for parts with a value, whose indices mean nothing."""
        return tuple(palette for part, mask in self._parts if part.value is None for palette in mask.palettes)

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`."""
        merged: np.ndarray | None = None
        for part, mask in self._parts:
            raw = mask.read(as_colors and part.value is None)
            covered = raw.any(axis=-1) if raw.ndim == 3 else raw != 0
            if part.value is not None:
                _check_binary(part, raw, covered)
                raw = np.full(raw.shape[:2], part.value, np.min_scalar_type(part.value))
            if merged is None:
                merged = np.zeros_like(raw)
            elif merged.ndim != raw.ndim:
                raise InputRejectedError(
                    Reason.NOT_DECODABLE, f"{part.path} and the files before it are not both in colours"
                )
            merged = merged.astype(np.promote_types(merged.dtype, raw.dtype), copy=False)
            merged[covered] = raw[covered]
        assert merged is not None, "a mask has parts"
        return merged


def _check_binary(part: MaskPart, raw: np.ndarray, covered: np.ndarray) -> None:
    """Values that were smeared, or that mean several classes, must not all become one."""
    values = np.unique(raw[covered], axis=0)
    if len(values) > 1:
        shown = ", ".join(map(str, values[:_SHOWN_VALUES].tolist())) + (
            ", …" if len(values) > _SHOWN_VALUES else ""
        )
        raise InputRejectedError(
            Reason.LABEL_OUTSIDE_CLASSES,
            f"{part.path} holds {shown} besides 0; the mask of one class holds one value",
        )


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Colours, uint8 [height, width, 3], as ``red << 16 | green << 8 | blue``, int32 [height, width]."""
    channels = colors.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


def packed(raw: np.ndarray) -> np.ndarray:
    """What `Mask.read` returns as integers [height, width]: colours as numbers, numbers as they are."""
    return pack_colors(raw) if raw.ndim == 3 else raw


def unpack_color(number: int) -> Color:
    """Red, green and blue of a number that `pack_colors` makes."""
    return number >> 16, number >> 8 & 255, number & 255
