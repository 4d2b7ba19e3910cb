"""What training minimises: the losses that a recipe can name, each registered here with its parameters.

A loss is a function of a batch's `Pixels` and of its parameters as keywords, under its registered name in a
module of this package. `SegmentationLoss` adds up what a recipe chooses. Imports no Keras, so recipes are
checked without it.
"""

from math import isfinite
from typing import Final, NamedTuple


class Parameter(NamedTuple):
    """A number that a loss takes."""

    default: float
    meaning: str
    bounds: dict[str, float]
    """``ge`` or ``gt``, the least that it may be or what it must exceed, and perhaps ``lt``."""

    def check(self, name: str, value: float) -> None:
        """Raises a `ValueError` that names the parameter unless its value is within the bounds."""
        infinity = float("inf")
        low, above = self.bounds.get("ge", -infinity), self.bounds.get("gt", -infinity)
        below = self.bounds.get("lt", infinity)
        if not (isfinite(value) and low <= value and above < value < below):
            signs = {"ge": "≥", "gt": ">", "lt": "<"}
            wanted = ", ".join(f"{signs[key]} {bound:g}" for key, bound in self.bounds.items())
            raise ValueError(f"{name} is {value}; give a number {wanted}")


class Loss(NamedTuple):
    """Where a loss's function is, and what it takes."""

    module: str
    """In this package."""
    meaning: str
    parameters: dict[str, Parameter]
    """Besides its weight in the sum, which every loss has."""


WEIGHT: Final = Parameter(1.0, "Factor of this loss in the sum.", {"gt": 0.0})
_SMOOTHING = Parameter(0.0, "Share of the truth given to all classes alike.", {"ge": 0.0, "lt": 1.0})

LOSSES: Final[dict[str, Loss]] = {
    "cross_entropy": Loss("cross_entropy", "Judges each pixel by itself.", {"label_smoothing": _SMOOTHING}),
    "dice": Loss(
        "overlap", "One minus Dice's coefficient, a mean over the classes that the batch shows.", {}
    ),
    "focal": Loss(
        "cross_entropy",
        "Cross-entropy in which pixels that are already right count little.",
        {
            "gamma": Parameter(2.0, "How strongly these pixels fade; 0 is cross-entropy.", {"ge": 0.0}),
            "label_smoothing": _SMOOTHING,
        },
    ),
    "tversky": Loss(
        "overlap",
        "Dice with weights of its own for false positives and false negatives.",
        {
            "alpha": Parameter(0.3, "Weight of false positives.", {"ge": 0.0}),
            "beta": Parameter(0.7, "Weight of false negatives.", {"gt": 0.0}),
        },
    ),
    "lovasz": Loss("lovasz", "Lovász-softmax, which stands in for IoU itself; the dearest by far.", {}),
}
