"""The views of a run: what each is told, and those that only ever add lines, for pipes, files and programs.

Which view a run is shown in is decided here, too; the living one is imported where a terminal can draw.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TextIO

from components.report.run_summary import RunSummary
from components.trainer.progress import RECORD_ATTRIBUTE, TrainingProgress

if TYPE_CHECKING:
    from pipeline.local.stages import StageResult

Mode = Literal["normal", "quiet", "verbose", "json"]

_STAGES: Final = "components"
"""The logger that the stages' own loggers descend from."""
_INDENT: Final = "      "


class Tone(Enum):
    """How a line is meant."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    ASIDE = "aside"


@dataclass(frozen=True)
class Line:
    """A line for people, at the end of a run."""

    text: str
    tone: Tone = Tone.PLAIN
    copied: bool = False
    """It holds what people copy: a view must not divide it."""


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    exit_code: int
    log: Path
    summary: RunSummary | None
    """None where the run was interrupted too late or too early for one."""
    lines: Sequence[Line]


class View(logging.Handler):
    """Shows a run: is told what happens, and hears what the stages' own code logs.

    Used as a context, it hears; it shows nothing by itself. Records below INFO are the log's alone,
    unless the view is verbose.
    """

    def __init__(self, verbose: bool = False):
        super().__init__(logging.DEBUG if verbose else logging.INFO)
        self.verbose = verbose
        self._level_before = logging.NOTSET

    def __enter__(self) -> Self:
        logger = logging.getLogger(_STAGES)
        self._level_before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger(_STAGES)
        logger.removeHandler(self)
        logger.setLevel(self._level_before)

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, RECORD_ATTRIBUTE, None)
        if progress is None:
            self.stage_says(record.getMessage(), record.levelno)
        else:
            self.training_goes_on(progress, record.getMessage())

    def run_starts(self, recipe: str, workdir: str) -> None:
        """The recipe is in order and the work directory locked; imports come next."""

    def stages_follow(self, names: Sequence[str]) -> None:
        """These stages are about to run, in this order."""

    def stage_starts(self, name: str) -> None:
        """The next stage runs."""

    def stage_says(self, text: str, level: int) -> None:
        """A stage's own code has logged something."""

    def training_goes_on(self, progress: TrainingProgress, text: str) -> None:
        """The Trainer has come further; ``text`` says the same for people."""

    def stage_ends(self, result: "StageResult") -> None:
        """The running stage is done."""

    def stages_are_over(self) -> None:
        """All stages are done, or the running one has failed or was interrupted; a report is written next."""

    def run_ends(self, ending: Ending) -> None:
        """Nothing follows."""


@dataclass(frozen=True)
class Glyphs:
    """One character each, except for the ellipsis and the separator."""

    done: str
    cached: str
    failed: str
    pending: str
    separator: str
    ellipsis: str


UNICODE: Final = Glyphs("✓", "≡", "✗", "·", " · ", "…")
ASCII: Final = Glyphs("+", "=", "x", ".", ", ", "...")


def glyphs_for(encoding: str, environment: Mapping[str, str]) -> Glyphs:
    """Returns signs that the encoding has, and the font: that of Linux's own console has few."""
    if environment.get("TERM") == "linux":
        return ASCII
    try:
        "".join(vars(UNICODE).values()).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return UNICODE


def view_for(stream: TextIO, mode: Mode, environment: Mapping[str, str]) -> View:
    """Returns the view that was asked for: living on a terminal that can draw, lines elsewhere."""
    if mode == "json":
        return JsonView(stream)
    if mode == "quiet":
        return QuietView(stream)
    glyphs = glyphs_for(stream.encoding, environment)
    if stream.isatty() and environment.get("TERM", "dumb") not in ("dumb", "unknown"):
        from pipeline.local.live_view import LiveView

        return LiveView(stream, glyphs, verbose=mode == "verbose")
    return PlainView(stream, glyphs, verbose=mode == "verbose")


class PlainView(View):
    """A line a stage, and under it what the stage's own code has to say."""

    def __init__(self, stream: TextIO, glyphs: Glyphs, verbose: bool = False):
        super().__init__(verbose)
        self._stream = stream
        self._glyphs = glyphs
        self._line_is_open = False
        self._number = 0
        self._count = 0

    def run_starts(self, recipe: str, workdir: str) -> None:
        self._print(f"Recipe {recipe}, work directory {workdir}")

    def stages_follow(self, names: Sequence[str]) -> None:
        self._count = len(names)

    def stage_starts(self, name: str) -> None:
        self._number += 1
        self._print(f"[{self._number}/{self._count}] {name} {self._glyphs.ellipsis}", end="")
        self._line_is_open = True

    def stage_says(self, text: str, level: int) -> None:
        self._close_line()
        lead = "WARNING  " if level >= logging.WARNING else ""
        self._print(_INDENT + (lead + text).replace("\n", f"\n{_INDENT}"))

    def training_goes_on(self, progress: TrainingProgress, text: str) -> None:
        self.stage_says(text, logging.INFO)

    def stage_ends(self, result: "StageResult") -> None:
        took = "cached" if result.cached else f"{result.seconds:.1f} s"
        self._print((" " if self._line_is_open else _INDENT) + took)
        self._line_is_open = False

    def run_ends(self, ending: Ending) -> None:
        self._close_line()
        for line in ending.lines:
            self._print(line.text)

    def _close_line(self) -> None:
        if self._line_is_open:
            self._print("")
            self._line_is_open = False

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self._stream, flush=True)


class QuietView(View):
    """What came out, and nothing before."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self._stream = stream

    def run_ends(self, ending: Ending) -> None:
        text = "\n".join(line.text for line in ending.lines)
        print(text.lstrip("\n"), file=self._stream, flush=True)


class JsonView(View):
    """A run for programs: one JSON object a line.

    Every object has ``event``:

    - ``stage_started``: ``stage``, ``number``, ``count``
    - ``progress``: ``stage`` and the fields of ``TrainingProgress``, after a phase's first step and each
      epoch
    - ``stage_finished``: ``stage``, ``seconds``, ``cached``, ``memory_mb``; a stage that fails never finishes
    - ``finished``: ``exit_code``, ``log``, ``summary`` as in ``summary.json``; always the last
    """

    def __init__(self, stream: TextIO):
        super().__init__()
        self._stream = stream
        self._stages: Sequence[str] = ()
        self._stage = ""

    def stages_follow(self, names: Sequence[str]) -> None:
        self._stages = names

    def stage_starts(self, name: str) -> None:
        self._stage = name
        number = self._stages.index(name) + 1
        self._write("stage_started", stage=name, number=number, count=len(self._stages))

    def training_goes_on(self, progress: TrainingProgress, text: str) -> None:
        self._write("progress", stage=self._stage, **asdict(progress))

    def stage_ends(self, result: "StageResult") -> None:
        self._write(
            "stage_finished",
            stage=result.name,
            seconds=round(result.seconds, 3),
            cached=result.cached,
            memory_mb=result.memory_mb,
        )

    def run_ends(self, ending: Ending) -> None:
        summary = ending.summary.model_dump(mode="json") if ending.summary else None
        self._write("finished", exit_code=ending.exit_code, log=str(ending.log), summary=summary)

    def _write(self, event: str, **values: Any) -> None:
        # ASCII alone: a file name may hold what no encoding can say, and JSON can say it nevertheless.
        print(json.dumps({"event": event, **values}), file=self._stream, flush=True)
