"""Curves over the epochs of a training, laid out for a small SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components.report.data import Training

WIDTH: Final = 360
HEIGHT: Final = 220
LEFT: Final = 40
RIGHT: Final = 10
TOP: Final = 12
BOTTOM: Final = 26

IOU: Final = "iou_at_input_size"
_PREFIXES: Final = (("train", ""), ("val", "val_"))


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One measured quantity over the epochs."""

    name: str
    style: int
    """Which of the page's line styles."""
    values: tuple[float | None, ...]
    """One an epoch."""
    points: str
    """Of the SVG's path, a gap wherever a value is missing."""


@dataclass(frozen=True)
class Chart:
    """A panel; all places are in the SVG's own units."""

    title: str
    x: tuple[float, ...]
    """Of each epoch."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    marks: tuple[Tick, ...]
    """Epochs worth a vertical line."""


def training_charts(trainings: Sequence[tuple[str, Training]]) -> tuple[Chart, ...]:
    """Returns the panels for loss and mean IoU.

    Args:
        trainings: one or more to draw into the same panels, each with the name of its run, which may be
            empty where there is only one.
    """
    epochs = max(len(training.epochs) for _, training in trainings)
    return tuple(
        _chart(title, key, trainings, epochs, top)
        for title, key, top in (("Loss", "loss", None), ("Mean IoU at the network's input size", IOU, 1.0))
    )


def _chart(
    title: str, key: str, trainings: Sequence[tuple[str, Training]], epochs: int, top: float | None
) -> Chart:
    named = [
        (f"{run} {split}".strip(), tuple(epoch.get(prefix + key) for epoch in training.epochs))
        for run, training in trainings
        for split, prefix in _PREFIXES
    ]
    measured = [(style, name, values) for style, (name, values) in enumerate(named) if set(values) - {None}]
    numbers = [value for _, _, values in measured for value in values if value is not None]
    # Where every pixel is ignored, the loss is 0 throughout.
    y_values = _round_steps(0.0, top if top is not None else max(numbers, default=0.0) or 1.0)
    highest = y_values[-1]
    x = tuple(_between(LEFT, WIDTH - RIGHT, index, max(epochs - 1, 1)) for index in range(epochs))

    def y(value: float) -> float:
        return _between(HEIGHT - BOTTOM, TOP, min(max(value, 0.0), highest), highest)

    return Chart(
        title=title,
        x=x,
        x_ticks=tuple(Tick(x[index], str(index + 1)) for index in _few(epochs)),
        y_ticks=tuple(Tick(y(value), f"{value:g}") for value in y_values),
        lines=tuple(
            Line(
                name,
                style,
                values,
                _path(
                    [
                        None if value is None else (place, y(value))
                        for place, value in zip(x, values, strict=False)
                    ]
                ),
            )
            for style, name, values in measured
        ),
        marks=tuple(
            Tick(x[training.best_epoch - 1], f"{run} exported: epoch {training.best_epoch}".strip())
            for run, training in trainings
        ),
    )


def _between(start: float, end: float, value: float, whole: float) -> float:
    return round(start + (end - start) * value / whole, 1)


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    """SVG path data; a missing place ends one stroke, the next begins another."""
    parts, drawing = [], False
    for place in places:
        if place is not None:
            parts.append(f"{'L' if drawing else 'M'}{place[0]:g} {place[1]:g}")
        drawing = place is not None
    # A lone point is a stroke of no length, which round caps make visible.
    return " ".join(parts) + (" h0" if len(parts) == 1 else "")


def _round_steps(low: float, high: float) -> tuple[float, ...]:
    """Some round numbers from ``low`` to ``high`` or just beyond."""
    raw = max(high - low, 1e-6) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    steps = math.ceil((high - low) / step - 1e-9)
    return tuple(round(low + index * step, 12) for index in range(steps + 1))


def _few(count: int) -> list[int]:
    """At most seven indices, evenly apart, the first among them."""
    step = max(1, math.ceil(count / 7))
    return list(range(0, count, step))
