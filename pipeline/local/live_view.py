"""The living view: what is done scrolls by; below it, what runs and what is to come is drawn anew."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, cast

from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from components.durations import duration, time_left
from components.trainer.training_progress import TICKS, TrainingProgress
from pipeline.local.view import Ending, Glyphs, Tone, View

if TYPE_CHECKING:
    from pipeline.local.stages import StageResult

_INDENT: Final = "    "
_WORDS: Final = 3
"""Latest lines of a running stage that are shown."""
_BAR_WIDTH: Final = 40
_PICTURES_A_SECOND: Final = 8
_FRAMES_A_SECOND: Final = 8
_FALLBACK_SIZE: Final = (80, 24)
"""Of a terminal that does not know its own."""
_NARROWEST: Final = 20
"""Columns that lines are wrapped to where the terminal has even fewer."""
_STYLES: Final = {
    Tone.PLAIN: "",
    Tone.GOOD: "bold green",
    Tone.WARNING: "yellow",
    Tone.BAD: "bold red",
    Tone.ASIDE: "dim",
}


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


class LiveView(View):
    """Rows for the stages, with a bar and figures for the training."""

    def __init__(self, stream: TextIO, glyphs: Glyphs, verbose: bool = False, reflows: bool = True):
        super().__init__(verbose)
        self._stream = stream
        self._reflows = reflows
        self._frame: Sequence[Text] = ()
        self._on_screen: Sequence[Text] = ()
        self._glyphs = glyphs
        self._stages: Sequence[str] = ()
        self._running = self._begin("Starting")
        self._last_epoch = ""
        self._console = _Console(
            file=cast("TextIO", _Frames(stream)),
            force_terminal=True,
            force_jupyter=False,
            force_interactive=True,
            markup=False,
            highlight=False,
            emoji=False,
        )
        self._live = _Live(
            self._rows_more_than_drawn,
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_FRAMES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        super().__enter__()
        logging.getLogger(TICKS).addHandler(self)
        # Ticks are DEBUG records, and a view that is not verbose hears none: it filters them itself.
        self.setLevel(logging.DEBUG)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        logging.getLogger(TICKS).removeHandler(self)
        super().__exit__(kind, error, trace)

    def run_starts(self, recipe: str, workdir: str) -> None:
        self._print([Text.assemble("Recipe ", (recipe, "bold"), f", work directory {workdir}")])
        self._running = self._begin("Starting")
        self._live.start(refresh=True)

    def stages_follow(self, names: Sequence[str]) -> None:
        self._stages = names

    def stage_starts(self, name: str) -> None:
        self._running = self._begin(name, number=list(self._stages).index(name) + 1)

    def stage_says(self, text: str, level: int) -> None:
        if level < logging.INFO and not self.verbose:
            return
        self._training_is_over()
        self._say(text, Tone.WARNING if level >= logging.WARNING else Tone.ASIDE)

    def training_goes_on(self, progress: TrainingProgress, text: str) -> None:
        self._running.progress = progress
        if progress.step == progress.steps:
            self._last_epoch = text
            if self.verbose:
                self._training_is_over()

    def stage_ends(self, result: "StageResult") -> None:
        if result.cached:
            self._close_stage(Text(self._glyphs.cached, "cyan"), "cached")
        else:
            self._close_stage(Text(self._glyphs.done, "green"), duration(result.seconds))

    def stages_are_over(self) -> None:
        if self._running.number and self._running.doing:
            took = duration(time.monotonic() - self._running.since)
            self._close_stage(Text(self._glyphs.failed, "bold red"), took)
        self._running = Running("Writing the report", time.monotonic())

    def run_ends(self, ending: Ending) -> None:
        self._live.stop()
        for line in ending.lines:
            self._console.print(Text(line.text, _STYLES[line.tone]), soft_wrap=line.copied)

    def _begin(self, doing: str, number: int = 0) -> Running:
        return Running(doing, time.monotonic(), number, self._stages)

    def _say(self, text: str, tone: Tone) -> None:
        width = max(_NARROWEST, self._console.width - len(_INDENT))
        wrapped = Text(text, _STYLES[tone]).wrap(self._console, width)
        lines = [Text(_INDENT, _STYLES[tone]) + line for line in wrapped]
        if self.verbose:
            self._print(lines)
        else:
            self._running.words = [*self._running.words, *lines]

    def _training_is_over(self) -> None:
        """Keeps of the training what was measured last."""
        if self._last_epoch:
            self._say(self._last_epoch, Tone.ASIDE)
            self._last_epoch = ""
            self._running.progress = None

    def _close_stage(self, mark: Text, took: str) -> None:
        self._training_is_over()
        closed = self._running
        # First of all: what is printed for good must not be drawn below itself once more.
        self._running = self._begin("", closed.number)
        self._print([stage_row(mark, closed, took), *closed.words])

    def _draw(self) -> Group:
        self._console.size = _terminal_size(self._stream)
        width, height = self._console.size
        self._frame = frame(self._running, self._glyphs, width, height, time.monotonic())
        return Group(*self._frame)

    def _rows_more_than_drawn(self) -> int:
        """How many rows the last frame takes beyond its own: a terminal that got narrower has wrapped it."""
        drawn, self._on_screen = self._on_screen, self._frame
        columns, _ = _terminal_size(self._stream)
        return sum(max(0, row.cell_len - 1) // columns for row in drawn) if self._reflows else 0

    def _print(self, rows: Sequence[Text]) -> None:
        self._console.print(Group(*rows), soft_wrap=True)


class _Live(Live):
    """Finds the beginning of its last frame also where the terminal has been made narrower since."""

    def __init__(self, rows_more: Callable[[], int], **settings: Any):
        super().__init__(**settings)
        self._rows_more = rows_more

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        step_back = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)) * self._rows_more()
        return [Control(*step_back), *super().process_renderables(renderables)]


class _Console(Console):
    """Never hides the cursor for long: a process that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Frames:
    """Writes each frame in one piece, the cursor hidden while it is drawn."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        return self._stream.write(f"\x1b[?25l{text}\x1b[?25h" if text else "")

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return True


def _terminal_size(stream: TextIO) -> tuple[int, int]:
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except OSError:
        return _FALLBACK_SIZE
    return columns or _FALLBACK_SIZE[0], lines or _FALLBACK_SIZE[1]


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
