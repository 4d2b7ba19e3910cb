"""The page of a run that has ended, whatever became of it: the Report stage's, or one of what is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.results import load_evaluation
from components.report.collect import (
    dataset,
    gate_checks,
    read_training,
    serving_check,
    unmeasured_classes,
)
from components.report.data import (
    Baseline,
    Census,
    Evaluation,
    Metric,
    Outcome,
    ReportData,
    Run,
    Slice,
    Split,
    Stage,
    Verdict,
)
from components.report.lineage import lineage
from components.report.page import write_page
from components.report.words import METRIC_NAMES
from pipeline.config import Recipe
from pipeline.workdir import WorkDir

if TYPE_CHECKING:
    from pipeline.local_runner import StageResult

_EVALUATION = ("Evaluator", "evaluation")
_INTERRUPTED = "interrupted in "


def write_report(
    summary: Mapping[str, Any],
    stages: Sequence["StageResult"],
    recipe: Recipe,
    workdir: WorkDir,
    run_id: str,
    obstacle: str = "",
) -> Path:
    """Writes ``report.json`` and ``index.html`` into the run's folder, and the page once more as the newest.

    Args:
        summary: of the run, as in ``summary.json``.
        stages: those that are done.
        recipe: what was run.
        workdir: where to.
        run_id: names the folder.
        obstacle: why the Report stage has left nothing; empty where it has, or had no turn.

    Returns:
        The newest run's page, ``report/index.html``.

    Raises:
        OSError: it cannot be written.
    """
    outputs = {
        (stage.name, key): Path(found[0].uri) for stage in stages for key, found in stage.outputs.items()
    }
    data = _of_stage(outputs) or _of_summary(summary, outputs, recipe)
    data = data.model_copy(
        update={
            "run": data.run.model_copy(update={"run_id": run_id, "finished": summary["finished_at"]}),
            "obstacle": obstacle,
            "verdict": _verdict(summary, workdir.log(run_id), obstacle),
            "stages": tuple(
                Stage(
                    name=stage["name"],
                    seconds=stage["seconds"],
                    cached=stage["cached"],
                    peak_memory_mb=stage["memory_mb"],
                )
                for stage in summary["stages"]
            ),
        }
    )
    past = workdir.past(run_id)
    past.mkdir(parents=True, exist_ok=True)
    data.save(past)
    write_page(data, past)
    newest = workdir.root / "report"
    newest.mkdir(exist_ok=True)
    return write_page(data, newest)


def _of_stage(outputs: Mapping[tuple[str, str], Path]) -> ReportData | None:
    report = outputs.get(("Report", "report"))
    return ReportData.load(report) if report else None


def _of_summary(
    summary: Mapping[str, Any], outputs: Mapping[tuple[str, str], Path], recipe: Recipe
) -> ReportData:
    """What is known of a run that did not come as far as its Report stage."""
    labels, settings = recipe.dataset.label_set(), recipe.model_dump(mode="json")
    model_run = outputs.get(("Trainer", "model_run"))
    examples = summary["examples"] or {}
    classes = unmeasured_classes(labels)
    if summary["metrics"]:
        found = summary["metrics"]["iou"]
        classes = tuple(each.model_copy(update={"iou": found[each.name]}) for each in classes)
    return ReportData(
        run=Run(recipe=recipe.name, description=recipe.description, model_name=recipe.serving.model_name),
        verdict=Verdict(outcome="failed"),
        classes=classes,
        evaluation=_evaluation(summary, outputs[_EVALUATION]) if summary["metrics"] else None,
        training=read_training(model_run) if model_run else None,
        dataset=dataset(
            summary["rejected_files"],
            Census(
                splits=tuple(
                    Split(name=name, examples=count) for name, count in examples.items() if name != "rejected"
                )
            ),
        ),
        serving_check=serving_check(summary["serving_check"]) if summary["serving_check"] else None,
        recipe=settings,
        lineage=lineage(settings),
    )


def _evaluation(summary: Mapping[str, Any], evaluation: Path) -> Evaluation:
    metrics, baseline = summary["metrics"], summary["baseline"]
    other = (baseline and baseline["metrics"]) or {}
    result = load_evaluation(str(evaluation), str(baseline["version"]) if other else "")
    return Evaluation(
        metrics=tuple(Metric(key=key, value=metrics[key], baseline=other.get(key)) for key in METRIC_NAMES),
        examples=metrics["examples"],
        baseline=Baseline(version=baseline["version"], obstacle=baseline["obstacle"] or "")
        if baseline
        else None,
        checks=gate_checks(result),
        confusion=tuple(map(tuple, result.confusion_matrix.tolist())),
        slices=tuple(Slice(name=name, mean_iou=value) for name, value in summary["slices"].items()),
    )


def _verdict(summary: Mapping[str, Any], log: Path, obstacle: str) -> Verdict:
    outcome: Outcome = summary["outcome"]
    reasons: list[str] = summary["reasons"]
    if outcome == "failed" and reasons and reasons[0].startswith(_INTERRUPTED):
        outcome = "interrupted"
    return Verdict(
        outcome=outcome,
        reasons=tuple(reasons),
        version=summary["pushed_version"],
        pushed_now=summary["pushed_now"],
        serving_dir=summary["serving_dir"],
        log=str(log) if obstacle or outcome in ("failed", "interrupted") else "",
    )
