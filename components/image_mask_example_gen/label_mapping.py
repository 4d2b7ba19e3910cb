"""From a dataset's raw values or colours to class ids."""

from collections.abc import Iterable, Mapping

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.report import Reason

_VALUES_16_BIT = 1 << 16
_NO_CLASS = -1
_SHOWN_VALUES = 5
_LOSSY_VALUES = 20


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
            raw = pack_colors(raw)
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


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Colours, uint8 [height, width, 3], as ``red << 16 | green << 8 | blue``, int32 [height, width]."""
    channels = colors.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
