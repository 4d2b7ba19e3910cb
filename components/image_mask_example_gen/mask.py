"""Masks: files to raw values or colours."""

import io
import re
from pathlib import Path
from typing import Protocol

import numpy as np

from components.image_mask_example_gen.files import (
    InputRejectedError,
    check_pixels,
    decode,
    read_file,
    read_picture,
)
from components.image_mask_example_gen.report import Reason
from components.pillow import Image

_MAT_VARIABLE = "groundtruth"
_HIGHEST_BYTE = 255


class Mask(Protocol):
    """A mask whose size is known before anything of it is decoded."""

    height: int
    width: int

    def read(self, as_colors: bool) -> np.ndarray:
        """Returns the raw values, integers [height, width], or colours, uint8 [height, width, 3].

        Colours come unasked where nothing else stands in the mask.

        Raises:
          InputRejectedError: the mask is damaged.
        """


class PictureMask:
    """A mask in any picture format.

    A palette's indices are the raw values, as are the numbers 0 and 1 of a 1-bit mask; alpha is left out;
    an RGB mask whose channels agree everywhere counts as gray.
    """

    def __init__(self, path: Path, max_pixels: int):
        self._data, self._picture = read_picture(path, max_pixels)
        self.height, self.width = self._picture.height, self._picture.width
        # Asked before the pixels are decoded: Pillow forgets it then.
        self._packing, self._highest = _as_stored(self._picture)

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`."""
        if as_colors:
            return self._colors()
        mode = self._picture.mode
        if self._loses_bits():
            raise InputRejectedError(
                Reason.NOT_DECODABLE,
                "16 bits a channel in colours or with alpha; save class ids in one channel, or in 8 bits",
            )
        if mode == "F":
            raise InputRejectedError(
                Reason.NOT_DECODABLE, "floating-point pixels; a mask holds whole numbers"
            )
        if mode in ("1", "L", "LA", "P") or mode.startswith("I"):
            picture = decode(self._data, self._picture)
            pixels = np.asarray(picture.getchannel("L") if mode == "LA" else picture)
            return self._unstretched(pixels.astype(np.uint8, copy=False) if mode == "1" else pixels)
        colors = self._colors()
        return self._unstretched(colors[..., 0]) if (colors == colors[..., :1]).all() else colors

    def _colors(self) -> np.ndarray:
        return np.asarray(decode(self._data, self._picture, "RGB"))

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

    def __init__(self, path: Path, max_pixels: int):
        from scipy.io import whosmat

        self._data = data = read_file(path)
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
        """See `Mask`."""
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


def open_mask(path: Path, max_pixels: int) -> Mask:
    """Reads a mask's file and header.

    Args:
      path: The file; its name tells ``.mat`` files from pictures.
      max_pixels: More are rejected.

    Raises:
      InputRejectedError: damaged, no mask, or too many pixels; ``read`` raises it, too.
    """
    return (MatMask if path.suffix.lower() == ".mat" else PictureMask)(path, max_pixels)
