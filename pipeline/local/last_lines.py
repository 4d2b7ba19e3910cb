"""The last lines of a run on the terminal: what came out, where it is, and what to do next."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from components.dataset.contracts import (
    NO_TEST_PIXEL,
    TOO_SMALL,
    Baseline,
    Ceiling,
    Metrics,
    ServingCheck,
    of_at_most,
)
from components.report.run_summary import RunSummary
from pipeline.config import Recipe
from pipeline.local.run import Ended
from pipeline.local.views import Line, Tone
from pipeline.local.workdir import WorkDir
from pipeline.terminal import short_path


def last_lines(ended: Ended, recipe: Recipe, workdir: WorkDir, log: Path) -> Iterator[Line]:
    """Yields the lines that end a run: what happened, where things are, what to type next."""
    summary = ended.summary
    if ended.interrupted:
        yield Line(f"{summary.reasons[0]}; run the same command again to go on from there", Tone.WARNING)
        if summary.pushed_now:
            yield _pushed_line(summary)
        yield from _places(ended, workdir, log)
        return
    yield Line("")
    yield from map(Line, result_lines(summary))
    match summary.outcome:
        case "pushed":
            if untrained := ", ".join(summary.untrained_classes):
                yield Line(f"Not learnt, as no training image shows it: {untrained}", Tone.WARNING)
            yield _pushed_line(summary)
        case "rejected":
            yield Line("Refused, nothing was pushed:", Tone.BAD)
            yield from (Line(f"  {reason}") for reason in summary.reasons)
        case "failed":
            yield from (Line(reason, Tone.BAD) for reason in summary.reasons)
            if summary.pushed_now:
                yield _pushed_line(summary)
    yield Line("")
    yield from _places(ended, workdir, log)
    yield Line("")
    yield from (Line(text, copied=_is_command(text)) for text in _next_lines(summary, recipe, workdir))


def result_lines(summary: RunSummary) -> Iterator[str]:
    """Yields what a run measured, as far as it came: of the model's quality, and of its being served."""
    if summary.metrics:
        yield from _metrics_lines(summary.metrics, summary.baseline, summary.ceiling)
        ceilings = summary.ceiling.slices if summary.ceiling else {}
        for name, iou in summary.slices.items():
            yield f"  mean IoU where {name}  {_of(iou, ceilings.get(name))}"
    if summary.serving_check:
        yield from _serving_lines(summary.serving_check)


def _metrics_lines(metrics: Metrics, baseline: Baseline | None, ceiling: Ceiling | None) -> Iterator[str]:
    # NumPy, which neither --help nor a list of runs should wait for.
    from components.metrics.table import MEAN_IOU, METRICS

    yield f"On {metrics.examples} test images at their original resolution:"
    shown = [metric for metric in METRICS if metric.on_terminal and metric.name in metrics]
    most = {MEAN_IOU.name: ceiling.mean_iou if ceiling else None}
    figures = (f"{metric.label} {_of(metrics[metric.name], most.get(metric.name))}" for metric in shown)
    yield f"  {', '.join(figures)}"
    if baseline and baseline.metrics:
        served = _figure(baseline.metrics.get(MEAN_IOU.name))
        yield f"  version {baseline.version}, served before this run: {MEAN_IOU.label} {served}"
    elif baseline:
        obstacle = baseline.obstacle
        yield f"  not compared with version {baseline.version}, which was being served: {obstacle}"
    width = max(map(len, metrics.iou))
    ceilings = ceiling.iou if ceiling else {}
    for name, iou in metrics.iou.items():
        yield f"  IoU of {name:{width}}  {_of(iou, ceilings.get(name))}"


def _serving_lines(check: ServingCheck) -> Iterator[str]:
    if check.measured:
        yield f"Served by the {check.server} server, ready after {check.load_seconds:.1f} s: {check.measured}"


def _pushed_line(summary: RunSummary) -> Line:
    version = summary.pushed_version
    if summary.pushed_now:
        said = f"Pushed version {version}"
    # Another commit is another report, and no other model.
    elif all(stage.cached for stage in summary.stages if stage.name != "Report"):
        said = f"Nothing has changed, version {version} stays"
    else:
        said = f"This model is already served as version {version}, nothing was copied"
    model = short_path(Path(summary.serving_dir, str(version)))
    return Line(f"{said}: {model}", Tone.GOOD, copied=True)


def _places(ended: Ended, workdir: WorkDir, log: Path) -> Iterator[Line]:
    report, obstacle = ended.summary.report, ended.report_obstacle
    if report and obstacle:
        yield Line(f"The report holds only what the summary says: {obstacle}", Tone.WARNING)
    elif obstacle:
        yield Line(f"No report: {obstacle}", Tone.WARNING)
    if report:
        yield Line(f"Report:  {short_path(Path(report))}", copied=True)
    if ended.kept:
        yield Line(f"Summary: {short_path(workdir.summary)}", copied=True)
    yield Line(f"Log:     {short_path(log)}", copied=True)


def _next_lines(summary: RunSummary, recipe: Recipe, workdir: WorkDir) -> Iterator[str]:
    match summary.outcome:
        case "failed":
            yield "Next: mend what is said above and run the same command again; it goes on from there."
        case "rejected":
            check = summary.serving_check
            if check and check.reasons:
                yield "Next: mend what is said above; the model's quality was good enough."
            elif untrained := _untrained(summary, recipe):
                yield (
                    f"Next: give the training split images of {', '.join(untrained)}; "
                    "it shows none, and more epochs cannot make up for that."
                )
            elif all(reason.startswith(NO_TEST_PIXEL) for reason in summary.reasons):
                yield "Next: mend what is said above; where it could be measured, the model was good enough."
            elif any(TOO_SMALL in reason for reason in summary.reasons):
                yield "Next: mend what is said above; more data or epochs alone cannot."
            else:
                yield "Next: mend what is said above; more data or epochs (--set training.epochs=N) may help."
        case "pushed":
            yield from _next_after_push(summary, recipe, workdir)


def _untrained(summary: RunSummary, recipe: Recipe) -> list[str]:
    allowed = recipe.evaluation.allow_unmeasured_classes
    return [name for name in summary.untrained_classes if name not in allowed]


def _next_after_push(summary: RunSummary, recipe: Recipe, workdir: WorkDir) -> Iterator[str]:
    python, name = shlex.quote(short_path(Path(sys.executable))), summary.model_name
    base = shlex.quote(short_path(Path(summary.serving_dir)))
    yield "Next: serve it, and ask it for masks:"
    yield f"  {python} -m pipeline.serve --model_name {name} --model_base_path {base}"
    asking = f"--server localhost:8500 --model {name} --output masks --overlay"
    is_drawn = recipe.dataset.root is None
    images = shlex.quote(short_path(workdir.drawn)) if is_drawn and workdir.drawn.is_dir() else "IMAGE"
    yield f"  {python} -m pipeline.predict {images} {asking}"
    if is_drawn:
        yield "Or: your own images and masks, see README.md:"
        yield f"  {python} -m pipeline.run_local --recipe FILE.yaml --data DIR"
    else:
        yield "Or: change the data or a setting and run the command again; what has not changed is reused."


def _is_command(text: str) -> bool:
    return text.startswith("  ")


def _of(value: float | None, ceiling: float | None) -> str:
    """An IoU, and what the resize leaves of it at most where that is much less than all."""
    return f"{_figure(value)} {of_at_most(value, ceiling)}".rstrip()


def _figure(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"
