"""Masks: from a dataset's raw values or colours to class ids."""

import io
from collections.abc import Iterable, Mapping

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen import png
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.pictures import check_pixels, open_picture, rejecting_damage
from components.image_mask_example_gen.rejections import InputRejectedError, Reason
from components.pillow import Image

_MAT_VARIABLE = "groundtruth"
_BITS_PER_SAMPLE = 258
"""A tag of TIFF."""
_HIGHEST_BYTE = 255
_VALUES_16_BIT = 1 << 16
_NO_CLASS = -1
_SHOWN_VALUES = 5
_LOSSY_VALUES = 20


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
        self._stretch = _stretch(self._picture, data)

    def read(self, as_colors: bool) -> np.ndarray:
        """See ``open_mask``."""
        with rejecting_damage(self._data):
            self._picture.load()
            defect = png.find_defect(self._data) if self._picture.format == "PNG" else None
            if defect:
                raise InputRejectedError(defect[0], f"PNG of {len(self._data):,} bytes, {defect[1]}")
            return self._colors() if as_colors else self._numbers()

    def _colors(self) -> np.ndarray:
        return np.asarray(self._picture.convert("RGB"))

    def _numbers(self) -> np.ndarray:
        if png.loses_bits(self._data) or self._loses_bits():
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
        return self._picture.mode == "RGB" and self._stretch is not None and self._stretch[0] > _HIGHEST_BYTE

    def _unstretched(self, pixels: np.ndarray) -> np.ndarray:
        if self._stretch is None:
            return pixels
        stored, decoded = self._stretch
        return ((pixels.astype(np.int64) * stored + decoded // 2) // decoded).astype(pixels.dtype)


def _stretch(picture: Image.Image, data: bytes) -> tuple[int, int] | None:
    """The highest number that a file can hold, and what Pillow makes of it; None where it is the same."""
    stored = 0
    if picture.format == "PNG":
        stored = _highest(png.grayscale_bits(data))
    elif picture.format == "TIFF" and picture.mode == "L":
        stored = _highest(*getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, ()))
    elif picture.format == "PPM" and picture.mode != "1":
        [tile] = picture.tile  # type: ignore[attr-defined]
        stored = tile.args[-1] if tile.codec_name.startswith("ppm") else 0
    decoded = 65_535 if picture.mode == "I" else _HIGHEST_BYTE
    return (stored, decoded) if stored and stored != decoded else None


def _highest(bits: int | None = None, *_: int) -> int:
    return (1 << bits) - 1 if bits in (2, 4) else 0


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


class LabelMapping:
    """Raw labels to class ids.

    Args:
      names: Class name of each raw label.
      ignored: Raw labels that become the ignore label.
      class_names: Names in the order of their ids.
    """

    def __init__(
        self, names: Mapping[RawLabel, str], ignored: Iterable[RawLabel], class_names: Iterable[str]
    ):
        ids = {name: class_id for class_id, name in enumerate(class_names)}
        self._names = dict(names)
        known: dict[RawLabel, int] = dict.fromkeys(ignored, IGNORE_LABEL)
        known |= {raw: ids[name] for raw, name in names.items()}
        self.of_colors = any(isinstance(raw, tuple) for raw in known)
        self._table = np.full(1 << 24 if self.of_colors else _VALUES_16_BIT, _NO_CLASS, np.int16)
        for raw, class_id in known.items():
            self._table[_key(raw)] = class_id
        # A byte that is neither a class id nor the ignore label; 255 classes leave none.
        self._marker = len(ids) if len(ids) < IGNORE_LABEL else None
        self._byte_table = bytes(self._marker or 0 if i < 0 else i for i in self._table[:256].tolist())

    def class_ids(self, raw: np.ndarray) -> np.ndarray:
        """Maps a mask as ``open_mask(…).read`` returns it to uint8 [height, width].

        Raises:
          InputRejectedError: a value that is no class and not ignored.
        """
        if self.of_colors:
            raw = _pack(raw)
        elif raw.ndim == 3:
            raise InputRejectedError(
                Reason.LABEL_OUTSIDE_CLASSES,
                "the mask is in colours; give dataset.label_values a [red, green, blue] for each class",
            )
        elif raw.dtype == np.uint8 and self._marker is not None:
            # bytes.translate is ten times as fast as indexing a table with the array.
            mapped = raw.tobytes().translate(self._byte_table)
            if self._marker not in mapped:
                return np.frombuffer(mapped, np.uint8).reshape(raw.shape)
        inside = (raw >= 0) & (raw < len(self._table))
        ids = self._table[np.where(inside, raw, 0)]
        stray = raw[~inside | (ids == _NO_CLASS)]
        if stray.size:
            raise self._outside(stray, raw.size)
        return ids.astype(np.uint8)

    def _outside(self, stray: np.ndarray, num_pixels: int) -> InputRejectedError:
        values, counts = np.unique(stray, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shown = [
            f"{self._word(int(values[i]))} ({100 * counts[i] / num_pixels:.2g} %)"
            for i in order[:_SHOWN_VALUES]
        ]
        more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
        first = list(self._names.items())[:_SHOWN_VALUES]
        expected = ", ".join(f"{_raw_word(raw)} {name}" for raw, name in first)
        expected += f", … ({len(self._names)} classes)" if len(self._names) > _SHOWN_VALUES else ""
        found = f"raw value {', '.join(shown)}{more} of the pixels; expected {expected}{self._hint(values)}"
        return InputRejectedError(Reason.LABEL_OUTSIDE_CLASSES, found)

    def _hint(self, values: np.ndarray) -> str:
        if len(values) > _LOSSY_VALUES:
            return "; a lossy format such as JPEG cannot hold a mask"
        if self.of_colors or list(values) != [255]:
            return ""
        if len(self._names) == 2:
            first, second = self._names.values()
            return f"; for masks of 0 and 255 give dataset.label_values {{{first}: 0, {second}: 255}}"
        return "; if 255 marks pixels that count nowhere, give dataset.ignore_label=255"

    def _word(self, value: int) -> str:
        return str([value >> 16, value >> 8 & 255, value & 255]) if self.of_colors else str(value)


def _raw_word(raw: RawLabel) -> str:
    return str(list(raw)) if isinstance(raw, tuple) else str(raw)


def _key(raw: RawLabel) -> int:
    return raw[0] << 16 | raw[1] << 8 | raw[2] if isinstance(raw, tuple) else raw


def _pack(colors: np.ndarray) -> np.ndarray:
    channels = colors.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
