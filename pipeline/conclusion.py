"""The last lines on the terminal: what came out, where it is, and what to do next."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.terminal import short_path
from pipeline.workdir import WorkDir


def conclude(summary: Mapping[str, Any], recipe: Recipe, workdir: WorkDir, log: Path) -> Iterator[str]:
    """Yields the lines that end a run that was not interrupted."""
    yield ""
    if summary["metrics"]:
        yield from _metrics_lines(summary["metrics"], summary["slices"], summary["baseline"])
    if summary["serving_check"]:
        yield from _serving_lines(summary["serving_check"])
    match summary["outcome"]:
        case "pushed":
            yield from _pushed_lines(summary, recipe)
        case "rejected":
            yield "Refused, nothing was pushed:"
            yield from (f"  {reason}" for reason in summary["reasons"])
            yield from _next_after_refusal(summary)
        case "failed":
            yield from summary["reasons"]
            yield f"All details are in {short_path(log)}; run the same command again to go on from there."
    yield f"Summary: {short_path(workdir.summary)}"


def _metrics_lines(
    metrics: Mapping[str, Any], slices: Mapping[str, float | None], baseline: Mapping[str, Any] | None
) -> Iterator[str]:
    yield (
        f"On {metrics['examples']} test images at their original resolution: "
        f"mean IoU {_figure(metrics['mean_iou'])}, mean Dice {_figure(metrics['mean_dice'])}, "
        f"pixel accuracy {_figure(metrics['pixel_accuracy'])}"
    )
    if baseline and baseline["metrics"]:
        served = _figure(baseline["metrics"]["mean_iou"])
        yield f"  version {baseline['version']}, served before this run: mean IoU {served}"
    elif baseline:
        obstacle = baseline["obstacle"]
        yield f"  not compared with version {baseline['version']}, which was being served: {obstacle}"
    width = max(map(len, metrics["iou"]))
    yield from (f"  IoU of {name:{width}}  {_figure(iou)}" for name, iou in metrics["iou"].items())
    yield from (f"  mean IoU where {name}  {_figure(iou)}" for name, iou in slices.items())


def _serving_lines(check: Mapping[str, Any]) -> Iterator[str]:
    latency, memory = check["latency_ms"], check["memory_mb"]
    if latency and memory:
        yield (
            f"Served by the {check['server']} server, ready after {check['load_seconds']:.1f} s: "
            f"{latency['p50']:.1f} ms an image (p99 {latency['p99']:.1f}), up to {memory['peak']:.0f} MB"
        )


def _next_after_refusal(summary: Mapping[str, Any]) -> Iterator[str]:
    check = summary["serving_check"]
    if check and check["reasons"]:
        yield "Next: mend what is said above; the model's quality was good enough."
    else:
        yield "Next: mend what is said above; more data or epochs (--set training.epochs=N) may help."


def _pushed_lines(summary: Mapping[str, Any], recipe: Recipe) -> Iterator[str]:
    version = summary["pushed_version"]
    model = short_path(Path(summary["serving_dir"], str(version)))
    if summary["pushed_now"]:
        yield f"Pushed version {version}: {model}"
    elif all(stage["cached"] for stage in summary["stages"]):
        yield f"Nothing has changed, version {version} stays: {model}"
    else:
        yield f"This model is already served as version {version}, nothing was copied: {model}"
    python, name = short_path(Path(sys.executable)), summary["model_name"]
    base = short_path(Path(summary["serving_dir"]))
    yield "Next: serve it, and ask it for masks:"
    yield f"  {python} -m pipeline.serve --model_name {name} --model_base_path {base}"
    asking = f"--server localhost:8500 --model {name} --output masks --overlay"
    yield f"  {python} -m pipeline.predict IMAGE {asking}"
    if recipe.dataset.root is None:
        yield "Or: your own images and masks, see README.md:"
        yield f"  {python} -m pipeline.run_local --recipe FILE.yaml --data DIR"
    else:
        yield "Or: change the data or a setting and run the command again; what has not changed is reused."


def _figure(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"
