"""Which classes are taken for which."""

from dataclasses import dataclass
from typing import Final

from components.report.data import ReportData

_SHOWN: Final = 10


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were predicted to be of another."""

    true: int
    predicted: int
    """Class ids."""
    pixels: int
    share: float
    """Of the true class's pixels."""


def largest(data: ReportData) -> tuple[Confusion, ...]:
    """Returns the pairs of classes with the most pixels confused, most first."""
    assert data.evaluation
    found = [
        Confusion(true, predicted, pixels, pixels / sum(row))
        for true, row in enumerate(data.evaluation.confusion)
        for predicted, pixels in enumerate(row)
        if pixels and true != predicted
    ]
    return tuple(sorted(found, key=lambda each: -each.pixels)[:_SHOWN])
