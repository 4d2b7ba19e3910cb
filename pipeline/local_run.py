"""One run of a recipe in a work directory, whatever comes of it summed up."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.config import Recipe
from pipeline.failures import explain_failure, rejected_files
from pipeline.interrupt import Interrupt
from pipeline.summary import build_summary, write_summary
from pipeline.terminal import Terminal
from pipeline.workdir import WorkDir

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult

logger = logging.getLogger(__name__)


def new_run_id() -> str:
    """Returns an id that no other run of a work directory has; ids sort by time."""
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")


class LocalRun:
    """Runs every stage of a recipe's pipeline and writes ``summary.json``, also when a stage fails."""

    def __init__(
        self, recipe: Recipe, workdir: WorkDir, run_id: str, terminal: Terminal, interrupt: Interrupt
    ):
        self._recipe = recipe
        self._workdir = workdir
        self._run_id = run_id
        self._terminal = terminal
        self._interrupt = interrupt
        self._doing = "Starting"
        self._done: list[StageResult] = []

    def run(self) -> dict[str, Any]:
        """Returns the summary.

        Raises:
            KeyboardInterrupt: after writing the summary; its text says where the run was.
        """
        failure: str | None = None
        rejected: Sequence[Mapping[str, Any]] = ()
        try:
            with self._terminal.showing("components"):
                self._run_stages()
        except (Exception, KeyboardInterrupt) as error:
            logger.exception("%s did not finish", self._doing)
            if self._interrupt.received:
                failure = f"interrupted in {self._doing}"
            else:
                failure = f"{self._doing} failed: {explain_failure(error)}"
            rejected = rejected_files(error)
        summary = self._sum_up(failure, rejected)
        if self._interrupt.received:
            raise KeyboardInterrupt(failure)
        return summary

    def _sum_up(self, failure: str | None, rejected: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        serving_dir = self._workdir.serving(self._recipe.serving.model_name)
        try:
            summary = build_summary(self._recipe, self._run_id, serving_dir, self._done, failure, rejected)
            write_summary(summary, self._workdir.summary)
        except Exception as error:
            logger.exception("Summing up did not finish")
            failure = failure or f"Summing up failed: {explain_failure(error)}"
            # Without the artifacts, one of which may be what cannot be read.
            stages = [replace(stage, outputs={}) for stage in self._done]
            summary = build_summary(self._recipe, self._run_id, serving_dir, stages, failure, rejected)
            with suppress(OSError):
                write_summary(summary, self._workdir.summary)
        return summary

    def _run_stages(self) -> None:
        # Seconds of imports, needed by nothing that comes before.
        from pipeline.create_pipeline import create_pipeline
        from pipeline.local_runner import stages_of
        from pipeline.parameters import RunParameters

        pipeline = create_pipeline(
            self._recipe,
            RunParameters.of(self._recipe, str(self._workdir.serving(self._recipe.serving.model_name))),
            pipeline_name=self._recipe.name,
            pipeline_root=str(self._workdir.artifacts),
            metadata_path=str(self._workdir.metadata),
            checkpoint_dir=str(self._workdir.checkpoints),
        )
        stages = stages_of(pipeline, self._run_id, self._recipe.beam.pipeline_args())
        for number, stage in enumerate(stages, start=1):
            self._doing = stage.name
            self._terminal.stage_starts(number, len(stages), stage.name)
            result = stage.run()
            self._done.append(result)
            self._terminal.stage_ends(result.seconds, result.cached)
            if self._interrupt.received:
                raise KeyboardInterrupt
        self._doing = "Summing up"
