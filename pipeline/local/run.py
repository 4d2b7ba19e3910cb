"""One run of a recipe in a work directory, whatever comes of it summed up and reported."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from components.imports import ONLY_FOR_OTHERS, OPTIONAL_TO_KERAS, postpone_init, quick_imports
from components.report.run_summary import INTERRUPTED, RunSummary, Stage, summarize
from pipeline.config import Recipe
from pipeline.failures import explain_failure, rejected_files
from pipeline.interrupt import Interrupt
from pipeline.local.running_code import RunningCode
from pipeline.local.views import View
from pipeline.local.workdir import WorkDir

if TYPE_CHECKING:
    from tfx.types import Artifact

    from pipeline.local.stages import StageResult

_REPORT: Final = "Report"
"""The stage that makes the page. It is the last one: whether a model was pushed is decided before it."""

_DRAWN: Final = 4
"""Pictures to ask a model of the drawn dataset for."""

logger = logging.getLogger(__name__)


def new_run_id() -> str:
    """Returns an id that no other run of a work directory has: the local time, as people look for it."""
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")


def import_tfx() -> None:
    """Imports what composing a pipeline and looking for cached answers take, and no more.

    What a stage needs besides is imported where it has something to execute.
    """
    with quick_imports(*OPTIONAL_TO_KERAS, *ONLY_FOR_OTHERS):
        # All components of TFX, with Kubernetes' client and Keras's tuner: needed by none of ours.
        postpone_init("tfx.components")
        # A second of statistics and of metrics for texts, and only the Evaluator's executor needs it.
        postpone_init("tensorflow_model_analysis")
        import pipeline.create_pipeline
        import pipeline.local.stages  # noqa: F401


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    summary: RunSummary
    interrupted: bool
    """Before it was decided what comes of it; the summary's only reason says where."""
    report_obstacle: str | None
    """Why there is no page, or none but what the summary says; None if all is well with it."""
    kept: bool = True
    """Whether ``summary.json`` is this run's."""


class LocalRun:
    """Runs every stage of a recipe's pipeline; sums up and reports, also when a stage fails."""

    def __init__(self, recipe: Recipe, workdir: WorkDir, run_id: str, view: View, interrupt: Interrupt):
        self._recipe = recipe
        self._workdir = workdir
        self._run_id = run_id
        self._view = view
        self._interrupt = interrupt
        self._doing = "Starting"
        self._done: list[StageResult] = []
        self._code: RunningCode | None = None
        self._started_at = datetime.now().astimezone()
        self._clock = time.monotonic()
        self._kept = True

    def run(self) -> Ended:
        """Returns when nothing is left to do; only a summing up that is interrupted ends otherwise.

        Raises:
            KeyboardInterrupt: there is no summary.
        """
        failure: str | None = None
        rejected: Sequence[Mapping[str, Any]] = ()
        try:
            self._run_stages()
        except (Exception, KeyboardInterrupt) as error:
            logger.exception("%s did not finish", self._doing)
            if self._interrupt.received:
                failure = f"{INTERRUPTED}{self._doing}"
            else:
                failure = f"{self._doing} failed: {self._explain(error)}"
            rejected = rejected_files(error)
        self._view.stages_are_over()
        obstacle, interrupted = None, self._interrupt.received
        if self._doing == _REPORT:
            # Pushed is pushed and refused is refused, whatever becomes of the page.
            reported = any(stage.name == _REPORT for stage in self._done)
            failure, obstacle, interrupted = None, None if reported else failure, False
        summary, obstacle = self._report(self._sum_up(failure, rejected), obstacle)
        if summary.outcome == "pushed" and self._recipe.dataset.root is None:
            self._draw_pictures()
        return Ended(summary, interrupted, obstacle, self._kept)

    def _sum_up(self, failure: str | None, rejected: Sequence[Mapping[str, Any]]) -> RunSummary:
        try:
            summary = self._summary(self._artifacts, failure, rejected)
        except Exception as error:
            logger.exception("Summing up did not finish")
            failure = failure or f"Summing up failed: {self._explain(error)}"
            # Without the files of the artifacts, one of which may be what cannot be read. What is served by
            # now is in properties alone, and must be told of.
            known = {key: found for key, found in self._artifacts.items() if key == "pushed_model"}
            summary = self._summary(known, failure, rejected)
        try:
            self._workdir.keep(summary)
        except OSError as error:
            logger.exception("The summary was not written")
            self._kept = False
            if failure is None:
                # Who reads the file finds an earlier run's there, and must not take it for this one's.
                reasons = (f"Summing up failed: {self._explain(error)}",)
                summary = summary.model_copy(update={"outcome": "failed", "reasons": reasons})
        return summary

    def _explain(self, error: BaseException) -> str:
        workdir = self._workdir
        return explain_failure(
            error,
            (workdir.root, workdir.artifacts, workdir.checkpoints, workdir.serving(""), workdir.history),
        )

    @property
    def _artifacts(self) -> dict[str, "Artifact"]:
        """What the stages that are done have left, by output key."""
        return {key: found[0] for stage in self._done for key, found in stage.outputs.items() if found}

    def _summary(
        self,
        artifacts: Mapping[str, "Artifact"],
        failure: str | None,
        rejected: Sequence[Mapping[str, Any]],
    ) -> RunSummary:
        model_name = self._recipe.serving.model_name
        return summarize(
            artifacts,
            recipe=self._recipe.name,
            run_id=self._run_id,
            model_name=model_name,
            serving_dir=str(self._workdir.serving(model_name)),
            failure=failure,
            rejected_files=rejected,
            stages=[
                Stage(
                    name=stage.name,
                    seconds=round(stage.seconds, 3),
                    cached=stage.cached,
                    memory_mb=stage.memory_mb,
                )
                for stage in self._done
            ],
            started_at=self._started_at,
            seconds=time.monotonic() - self._clock,
        )

    def _report(self, summary: RunSummary, obstacle: str | None = None) -> tuple[RunSummary, str | None]:
        """Writes the report; returns the summary with its path, and why not, where it cannot.

        The run is over: neither a fault nor an interrupt in here changes what has come of it. ``obstacle``
        is why the Report stage has left nothing, where it had its turn.
        """
        try:
            # As late as this: a fault in there is no reason not to train.
            from pipeline.local.run_page import write_report

            report = write_report(
                summary, self._artifacts, self._recipe, self._workdir, obstacle or "", self._code
            )
            reported = summary.model_copy(update={"report": str(report)})
            self._workdir.keep(reported)
            self._kept = True
        except KeyboardInterrupt:
            logger.info("interrupted while the report was being written")
            return summary, "interrupted while it was being written"
        except Exception as error:
            logger.exception("The report was not finished")
            return summary, self._explain(error)
        return reported, obstacle

    def _draw_pictures(self) -> None:
        """Draws pictures that the model has not seen: of anybody's own it would know nothing.

        The run is over: without them the last lines ask for an image.
        """
        from components.image_mask_example_gen.shapes import draw_unseen

        try:
            draw_unseen(self._workdir.drawn, self._recipe.dataset.shapes, _DRAWN)
        except (Exception, KeyboardInterrupt):
            logger.exception("No pictures to ask the model for were drawn")
            shutil.rmtree(self._workdir.drawn, ignore_errors=True)

    def _run_stages(self) -> None:
        # Before what it is about is imported.
        self._code = RunningCode()
        # Seconds of imports, needed by nothing that comes before.
        import_tfx()
        from pipeline.create_pipeline import create_pipeline
        from pipeline.local.stages import fail_abandoned_executions, stages_of

        fail_abandoned_executions(self._workdir.metadata, self._workdir.artifacts)
        pipeline = create_pipeline(
            self._recipe,
            self._recipe.run_parameters(str(self._workdir.serving(self._recipe.serving.model_name))),
            pipeline_name=self._recipe.name,
            pipeline_root=str(self._workdir.artifacts),
            metadata_path=str(self._workdir.metadata),
            checkpoint_dir=str(self._workdir.checkpoints),
        )
        stages = stages_of(pipeline, self._run_id, self._recipe.beam_args, self._code)
        self._view.stages_follow([stage.name for stage in stages])
        for stage in stages:
            self._doing = stage.name
            self._view.stage_starts(stage.name)
            result = stage.run()
            self._done.append(result)
            self._view.stage_ends(result)
            if self._interrupt.received:
                raise KeyboardInterrupt
        self._doing = "Summing up"
