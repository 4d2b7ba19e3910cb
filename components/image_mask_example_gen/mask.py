"""Masks: files to raw values or colours, and class ids to PNG."""

import io
import re
import struct
import zlib

import numpy as np
from PIL import PngImagePlugin

from components.image_mask_example_gen.files import (
    InputRejectedError,
    check_pixels,
    damage,
    find_defect,
    open_picture,
    rejecting_damage,
)
from components.image_mask_example_gen.report import Reason
from components.pillow import Image

_MAT_VARIABLE = "groundtruth"
_HIGHEST_BYTE = 255
_PNG_FILTER_UP = 2


class PictureMask:
    """A mask in any picture format.

    A palette's indices are the raw values, as are the numbers 0 and 1 of a 1-bit mask; alpha is left out;
    an RGB mask whose channels agree everywhere counts as gray.
    """

    def __init__(self, data: bytes, max_pixels: int):
        self._data = data
        self._picture = open_picture(data, max_pixels)
        self.height, self.width = self._picture.height, self._picture.width
        # Asked before the pixels are decoded: Pillow forgets it then.
        self._packing, self._highest = _as_stored(self._picture)

    def read(self, as_colors: bool) -> np.ndarray:
        """See ``open_mask``."""
        with rejecting_damage(self._data):
            if self._picture.format == "PNG" and find_defect(self._data):
                raise damage(self._data, "")
            self._picture.load()
            return self._colors() if as_colors else self._numbers()

    def _colors(self) -> np.ndarray:
        return np.asarray(self._picture.convert("RGB"))

    def _numbers(self) -> np.ndarray:
        if self._loses_bits():
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                "16 bits a channel in colours or with alpha; save class ids in one channel, or in 8 bits",
            )
        picture = self._picture.getchannel("L") if self._picture.mode == "LA" else self._picture
        if picture.mode in ("1", "L", "P"):
            return self._unstretched(np.asarray(picture).astype(np.uint8, copy=False))
        if picture.mode == "I" or picture.mode.startswith("I;16"):
            return self._unstretched(np.asarray(picture))
        if picture.mode == "F":
            raise InputRejectedError(
                Reason.NOT_DECODABLE, "floating-point pixels; a mask holds whole numbers"
            )
        colors = self._colors()
        return self._unstretched(colors[..., 0]) if (colors == colors[..., :1]).all() else colors

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


class MatMask:
    """A mask in a MATLAB 5 file, in the variable ``groundtruth``."""

    def __init__(self, data: bytes, max_pixels: int):
        from scipy.io import whosmat

        self._data = data
        try:
            variables = {name: shape for name, shape, _ in whosmat(io.BytesIO(data))}
        except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
            raise self._damaged(error) from error
        shape = variables.get(_MAT_VARIABLE, ())
        if len(shape) != 2:
            holds = ", ".join(f"{name} {list(shape)}" for name, shape in variables.items()) or "nothing"
            raise InputRejectedError(
                Reason.NOT_DECODABLE, f"a mask is a matrix named {_MAT_VARIABLE!r}; the file holds {holds}"
            )
        self.height, self.width = shape
        check_pixels(self.width, self.height, max_pixels)

    def read(self, as_colors: bool) -> np.ndarray:
        """See ``open_mask``."""
        from scipy.io import loadmat
        from scipy.sparse import issparse

        try:
            values = loadmat(io.BytesIO(self._data), variable_names=[_MAT_VARIABLE])[_MAT_VARIABLE]
        except Exception as error:  # see __init__
            raise self._damaged(error) from error
        if issparse(values):
            values = values.toarray()
        if values.dtype.kind == "f" and (values == np.trunc(values)).all():
            values = values.astype(np.int64)
        if values.dtype.kind not in "iu":
            raise InputRejectedError(
                Reason.NOT_DECODABLE, f"{_MAT_VARIABLE!r} is {values.dtype}, not whole numbers"
            )
        return np.repeat(values[..., np.newaxis], 3, axis=-1) if as_colors else values

    def _damaged(self, error: Exception) -> InputRejectedError:
        # A MATLAB file says nowhere how long it is; running out of bytes is how a cut one shows.
        ran_out = any(
            word in str(error).lower() for word in ("truncat", "end of", "not enough", "could not read")
        )
        reason = Reason.TRUNCATED if ran_out else Reason.NOT_DECODABLE
        return InputRejectedError(reason, f"MATLAB file of {len(self._data):,} bytes: {error}")


def open_mask(data: bytes, file: str, max_pixels: int) -> PictureMask | MatMask:
    """Reads a mask's header.

    The result has ``height`` and ``width``, known before anything is decoded, and ``read(as_colors)``,
    which returns integers [height, width] or, for colours, uint8 [height, width, 3].

    Args:
      data: The file's bytes.
      file: Its name, which tells ``.mat`` files from pictures.
      max_pixels: More are rejected.

    Raises:
      InputRejectedError: damaged, no mask, or too many pixels; ``read`` raises it, too.
    """
    return (MatMask if file.lower().endswith(".mat") else PictureMask)(data, max_pixels)


def encode_mask(class_ids: np.ndarray) -> bytes:
    """Encodes uint8 [height, width] as a single-channel 8-bit PNG.

    Each row is written as its difference to the row above, which in a mask is nearly all zeros, and zlib
    looks for runs only. Pillow chooses a filter for each row anew: three times as slow, for the same size.
    """
    height, width = class_ids.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _PNG_FILTER_UP
    rows[0, 1:] = class_ids[0]
    np.subtract(class_ids[1:], class_ids[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    PngImagePlugin.putchunk(file, b"IDAT", deflate.compress(rows.data) + deflate.flush())
    PngImagePlugin.putchunk(file, b"IEND", b"")
    return file.getvalue()
