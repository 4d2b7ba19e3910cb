"""Draws loss and IoU over the epochs of a training, for a file and for a page."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PANELS: Final = (("loss", "Loss"), ("iou_at_input_size", "Mean IoU at the network's input size"))
_INK: Final = ("#565c64", "#a3a9b2")
"""On a light ground and on a dark one, as all colours here."""
_LINES: Final = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9a56"),
    ("#009e73", "#4fd1ad"),
    ("#b0628f", "#e39cc6"),
)
_STYLE: Final[dict[Any, Any]] = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "grid.color", "xtick.color"), _INK[0]
    ),
    "ytick.color": _INK[0],
    # Letters stay letters, in the reader's own font; the same curves give the same bytes.
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",
}


class TrainingCurves(NamedTuple):
    """What a training measured."""

    epochs: Sequence[Mapping[str, float | None]]
    """By name, ``val_`` before those of the val split; None is what was no number."""
    best_epoch: int
    """The exported one, from 1."""
    run: str = ""
    """Its name, where several are drawn."""


def save_curves(training: TrainingCurves, path: Path) -> None:
    """Draws loss and IoU of train and val into one PNG, the exported epoch marked."""
    with rc_context(_STYLE):
        # A figure of its own, not pyplot's: that keeps every figure, and asks for a display.
        figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
        for axes, (key, title) in zip(figure.subplots(1, 2), _PANELS, strict=True):
            _draw(axes, key, title, [training])
        figure.savefig(path)


def curve_pictures(trainings: Sequence[TrainingCurves]) -> list[tuple[str, str]]:
    """Draws the same for a page, all trainings on the same axes.

    Returns:
        The title and an SVG, as a data URI, of each panel. The SVG follows the reader's light or dark theme.
    """
    pictures = []
    for key, title in _PANELS:
        with rc_context(_STYLE):
            figure = Figure(figsize=(5.5, 4), layout="constrained")
            _draw(figure.subplots(), key, title, trainings)
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        pictures.append((title, _themed(file.getvalue())))
    return pictures


def _draw(axes: Axes, key: str, title: str, trainings: Sequence[TrainingCurves]) -> None:
    """Draws one quantity; where several trainings are drawn, names say whose it is."""
    for number, (epochs, best_epoch, run) in enumerate(trainings):
        train_color, val_color = (light for light, _ in _LINES[2 * number : 2 * number + 2])
        for name, split, color, style in (
            (key, "train", train_color, "-"),
            (f"val_{key}", "val", val_color, "--"),
        ):
            values = [epoch.get(name) for epoch in epochs]
            if set(values) != {None}:
                axes.plot(
                    range(1, len(values) + 1),
                    [math.nan if value is None else value for value in values],
                    style,
                    color=color,
                    marker="o",
                    markersize=3,
                    label=f"{run} {split}".lstrip(),
                )
        label = f"{run} exported: epoch {best_epoch}".lstrip()
        axes.axvline(best_epoch, color=train_color, linestyle=":", label=label)
        for epoch, (before, after) in enumerate(pairwise(epochs), 1):
            if before.get("phase") != after.get("phase"):
                label = f"{run} fine-tuning begins".lstrip()
                axes.axvline(epoch + 0.5, color=_INK[0], linestyle="-.", linewidth=1, label=label)
    axes.set(title=title, xlabel="epoch")
    axes.set_xlim(0.5, max(len(training.epochs) for training in trainings) + 0.5)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1] if key == "loss" else 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _themed(svg: str) -> str:
    """Returns a drawing of the light theme as a data URI that has the colours of the dark one, too."""
    light, dark = [], []
    for number, colors in enumerate((_INK, *_LINES)):
        svg = svg.replace(colors[0], f"var(--c{number})")
        light.append(f"--c{number}:{colors[0]}")
        dark.append(f"--c{number}:{colors[1]}")
    themes = f":root{{{';'.join(light)}}}@media(prefers-color-scheme:dark){{:root{{{';'.join(dark)}}}}}"
    svg = svg.replace("<defs>", f"<style>{themes}</style><defs>", 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
