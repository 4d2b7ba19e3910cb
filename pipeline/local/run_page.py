"""Writes the page of a run that has ended: the Report stage's, or one of what is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.report.data import ReportData
from components.report.lineage import lineage
from components.report.page import write_page
from components.report.run_summary import RunSummary
from pipeline.config import Recipe
from pipeline.local.running_code import RunningCode
from pipeline.local.workdir import WorkDir

if TYPE_CHECKING:
    from tfx.types import Artifact


def write_report(
    summary: RunSummary,
    artifacts: Mapping[str, "Artifact"],
    recipe: Recipe,
    workdir: WorkDir,
    obstacle: str = "",
    code: RunningCode | None = None,
) -> Path:
    """Writes ``report.json`` and ``index.html`` into the run's folder, and the page once more as the newest.

    Args:
        summary: of the run.
        artifacts: those of the stages that are done, by output key.
        recipe: what was run.
        workdir: where to.
        obstacle: why the Report stage has left nothing; empty where it has, or had no turn.
        code: what the run began with; None where it came to nothing before that was known.

    Returns:
        The newest run's page, ``report/index.html``.

    Raises:
        OSError: it cannot be written.
    """
    if "report" in artifacts:
        data = ReportData.load(Path(artifacts["report"].uri))
    else:
        settings = recipe.model_dump(mode="json")
        data = ReportData.of(
            summary,
            artifacts,
            settings,
            recipe.dataset.label_set(),
            lineage(settings),
        )
    if code is not None:
        data = data.model_copy(update={"lineage": code.put_into(data.lineage)})
    ended_well = summary.verdict in ("pushed", "rejected") and not obstacle
    log = "" if ended_well else str(workdir.log(summary.run_id))
    data = data.model_copy(update={"summary": summary, "log": log, "obstacle": obstacle})
    past, newest = workdir.past(summary.run_id), workdir.report.parent
    for folder in (past, newest):
        folder.mkdir(parents=True, exist_ok=True)
    data.save(past)
    return write_page(data, newest, artifacts, past)
