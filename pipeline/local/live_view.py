"""The living view: what is done scrolls by; below it, what runs and what is to come is drawn anew."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.durations import duration, time_left
from components.trainer.progress import TICKS, TrainingProgress
from pipeline.local.views import ASCII, Ending, Glyphs, Tone, View

if TYPE_CHECKING:
    from pipeline.local.stages import StageResult

_INDENT: Final = "    "
_WORDS: Final = 3
"""Latest lines of a running stage that are shown."""
_BAR_WIDTH: Final = 40
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
class _Running:
    """What is going on."""

    doing: str
    """A stage's name, or what goes on before or after the stages; empty between two of them."""
    number: int = 0
    """Of the stage, from 1; 0 before and after the stages."""
    since: float = field(default_factory=time.monotonic)
    words: list[Text] = field(default_factory=list)
    """What the stage has said."""
    progress: TrainingProgress | None = None


class LiveView(View):
    """Rows for the stages, with a bar and figures for the training."""

    def __init__(self, stream: TextIO, glyphs: Glyphs, verbose: bool = False):
        super().__init__(verbose)
        self._stream = stream
        self._glyphs = glyphs
        self._stages: Sequence[str] = ()
        self._running = _Running("Starting")
        self._last_epoch = ""
        self._spinner = Spinner("line" if glyphs is ASCII else "dots", style="cyan")
        self._console = _Console(
            glyphs,
            file=stream,
            force_terminal=True,
            force_jupyter=False,
            force_interactive=True,
            markup=False,
            highlight=False,
            emoji=False,
        )
        self._live = Live(
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
        self._running = _Running("Starting")
        self._live.start(refresh=True)

    def stages_follow(self, names: Sequence[str]) -> None:
        self._stages = names

    def stage_starts(self, name: str) -> None:
        self._running = _Running(name, list(self._stages).index(name) + 1)

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
        # None is to come any more.
        self._stages = ()
        self._running = _Running("Writing the report")

    def run_ends(self, ending: Ending) -> None:
        self._live.stop()
        for line in ending.lines:
            self._console.print(Text(line.text, _STYLES[line.tone]), soft_wrap=line.copied)

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
        self._running = _Running("", closed.number)
        self._print([self._stage_row(mark, closed, took), *closed.words])

    def _print(self, rows: Sequence[Text]) -> None:
        self._console.print(Group(*rows), soft_wrap=True)

    def _draw(self) -> Group:
        self._console.size = _terminal_size(self._stream)
        running = self._running
        rows: list[RenderableType] = []
        if running.doing:
            elapsed = time.monotonic() - running.since
            took = f"{int(elapsed)} s" if elapsed < 60 else duration(elapsed)
            mark = self._spinner.render(self._console.get_time())
            assert isinstance(mark, Text)
            rows.append(_cropped(self._stage_row(mark, running, took)))
        rows += map(_cropped, running.words[-_WORDS:])
        if running.progress:
            rows += _training_rows(running.progress, self._glyphs)
        count = len(self._stages)
        rows += [
            _cropped(Text(f" {self._glyphs.pending} {number:>{len(str(count))}}/{count} {name}", "dim"))
            for number, name in enumerate(self._stages, start=1)
            if number > running.number
        ]
        return Group(*rows)

    def _stage_row(self, mark: Text, running: _Running, took: str) -> Text:
        count, width = str(len(self._stages)), max(map(len, self._stages), default=0)
        number = f"{running.number:>{len(count)}}/{count} " if running.number else ""
        return Text.assemble(" ", mark, f" {number}{running.doing:<{width}}  ", (f"{took:>11}", "dim"))


class _Console(Console):
    """Draws with the view's own signs, and never hides the cursor: who is killed could not show it again."""

    def __init__(self, glyphs: Glyphs, **settings: Any):
        self._ascii = glyphs is ASCII
        super().__init__(**settings)

    @property
    def encoding(self) -> str:
        return "ascii" if self._ascii else "utf-8"

    def show_cursor(self, show: bool = True) -> bool:
        return False


def _training_rows(progress: TrainingProgress, glyphs: Glyphs) -> Iterator[RenderableType]:
    """Yields the bar of the running epoch, and what was measured."""
    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(max_width=_BAR_WIDTH)
    row.add_column(no_wrap=True, style="dim")
    row.add_row(
        f"{_INDENT}epoch {progress.epoch}/{progress.epochs}",
        ProgressBar(total=progress.steps, completed=progress.step, complete_style="green"),
        f"step {progress.step}/{progress.steps}",
    )
    yield row
    if figures := glyphs.separator.join(_figures(progress)):
        yield Padding(figures, (0, 0, 0, len(_INDENT)), expand=False)


def _figures(progress: TrainingProgress) -> Iterator[str]:
    if progress.loss is not None:
        yield f"loss {progress.loss:.4f}"
    if progress.val_mean_iou is not None:
        yield f"val mean IoU {progress.val_mean_iou:.3f}"
    if progress.images_per_second is not None:
        yield f"{progress.images_per_second:.0f} images/s"
    if progress.seconds_left:
        yield time_left(progress.seconds_left)


def _cropped(row: Text) -> Text:
    """A copy that ends at the terminal's edge; what is cut here is printed whole when the stage is over."""
    row = row.copy()
    row.no_wrap, row.overflow = True, "crop"
    return row


def _terminal_size(stream: TextIO) -> tuple[int, int]:
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except OSError:
        return _FALLBACK_SIZE
    return columns or _FALLBACK_SIZE[0], lines or _FALLBACK_SIZE[1]
