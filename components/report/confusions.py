"""The page's table of confusions: which classes are taken for which, and how often."""

from collections.abc import Iterator
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


def never_predicted(data: ReportData) -> tuple[str, ...]:
    """Returns the names of the classes that are in the ground truth, but in no prediction.

    Those that training never showed are left out: no setting gives them more weight.
    """
    untrained = data.summary.untrained_classes
    return tuple(
        name for name, true, predicted in _margins(data) if true and not predicted and name not in untrained
    )


def only_predicted(data: ReportData) -> tuple[str, ...]:
    """Returns the names of the classes that are in predictions, but nowhere in the ground truth."""
    return tuple(name for name, true, predicted in _margins(data) if predicted and not true)


def _margins(data: ReportData) -> Iterator[tuple[str, int, int]]:
    """Each class with its pixels in the ground truth and in the predictions."""
    columns = zip(*data.confusion, strict=True)
    for each, row, column in zip(data.classes, data.confusion, columns, strict=False):
        yield each.name, sum(row), sum(column)


def largest(data: ReportData) -> tuple[Confusion, ...]:
    """Returns the pairs of classes with the most pixels confused, most first."""
    found = [
        Confusion(true, predicted, pixels, pixels / sum(row))
        for true, row in enumerate(data.confusion)
        for predicted, pixels in enumerate(row)
        if pixels and true != predicted
    ]
    return tuple(sorted(found, key=lambda each: -each.pixels)[:_SHOWN])
