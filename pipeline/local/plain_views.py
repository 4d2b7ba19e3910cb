"""Views that only ever add lines: for pipes and files, for programs, for people who want the end alone.

Which view a run is shown in is decided here, too; the living one is imported where a terminal can draw.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from components.trainer.progress import TrainingProgress
from pipeline.local.view import Ending, Glyphs, View, glyphs_for

if TYPE_CHECKING:
    from pipeline.local.stages import StageResult

Mode = Literal["normal", "quiet", "verbose", "json"]

_INDENT: Final = "      "


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
    - ``progress``: ``stage`` and the fields of ``TrainingProgress``, once an epoch
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
