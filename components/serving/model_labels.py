"""What a served model's class ids mean, as the model itself says."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from components.imaging.palette import Color, default_palette
from components.serving.messages import Metadata, Tensors

LABELS_SIGNATURE: Final = "labels"
"""Answers the classes' ``names``, string [N, C], and RGB ``colors``, uint8 [N, C, 3], alike in every row."""
LABELS_INPUT: Final = "ignored"
"""String [N]; a server that batches requests takes no signature without an input."""
DEFAULT_SIGNATURE: Final = "serving_default"


@dataclass(frozen=True)
class Labels:
    """Names and RGB colours of the classes, in the order of their ids."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    version: int
    """The model version that these are the classes of."""

    @staticmethod
    def numbered(count: int, version: int) -> "Labels":
        """The classes of a model that names none: ``class-0`` … in the default palette."""
        names = tuple(f"class-{class_id}" for class_id in range(count))
        return Labels(names, default_palette(count), version)

    def covering(self, count: int) -> "Labels":
        """These labels, continued by number to ``count`` classes; never fewer than these."""
        known = len(self.names)
        if count <= known:
            return self
        rest = Labels.numbered(count, self.version)
        return Labels(self.names + rest.names[known:], self.colors + rest.colors[known:], self.version)


def class_count(metadata: Metadata) -> int:
    """Returns C of ``class_fraction`` [N, C], 0 where the signature does not say."""
    signature = metadata.signatures.get(DEFAULT_SIGNATURE)
    fraction = signature.outputs.get("class_fraction") if signature else None
    return max(0, fraction.shape[-1]) if fraction and fraction.shape else 0


def read_labels(answer: Tensors) -> Labels:
    """Reads the answer to one row of input: ``names`` [1, C] and ``colors`` [1, C, 3].

    Raises:
        ValueError: the outputs are others, or do not fit together.
    """
    missing = {"names", "colors"} - set(answer.outputs)
    if missing:
        raise ValueError(f"signature {LABELS_SIGNATURE!r} has no output {', '.join(sorted(missing))}")
    names, colors = answer.outputs["names"], answer.outputs["colors"]
    if not names.dtype.hasobject or colors.dtype != np.uint8 or colors.shape != (1, names.size, 3):
        raise ValueError(
            f"signature {LABELS_SIGNATURE!r} gives names {names.dtype} {list(names.shape)} and colors "
            f"{colors.dtype} {list(colors.shape)}, not strings [1, C] and uint8 [1, C, 3]"
        )
    return Labels(
        tuple(name.decode("utf-8", "replace") for name in names.flat),
        tuple((int(red), int(green), int(blue)) for red, green, blue in colors[0]),
        answer.version,
    )
