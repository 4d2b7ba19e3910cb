"""Runs the stages of a recipe one by one, each in a process of its own, and notes time and peak memory."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FIRST_EPOCH = "first epoch of tf.data"
"""Not a stage of its own: what the Trainer's input pipeline does while the first epoch is read."""


@dataclass(frozen=True)
class Cost:
    """What a stage took, its imports and start-up excluded from the time but not from the memory."""

    stage: str
    seconds: float
    peak_bytes: int


def measure(
    arguments: Sequence[str], workdir: Path, stages: Iterable[str], cores: Sequence[int]
) -> dict[str, Cost]:
    """Runs ``stages`` in the order given, on the named cores only.

    Args:
        arguments: ``--recipe … --data … --set …`` as for ``pipeline.run_local``.
        workdir: where the run's artifacts go; a later call goes on where an earlier one stopped.
    """
    costs = {}
    for stage in stages:
        command = [sys.executable, "-m", "benchmarks.stages", str(workdir), stage, *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{stage} failed:\n{done.stderr[-4000:]}")
        costs[stage] = Cost(**json.loads(done.stdout.splitlines()[-1]))
    return costs


def _run_one(workdir: Path, wanted: str, arguments: list[str]) -> Cost:
    from pipeline.config import load_recipe
    from pipeline.create_pipeline import create_pipeline
    from pipeline.local.stages import stages_of

    name, data, *overrides = arguments
    recipe = load_recipe(name, data, overrides)
    workdir.mkdir(parents=True, exist_ok=True)
    if wanted == FIRST_EPOCH:
        return _read_once(workdir, recipe.transform.height, recipe.transform.width)
    pipeline = create_pipeline(
        recipe,
        recipe.run_parameters(str(workdir / "serving")),
        pipeline_name="benchmark",
        pipeline_root=str(workdir / "artifacts"),
        metadata_path=str(workdir / "metadata.sqlite"),
        checkpoint_dir=str(workdir / "checkpoints"),
    )
    stages = stages_of(pipeline, "benchmark", recipe.beam.pipeline_args())
    [stage] = [stage for stage in stages if stage.name == wanted]
    started = time.perf_counter()
    stage.run()
    return _cost(wanted, started)


def _read_once(workdir: Path, height: int, width: int) -> Cost:
    import tensorflow_transform as tft

    from components.imaging.reading import InputSize
    from components.trainer import data

    [graph] = (workdir / "artifacts" / "Transform" / "transform_graph").iterdir()
    files = [
        str(path)
        for split in ("train", "val")
        for path in sorted((workdir / "artifacts").glob(f"ImageMaskExampleGen/examples/*/Split-{split}/*"))
    ]
    started = time.perf_counter()
    data.count_examples(files)
    pairs = data.raw_pairs(files, tft.TFTransformOutput(str(graph)), InputSize(height, width, "stretch"), 3)
    for _ in pairs.batch(64):
        pass
    return _cost(FIRST_EPOCH, started)


def _cost(stage: str, started: float) -> Cost:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cost(stage, time.perf_counter() - started, peak)


if __name__ == "__main__":
    print(json.dumps(asdict(_run_one(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))))
