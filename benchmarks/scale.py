"""What grows with a dataset's size and with Beam's workers in the ingestion, counted rather than timed.

    python -m benchmarks.scale [--pairs 1000 10000] [--workers 1 2 4]

For each number of workers, how many pairs each of them read, and how many bytes went from one of Beam's steps
to another: none of the names or pictures. For each number of pairs, the peak memory of the process, in which
the runner, its workers and the plan are one; what reads masks beside it is not in that. And what a stage
costs before its first pair, in a process of its own. The pictures are small, so that what is left is what
names cost, and differ: of those that are the same in several splits each is remembered.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from pipeline.command_line import command_parser

SIDE = 32


@dataclass
class Counts:
    """What one ingestion did."""

    pairs_by_worker: list[int]
    shuffled_bytes: int
    """Sent from one of Beam's steps to another."""
    written_bytes: int
    """The Examples."""
    imports: float
    """Seconds of processor time until the stage could begin; what follows is likewise."""
    planned: float
    ingested: float
    peak_bytes: int = 0


def draw_pairs(folder: Path, pairs: int) -> None:
    """Fills ``images`` with pictures of noise, and ``masks`` with links to one mask."""
    rng = np.random.default_rng(0)
    mask = folder / "one.png"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    Image.fromarray(rng.integers(0, 2, (SIDE, SIDE), np.uint8)).save(mask)
    for number in range(pairs):
        picture = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        picture.save(folder / f"images/photograph_{number:07}.jpg")
        (folder / f"masks/photograph_{number:07}.png").symlink_to(mask)


def ingest(folder: Path, out: Path, workers: int) -> Counts:
    """Runs the stage's executor on a folder of `draw_pairs`, and counts."""
    begun = _processor_seconds()
    from tfx.types import standard_artifacts

    from components.dataset.artifacts import IngestionReportArtifact
    from components.image_mask_example_gen.component import ImageMaskExampleGen
    from components.image_mask_example_gen.config import DatasetConfig
    from components.image_mask_example_gen.executor import Executor
    from components.image_mask_example_gen.plan import Plan, plan_ingestion
    from pipeline.beam_config import BeamConfig

    imported = _processor_seconds()
    planned = imported

    def plan(config: DatasetConfig, root: Path) -> Plan:
        nonlocal planned
        made = plan_ingestion(config, root)
        planned = _processor_seconds()
        return made

    dataset = DatasetConfig(
        layout="folder", root=str(folder), images="images/*.jpg", masks="masks/*.png", classes=("a", "b")
    )
    component = ImageMaskExampleGen(dataset, dataset.label_set(), str(folder))
    artifacts = {"examples": standard_artifacts.Examples(), "ingestion": IngestionReportArtifact()}
    for name, artifact in artifacts.items():
        artifact.uri = str(out / name)
        (out / name).mkdir(parents=True)
    args = BeamConfig(workers=workers).pipeline_args()
    context = Executor.Context(beam_pipeline_args=args, tmp_dir=str(out / "tmp"))
    with _counting() as (pairs, shuffled):
        Executor(context, plan).Do(
            {}, {name: [artifact] for name, artifact in artifacts.items()}, dict(component.exec_properties)
        )
    return Counts(
        sorted(pairs.values(), reverse=True),
        shuffled.total(),
        sum(file.stat().st_size for file in out.glob("examples/*/*")),
        imported - begun,
        planned - imported,
        _processor_seconds() - planned,
    )


def _processor_seconds() -> float:
    """Of this process, and of those that it has started and that have ended."""
    return sum(os.times()[:4])


@contextmanager
def _counting() -> Iterator[tuple[Counter[Any], Counter[str]]]:
    """Counts pairs by the DoFn that reads them, one a worker, and bytes by the buffer between steps."""
    from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer, ListBuffer

    from components.image_mask_example_gen.executor import WriteShard

    pairs: Counter[Any] = Counter()
    shuffled: Counter[str] = Counter()
    write = WriteShard.write

    def counted_write(self: WriteShard, shard: Any, *masks: Any) -> None:
        pairs[self] += len(shard.entries)
        write(self, shard, *masks)

    def appending(kind: type) -> Any:
        append = kind.append  # type: ignore[attr-defined]

        def counted(self: Any, data: bytes) -> None:
            shuffled[kind.__name__] += len(data)
            append(self, data)

        return patch.object(kind, "append", counted)

    with patch.object(WriteShard, "write", counted_write), appending(GroupingBuffer), appending(ListBuffer):
        yield pairs, shuffled


def measure(folder: Path, workers: int) -> Counts:
    """Does `ingest` in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(folder), out, str(workers)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"the ingestion of {folder} ended with {child.returncode}")
    return Counts(**{**json.loads(said.splitlines()[-1]), "peak_bytes": used.ru_maxrss * 1024})


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser("benchmarks.scale", __doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        folder, out, workers = args.one
        print(json.dumps(asdict(ingest(Path(folder), Path(out), int(workers)))))
        return
    print("  pairs  workers  start  plan    ms/pair  peak      sent/pair  written/pair  pairs of each worker")
    # More pairs with the first number of workers alone: what differs with these is seen before.
    runs = [(args.pairs[0], workers) for workers in args.workers]
    for pairs, workers in [*runs, *((pairs, args.workers[0]) for pairs in args.pairs[1:])]:
        with tempfile.TemporaryDirectory() as directory:
            draw_pairs(Path(directory), pairs)
            print(row(pairs, workers, measure(Path(directory), workers)), flush=True)


def row(pairs: int, workers: int, counts: Counts) -> str:
    """Returns a line of the table; times are processor time."""
    return (
        f"{pairs:7}  {workers:7}  {counts.imports:4.1f} s  {counts.planned:4.1f} s  "
        f"{counts.ingested / pairs * 1e3:7.2f}  {counts.peak_bytes / 1e6:5.0f} MB  "
        f"{counts.shuffled_bytes / pairs:7.0f} B  {counts.written_bytes / pairs:10.0f} B  "
        f"{' '.join(map(str, counts.pairs_by_worker))}"
    )


if __name__ == "__main__":
    main()
