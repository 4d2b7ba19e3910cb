"""Pictures of any number of bands, and of any numbers: TIFFs that neither Pillow nor TensorFlow reads.

A model that reads a list of bands gets them as one gray PNG, the bands one below the other, for TensorFlow
decodes no picture of more than four. Nothing here needs TensorFlow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from components.image_mask_example_gen.as_png import as_png, with_orientation
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    TIFF_SIGNATURES,
    InputRejectedError,
    check_bytes,
    check_pixels,
    check_segments,
    open_image,
    open_tiff,
    read_file,
    rejecting_damage,
    stored_orientation,
)
from components.image_mask_example_gen.report import Reason
from components.imaging.deep import range_to_set, read_png, spread, stacked, used_range, write_png
from components.imaging.exif import ORIENTATION
from components.imaging.reading import MOST_PIXELS, Reading

if TYPE_CHECKING:
    from tifffile import TiffPage

_GRAY, _RGB = 1, 2
"""Of a TIFF's photometric interpretations, those whose samples are bands."""
_ALPHA: Final = (1, 2)
"""Of a TIFF's kinds of extra samples; 0 is not specified: a band."""
_NODATA = 42113
_BYTE = 8
_MOST_PAGES: Final = 1000
"""That are looked at."""
_MOST_BANDS: Final = (1 << 16) - 1
"""A TIFF tells them in 16 bits; one that takes 32 for it may say billions."""
_PLAIN: Final = (1, 3)
"""Numbers of bands that need no list."""


class TiffHeader(NamedTuple):
    """A TIFF whose samples are bands, its pixels unread."""

    width: int
    """As it is stored, as is the height."""
    height: int
    bands: tuple[int, ...]
    """Numbers, from 1, of those that are not alpha."""
    has_alpha: bool
    dtype: np.dtype[Any]
    orientation: int
    """EXIF's, 1 … 8."""

    @property
    def needs_list(self) -> bool:
        """Whether it is neither gray nor RGB."""
        return len(self.bands) not in _PLAIN

    @property
    def holds_numbers(self) -> bool:
        """Whether values are no unsigned integers of 8 or 16 bits: a range makes pixels of them."""
        return self.dtype.kind != "u" or self.dtype.itemsize > 2


class Encoded(NamedTuple):
    """A picture as it is kept and sent."""

    png: bytes
    height: int
    """Of the picture, as it is stored, as is the width."""
    width: int
    orientation: int
    """EXIF's, 1 … 8."""
    bands_left_out: int


def read_tiff_header(source: bytes | Path) -> TiffHeader | None:
    """Reads the header of a TIFF; None of other files, of damaged ones, of palettes, CMYK and the like."""
    if isinstance(source, bytes) and not source.startswith(TIFF_SIGNATURES):
        return None
    try:
        with _first_page(source) as page:
            return _header(page)
    except MemoryError:
        raise
    except Exception:  # of any type; whoever reads the pixels says what is wrong
        return None


def read_tiff_of_bands(source: bytes | Path) -> TiffHeader | None:
    """The same; None, too, of a TIFF that is read without regard to its bands."""
    header = read_tiff_header(source)
    if header is None or header.holds_numbers or header.needs_list:
        return header
    return None if _is_usual(source) else header


def check_pages(source: bytes | Path) -> None:
    """Looks whether a picture has pages besides that which is read; reduced copies and masks do not count.

    Raises:
      InputRejectedError: it is a TIFF of several pages of one size: bands, a volume, a film.
    """
    if isinstance(source, bytes) and not source.startswith(TIFF_SIGNATURES):
        return
    alike, seen = 0, set[int]()
    try:
        with open_tiff(source) as file:
            size = file.pages.first.shape[:2]
            # Damage, or malice, links the last page to one before it.
            for page in takewhile(lambda page: page.offset not in seen, islice(file.pages, _MOST_PAGES)):
                seen.add(page.offset)
                whole = page.aspage()
                alike += whole.shape[:2] == size and not (whole.is_reduced or whole.is_mask)
    except MemoryError:
        raise
    except Exception:  # of any type: no TIFF, or one of which whoever reads the pixels says what is wrong
        # The pages before the damage are there all the same.
        pass
    if alike > 1:
        or_more = " or more" if len(seen) == _MOST_PAGES else ""
        raise InputRejectedError(
            Reason.NOT_DECODABLE,
            f"TIFF of {alike}{or_more} pages of one size, of which the first alone would be read: save it "
            "alone, or all of them as the bands of one page",
        )


def read_tiff_bands(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes a TIFF that has a header here, [height, width, bands], alpha included, as it is stored.

    Returns:
      uint8, uint16, or floats, of which what the file declares as no data (GDAL's tag) is NaN.

    Raises:
      InputRejectedError: it is damaged, has more than ``max_pixels`` pixels, or values that are no numbers.
    """
    with rejecting_damage(data), _first_page(data) as page:
        check_pixels(page.imagewidth, page.imagelength, max_pixels)
        check_bytes(page, max_pixels)
        check_segments(page, data)
        header = _header(page)
        # Samples that are planes, depth, height, width, samples that are interleaved.
        planes = page.asarray(squeeze=False)
        nodata = page.nodata if _NODATA in page.tags else None
    if header is None or planes.ndim != 5 or planes.shape[1] != 1 or planes.dtype.kind not in "uif":
        raise InputRejectedError(
            Reason.NOT_DECODABLE, f"TIFF of {planes.dtype} {list(planes.shape)}: no picture of numbers"
        )
    pixels = np.moveaxis(planes[:, 0], 0, -1).reshape(*planes.shape[2:4], -1)
    if not header.holds_numbers:
        return pixels
    numbers = pixels.astype(np.result_type(pixels.dtype, np.float32))
    if nodata is not None:
        numbers[pixels == nodata] = np.nan
    return numbers


def encode_bands(data: bytes, max_pixels: int, reading: Reading) -> Encoded | None:
    """Makes of a file what a model reads that reads a list of bands, or of a TIFF of numbers a picture.

    Args:
      data: The file.
      max_pixels: The most that the picture may have.
      reading: How the model reads it: values of a range's ends and beyond become 0 and 255 in a PNG of 8
        bits, NaN 0; 8 and 16 bits stay.

    Returns:
      None where no list of bands is asked for and the file is one of the usual pictures.

    Raises:
      InputRejectedError: it is damaged, too large, has several pages or too few bands, or numbers
        and no range is known.
    """
    with rejecting_damage(data):
        return _encode_bands(data, max_pixels, reading)


def _encode_bands(data: bytes, max_pixels: int, reading: Reading) -> Encoded | None:
    check_pages(data)
    header = read_tiff_header(data)
    if reading.bands is None and (header is None or (not header.holds_numbers and _is_usual(data))):
        return None
    if header is not None:
        pixels, orientation = read_tiff_bands(data, max_pixels), header.orientation
    else:
        picture = open_image(data, max_pixels)
        png = as_png(data, picture, max_pixels)
        pixels, orientation = read_png(png), stored_orientation(data, picture)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width, count = pixels.shape
    bands = reading.bands
    if bands is None:
        assert header is not None
        if header.needs_list:
            listed = list(header.bands)
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                f"{_described(header)}; transform.channels says which are read, such as {listed}",
            )
        bands = header.bands
    if max(bands) > count:
        raise InputRejectedError(
            Reason.NOT_DECODABLE,
            f"it has {count} {'band' if count == 1 else 'bands'}, and the model reads band {max(bands)}, as "
            "transform.channels says",
        )
    if reading.bands is not None and (values := height * width * len(bands)) > MOST_PIXELS:
        raise InputRejectedError(
            Reason.TOO_MANY_PIXELS,
            f"{len(bands)} bands of {width} x {height} pixels have {values:,} values, of which at most "
            f"{MOST_PIXELS:,} are read: cut the picture into tiles",
        )
    chosen = pixels[..., [band - 1 for band in bands]]
    if chosen.dtype.kind == "f":
        if reading.value_range is None:
            such = "but not by this one, which has no finite value"
            if (used := used_range(chosen)) is not None:
                low, high = range_to_set(used)
                such = f"such as [{low}, {high}], which holds most of this one"
            kind = header.dtype if header else chosen.dtype
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                f"TIFF of {kind}, and nothing says which values become 0 and 255: set dataset.value_range, "
                f"{such}",
            )
        chosen = spread(chosen, reading.value_range)
    png = write_png(chosen if reading.bands is None else stacked(chosen))
    return Encoded(with_orientation(png, orientation), height, width, orientation, count - len(set(bands)))


def _is_usual(source: bytes | Path) -> bool:
    """Whether a TIFF is one that needs nothing of what is here."""
    try:
        open_image(source if isinstance(source, bytes) else read_file(source), ANY_SIZE)
    except (InputRejectedError, OSError):
        return False
    return True


def _described(header: TiffHeader) -> str:
    bands = len(header.bands) + header.has_alpha
    kind = "bits" if header.dtype.kind == "u" else f"bits ({header.dtype})"
    return f"TIFF with {bands} bands of {_BYTE * header.dtype.itemsize} {kind}"


def _header(page: "TiffPage") -> TiffHeader | None:
    if page.photometric not in (_GRAY, _RGB) or page.bitspersample < _BYTE or page.dtype is None:
        return None
    count, extra = page.samplesperpixel, tuple(page.extrasamples)
    if count > _MOST_BANDS:
        return None
    colors = count - len(extra)
    alpha = {colors + place for place, kind in enumerate(extra, 1) if kind in _ALPHA}
    if page.photometric == _RGB and count == 4 and not extra:
        # It should say what the fourth is; readers take it for alpha.
        alpha = {4}
    bands = tuple(band for band in range(1, count + 1) if band not in alpha)
    tag = page.tags.get(ORIENTATION)
    orientation = tag.value if tag is not None and tag.value in range(1, 9) else 1
    return TiffHeader(page.imagewidth, page.imagelength, bands, bool(alpha), page.dtype, int(orientation))


@contextmanager
def _first_page(source: bytes | Path) -> Iterator["TiffPage"]:
    with open_tiff(source) as file:
        yield file.pages.first
