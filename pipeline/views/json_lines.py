"""A run for programs: one JSON object a line.

Every object has ``event``:

- ``stage_started``: ``stage``, ``number``, ``count``
- ``progress``: ``stage`` and the fields of ``TrainingProgress``, once an epoch
- ``stage_finished``: ``stage``, ``seconds``, ``cached``, ``memory_mb``; a stage that fails never finishes
- ``finished``: ``exit_code``, ``log``, ``summary`` as in ``summary.json``; always the last
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from components.trainer.training_progress import TrainingProgress
from pipeline.views.view import Ending, View

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult


class JsonView(View):
    """Writes what happens as it happens."""

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
        self._write("finished", exit_code=ending.exit_code, log=str(ending.log), summary=ending.summary)

    def _write(self, event: str, **values: Any) -> None:
        # ASCII alone: a file name may hold what no encoding can say, and JSON can say it nevertheless.
        print(json.dumps({"event": event, **values}), file=self._stream, flush=True)
