"""Runs ``python -m pipeline.run_local`` with toy stages in place of the real pipeline, and a toy report."""

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from components.errors import StageError
from components.report.run_summary import RunSummary
from pipeline.config import Recipe
from pipeline.local.workdir import WorkDir


def stand_ins() -> dict[str, ModuleType]:
    """Returns what to put in ``sys.modules``."""
    pipeline, reporting = ModuleType("pipeline.create_pipeline"), ModuleType("pipeline.local.run_page")
    pipeline.create_pipeline = _create_pipeline  # type: ignore[attr-defined]
    reporting.write_report = _write_report  # type: ignore[attr-defined]
    return {module.__name__: module for module in (pipeline, reporting)}


def _create_pipeline(*args: Any, **kwargs: Any) -> Any:
    # Imported as late as the real pipeline is, so that nothing is printed earlier than there.
    from toy_stages import create_pipeline

    return create_pipeline(*args, **kwargs)


def _write_report(
    summary: RunSummary,
    artifacts: Mapping[str, Any],
    recipe: Recipe,
    workdir: WorkDir,
    obstacle: str,
    *_: Any,
) -> Path:
    match os.environ.get("TOY_REPORT"):
        case "fails":
            raise StageError("the page has no ink")
        case "interrupted":
            os.kill(os.getpid(), 2)
    for page in (workdir.past(summary.run_id) / "index.html", workdir.report):
        page.parent.mkdir(exist_ok=True)
        page.write_text(
            f"{summary.outcome} after {', '.join(stage.name for stage in summary.stages)}{obstacle}"
        )
    return workdir.report


if __name__ == "__main__":
    sys.modules.update(stand_ins())
    runpy.run_module("pipeline.run_local", run_name="__main__", alter_sys=True)
