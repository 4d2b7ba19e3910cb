"""What the living view draws anew several times a second: the running stage and those to come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.text import Text

from components.durations import duration, time_left
from components.trainer.training_progress import TrainingProgress
from pipeline.views.glyphs import Glyphs

_INDENT: Final = "    "
_WORDS: Final = 3
"""Latest lines of a running stage that are shown."""
_BAR_WIDTH: Final = 40
_PICTURES_A_SECOND: Final = 8


@dataclass
class Running:
    """What is going on."""

    doing: str
    """A stage's name, or what goes on before or after the stages; empty between two of them."""
    since: float
    """On the clock that also ``now`` is read from; seconds."""
    number: int = 0
    """Of the stage, from 1; 0 before and after the stages."""
    stages: Sequence[str] = ()
    """All stages' names, in their order."""
    words: list[Text] = field(default_factory=list)
    """What the stage has said."""
    progress: TrainingProgress | None = None


def stage_row(mark: Text, running: Running, took: str) -> Text:
    """Returns a stage's row: its mark, number, name, and how long it took."""
    count, width = str(len(running.stages)), max(map(len, running.stages), default=0)
    number = f"{running.number:>{len(count)}}/{count} " if running.number else ""
    return Text.assemble(" ", mark, f" {number}{running.doing:<{width}}  ", (f"{took:>11}", "dim"))


def frame(running: Running, glyphs: Glyphs, width: int, height: int, now: float) -> list[Text]:
    """Returns the rows, none wider than ``width``, fewer than ``height``; the last one is empty."""
    rows = [_running_row(running, glyphs, now - running.since)] if running.doing else []
    # Copies: what is cut to fit is printed whole when the stage is over.
    rows += [row.copy() for row in running.words[-_WORDS:]]
    if running.progress:
        rows += training_rows(running.progress, glyphs, width)
    room = height - len(rows) - 1
    rows += _pending_rows(running, glyphs, room)
    rows = rows[: max(1, height - 1)]
    for row in rows:
        row.no_wrap = True
        _crop(row, width, glyphs)
    return [*rows, Text("")]


def _running_row(running: Running, glyphs: Glyphs, elapsed: float) -> Text:
    picture = glyphs.spinner[int(elapsed * _PICTURES_A_SECOND) % len(glyphs.spinner)]
    took = f"{int(elapsed)} s" if elapsed < 60 else duration(elapsed)
    return stage_row(Text(picture, "cyan"), running, took)


def training_rows(progress: TrainingProgress, glyphs: Glyphs, width: int) -> list[Text]:
    """Returns the bar of the running epoch, and what was measured in as many rows as it takes."""
    share = progress.step / progress.steps if progress.steps else 0.0
    epoch = f"epoch {progress.epoch}/{progress.epochs} "
    step = f" step {progress.step}/{progress.steps}"
    room = min(_BAR_WIDTH, width - len(_INDENT) - len(epoch) - len(step) - 1)
    bar = Text(_INDENT + epoch)
    if room >= 8:
        filled = round(share * room)
        bar.append(glyphs.bar * filled, "green")
        bar.append(glyphs.rail * (room - filled), "dim")
    bar.append(step, "dim")
    return [bar, *(Text(_INDENT + line) for line in flow(_figures(progress), glyphs.separator, width - 5))]


def flow(parts: Sequence[str], separator: str, width: int) -> list[str]:
    """Joins the parts to lines of at most ``width``, none divided."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(separator) + len(part) <= width:
            lines[-1] += separator + part
        else:
            lines.append(part)
    return lines


def _figures(progress: TrainingProgress) -> list[str]:
    figures = []
    if progress.loss is not None:
        figures.append(f"loss {progress.loss:.4f}")
    if progress.val_mean_iou is not None:
        figures.append(f"val mean IoU {progress.val_mean_iou:.3f}")
    if progress.images_per_second is not None:
        figures.append(f"{progress.images_per_second:.0f} images/s")
    if progress.seconds_left:
        figures.append(time_left(progress.seconds_left))
    return figures


def _pending_rows(running: Running, glyphs: Glyphs, room: int) -> list[Text]:
    pending = list(enumerate(running.stages, start=1))[running.number :]
    width = len(str(len(running.stages)))
    rows = [
        Text(f" {glyphs.pending} {number:>{width}}/{len(running.stages)} {name}", "dim")
        for number, name in pending
    ]
    if len(rows) <= room:
        return rows
    if room < 1:
        return []
    shown = rows[: room - 1]
    return [*shown, Text(f" {glyphs.pending} and {len(rows) - len(shown)} more", "dim")]


def _crop(row: Text, width: int, glyphs: Glyphs) -> None:
    if row.cell_len > width:
        row.truncate(max(0, width - len(glyphs.ellipsis)), overflow="crop")
        row.append(glyphs.ellipsis, "dim")
