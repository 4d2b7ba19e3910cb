"""From a dataset's raw values or colours to class ids."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.mask import no_data_remedy, pack_colors, unpack_color
from components.image_mask_example_gen.report import Reason

_VALUES_16_BIT = 1 << 16
_NO_CLASS = -1
_SHOWN_VALUES = 5
_LOSSY_VALUES = 20

_EXACT, _NEAR, _FAR = range(3)
_NEAR_LABEL = 4
"""What a lossy format changes a flat area by, at the qualities that people use."""
_SMALLEST_BLOCK = 0.0005
"""From this part of the pixels on, areas of one value far from every class's are none of its edges."""


class LabelMapping:
    """Raw labels to class ids.

    Args:
      names: Class name of each raw label.
      ignored: Raw labels that become the ignore label.
      class_names: Names in the order of their ids.
      tolerance: How far from one of these raw labels, in any channel, a value may be to be taken for it;
        less than half the way from one to the next.
    """

    def __init__(
        self,
        names: Mapping[RawLabel, str],
        ignored: Iterable[RawLabel],
        class_names: Iterable[str],
        tolerance: int = 0,
    ):
        class_names = tuple(class_names)
        self._made_of = names, tuple(ignored), class_names, tolerance
        ids = {name: class_id for class_id, name in enumerate(class_names)}
        self._names = dict(names)
        known: dict[RawLabel, int] = dict.fromkeys(self._made_of[1], IGNORE_LABEL)
        known |= {raw: ids[name] for raw, name in names.items()}
        self.of_colors = any(isinstance(raw, tuple) for raw in known)
        self.num_classes = len(ids)
        self._table = self._around(known, tolerance, np.full(self._extent, _NO_CLASS, np.int16))
        self._distance: np.ndarray | None = None
        """Of each value to the nearest raw label, roughly; where there is a tolerance."""
        if tolerance:
            self._distance = np.full(self._extent, _FAR, np.uint8)
            for label, reach in ((_NEAR, min(tolerance, max(_NEAR_LABEL, tolerance // 4))), (_EXACT, 0)):
                self._around(dict.fromkeys(known, label), reach, self._distance)
        # A byte that is neither a class id nor the ignore label; 255 classes leave none.
        self._marker = len(ids) if len(ids) < IGNORE_LABEL else None
        self._byte_table = bytes(
            self._marker or 0 if i < 0 else i for i in self._table.ravel()[:256].tolist()
        )

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """Travels to workers without its tables, which for colours are tens of megabytes."""
        return type(self), self._made_of

    def class_ids(self, raw: np.ndarray) -> np.ndarray:
        """Maps a mask as ``open_mask(…).read`` returns it to uint8 [height, width].

        Raises:
          InputRejectedError: a value that is no class and not ignored, or an area of values that are near
            none of them.
        """
        if self.of_colors and raw.ndim == 2:
            raise InputRejectedError(
                Reason.LABEL_OUTSIDE_CLASSES,
                "dataset.mask_values makes numbers of the mask, and dataset.label_values are colours; give a "
                "number for each class",
            )
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
        inside = (raw >= 0) & (raw < self._table.size)
        ids = self._table.ravel()[np.where(inside, raw, 0)]
        stray = raw[~inside | (ids == _NO_CLASS)]
        if stray.size:
            raise self._outside(stray, raw.size)
        return ids.astype(np.uint8)

    @property
    def _extent(self) -> tuple[int, ...]:
        return (256, 256, 256) if self.of_colors else (_VALUES_16_BIT,)

    def _around(self, labels: Mapping[RawLabel, int], reach: int, table: np.ndarray) -> np.ndarray:
        """Writes each raw label's number into a table, for all values up to ``reach`` away in any channel."""
        for raw, number in labels.items():
            channels = raw if isinstance(raw, tuple) else (raw,)
            table[tuple(slice(max(0, value - reach), value + reach + 1) for value in channels)] = number
        return table

    def repaired_pixels(self, raw: np.ndarray) -> int:
        """Counts pixels of a mask, of which `class_ids` has taken all, that are no raw label to the letter.

        Raises:
          InputRejectedError: some of them make areas, which neither JPEG nor resizing leaves.
        """
        if self._distance is None:
            return 0
        raw = pack_colors(raw) if self.of_colors else raw
        distance = self._distance.ravel()[raw]
        same = (distance[1:, 1:] == _FAR) & (raw[1:, 1:] == raw[:-1, 1:])
        same &= (raw[1:, 1:] == raw[1:, :-1]) & (raw[1:, 1:] == raw[:-1, :-1])
        # A line that a resizing made two pixels wide is no area yet.
        area = same[1:, 1:] & same[1:, :-1] & same[:-1, 1:] & same[:-1, :-1]
        if area.sum() > _SMALLEST_BLOCK * raw.size:
            values, counts = np.unique(raw[2:, 2:][area], return_counts=True)
            value = self._word(int(values[np.argmax(counts)]))
            raise InputRejectedError(
                Reason.LABEL_OUTSIDE_CLASSES,
                f"raw value {value} fills areas, and is no class: it is not the smear at edges that "
                "dataset.label_tolerance is for",
            )
        return int(np.count_nonzero(distance))

    def _outside(self, stray: np.ndarray, num_pixels: int) -> InputRejectedError:
        values, counts = np.unique(stray, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shown = [
            f"{self._word(int(values[i]))} ({100 * counts[i] / num_pixels:.2g} %)"
            for i in order[:_SHOWN_VALUES]
        ]
        more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
        first = list(self._names.items())[:_SHOWN_VALUES]
        expected = ", ".join(f"{raw_word(raw)} {name}" for raw, name in first)
        expected += f", … ({len(self._names)} classes)" if len(self._names) > _SHOWN_VALUES else ""
        found = f"raw value {', '.join(shown)}{more} of the pixels; expected {expected}{self._hint(values)}"
        return InputRejectedError(Reason.LABEL_OUTSIDE_CLASSES, found)

    def _hint(self, values: np.ndarray) -> str:
        if len(values) > _LOSSY_VALUES:
            return "; a lossy format such as JPEG cannot hold a mask"
        if not self.of_colors and values[0] < 0:
            return f"; {no_data_remedy(str(values[0]))}"
        if self.of_colors or list(values) != [255]:
            return ""
        if len(self._names) == 2:
            first, second = self._names.values()
            return f"; for masks of 0 and 255 give dataset.label_values {{{first}: 0, {second}: 255}}"
        return "; if 255 marks pixels that count nowhere, give dataset.ignore_label=255"

    def _word(self, value: int) -> str:
        return raw_word(unpack_color(value) if self.of_colors else value)


def raw_word(raw: RawLabel) -> str:
    """A raw label as a recipe has it."""
    return str(list(raw)) if isinstance(raw, tuple) else str(raw)
