"""Views that only ever add lines: for pipes and files, for people who want no more than the end."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TextIO

from components.trainer.training_progress import TrainingProgress
from pipeline.views.glyphs import Glyphs
from pipeline.views.view import Ending, View

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult

_INDENT: Final = "      "


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
