"""The living view: what is done scrolls by; below it, what runs and what is to come is drawn anew."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, cast

from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from components.durations import duration
from components.trainer.training_progress import TICKS, TrainingProgress
from pipeline.views.frame import Running, frame, stage_row
from pipeline.views.glyphs import Glyphs
from pipeline.views.view import Ending, Tone, View

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult

_INDENT: Final = "    "
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
