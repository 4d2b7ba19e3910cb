"""What every view of a run is told."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from components.report.run_summary import RunSummary
from components.trainer.progress import RECORD_ATTRIBUTE, TrainingProgress

if TYPE_CHECKING:
    from pipeline.local.stages import StageResult

_STAGES: Final = "components"
"""The logger that the stages' own loggers descend from."""


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
