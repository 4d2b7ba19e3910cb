"""Images: whatever passes here, TensorFlow decodes, in training and serving alike.

Pixels stay as they are stored; an EXIF orientation is kept beside them, for the graph to apply or not.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_mask_example_gen.as_png import as_png, with_orientation
from components.image_mask_example_gen.bands import encode_bands
from components.image_mask_example_gen.files import (
    InputRejectedError,
    bands_left_out,
    decode,
    find_defect,
    open_image,
    read_file,
    rejecting_damage,
    stored_orientation,
)
from components.image_mask_example_gen.report import Reason
from components.imaging.deep import is_deep_png, read_png, used_range
from components.imaging.reading import RGB, Reading

_BMP_BITS = 28
"""Place of the bits a pixel in a BMP."""
_FIRST_ROWS = 8
"""Of a JPEG these cost hardly more than one pixel."""
_OF_8_BITS = 257
"""What 8 bits are multiplied by to become 16."""


@dataclass(frozen=True)
class EncodedImage:
    """Bytes that TensorFlow decodes to ``uint8 [height, width, 3]``, or a stack of bands, see `Reading`."""

    data: bytes
    format: str
    """``jpeg``, ``png`` or ``bmp``."""
    height: int
    """As it is stored, as is the width."""
    width: int
    first_rows: np.ndarray
    """[8 or fewer, width, …]: its top, decoded."""
    orientation: int = 1
    """EXIF's, 1 … 8."""
    used_range: tuple[float, float] | None = None
    """Of more than 8 bits a channel, the lowest and the highest value, outliers left out; None for 8."""
    bands_left_out: int = 0

    def sketch(self) -> str:
        """Returns a digest that images with the same pixels share, and hardly any others."""
        return _digest((self.height, self.width), self.first_rows).hex()

    def pixel_digest(self) -> bytes:
        """Returns a digest of all decoded pixels."""
        pixels = _decode(self.data)
        assert pixels is not None, "read_image lets nothing else pass"
        return _digest(pixels.shape, pixels)


def read_image(path: Path, max_pixels: int, reading: Reading = RGB) -> EncodedImage:
    """Reads an image: its bytes unchanged if the model takes them, else as a lossless PNG.

    Raises:
      InputRejectedError: it is damaged, no picture, has more than ``max_pixels`` pixels or too few bands.
    """
    data = read_file(path)
    with rejecting_damage(data):
        return _read(data, max_pixels, reading)


def _read(data: bytes, max_pixels: int, reading: Reading) -> EncodedImage:
    if (made := encode_bands(data, max_pixels, reading)) is not None:
        pixels = read_png(made.png)
        return EncodedImage(
            made.png,
            "png",
            made.height,
            made.width,
            _first_rows(pixels),
            made.orientation,
            used_range(pixels) if pixels.dtype == np.uint16 else None,
            made.bands_left_out,
        )
    picture = open_image(data, max_pixels)
    orientation = stored_orientation(data, picture)
    height, width, left_out = picture.height, picture.width, 0
    if kept := _format_to_keep(data, picture):
        kind, decoded = kept
        data = with_orientation(data, orientation) if kind == "png" else data
    else:
        left_out = bands_left_out(picture)
        data = as_png(data, picture, max_pixels)
        again = _decode(data)
        if again is None:
            raise InputRejectedError(
                Reason.NOT_DECODABLE, "TensorFlow does not decode it, not even re-encoded as PNG"
            )
        kind, decoded, (height, width) = "png", again, again.shape[:2]
    used = used_range(decoded) if decoded.dtype == np.uint16 else None
    return EncodedImage(data, kind, height, width, _first_rows(decoded), orientation, used, left_out)


def _format_to_keep(data: bytes, picture: Image.Image) -> tuple[str, np.ndarray] | None:
    """The format that stays as it is, and its pixels or first rows; None where the bytes will not do.

    JPEGs, the bulk of most datasets, are not decoded: their structure is walked and the first rows asked for,
    which finds what libjpeg would refuse at a tenth of the cost.
    """
    match picture.format:
        case "JPEG" | "MPO":
            rows = _top_of_whole_jpeg(data, picture)
            pixels = _decode(data) if rows is None else rows
            return ("jpeg", pixels) if pixels is not None else None
        case "PNG":
            pixels = _decode(data)
            if pixels is None or pixels.shape[:2] != (picture.height, picture.width):
                return None
            return "png", pixels
        case "BMP":
            # Of 8 bits a pixel a served model refuses those with a palette, which TensorFlow misreads.
            if data[_BMP_BITS] == 8:
                return None
            pixels = np.asarray(decode(data, picture, "RGB"))
            return ("bmp", pixels) if np.array_equal(_decode(data), pixels) else None
    return None


def _top_of_whole_jpeg(data: bytes, picture: Image.Image) -> np.ndarray | None:
    if find_defect(data) is not None:
        return None
    try:
        # In half the time of tf.io's, whose default for the fraction is an integer: for want of a float, and
        # for what is no tensor yet, TensorFlow leaves its fast path for one in Python.
        rows = tf.raw_ops.DecodeAndCropJpeg(
            contents=tf.constant(data),
            crop_window=_top(min(_FIRST_ROWS, picture.height), picture.width),
            channels=3,
            acceptable_fraction=1.0,
        )
        return rows.numpy()
    except tf.errors.OpError:
        return None


@lru_cache(256)
def _top(height: int, width: int) -> tf.Tensor:
    """The window of so many rows, which takes longer to make than most that is done with it."""
    return tf.constant([0, 0, height, width])


def _first_rows(pixels: np.ndarray) -> np.ndarray:
    # A copy: a view would hold the whole picture in memory.
    return pixels[:_FIRST_ROWS].copy()


def _digest(shape: tuple[int, ...], pixels: np.ndarray) -> bytes:
    if pixels.dtype == np.uint16 and not (pixels % _OF_8_BITS).any():
        # The same picture saved with 8 bits has the same digest.
        pixels = (pixels // _OF_8_BITS).astype(np.uint8)
    return blake2b(str(shape[:2]).encode() + pixels.tobytes(), digest_size=16).digest()


def _decode(data: bytes) -> np.ndarray | None:
    """[height, width, 3] as TensorFlow decodes it, None if it cannot: uint16 of a PNG that has 16 bits."""
    try:
        if is_deep_png(data):
            return tf.io.decode_png(data, channels=3, dtype=tf.uint16).numpy()
        return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.OpError:
        return None
