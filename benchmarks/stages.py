"""What an image costs in each stage of a run, against bare loops that do as much, and the memory it takes.

    python -m benchmarks.stages PETS_DIRECTORY [--sizes 600 6000] [--cores 1 2] [--rounds 1] [--to_pixels]

The Oxford-IIIT Pets are repeated under other names, as links, a quarter of them for testing. What an image
costs is the difference between the largest and the smallest dataset over the difference in images, so that
start-up does not count; with one size, all of it over the images. Processor time is that of all threads, and
says how fast a stage could be at best, were no core ever to wait but where there is work for one thread only.
Memory is a stage's highest, size by size. The network is tiny: it costs next to nothing beside what brings
images to it and masks from it. Each is measured ``--rounds`` times, of which the median counts;
``--to_pixels`` ends before the Trainer.

How much faster several cores can be than one, bare loops show that share nothing, one on each core at once.

Rows come as they are measured. Where a stage fails those behind it are left out, and the exit status is 1.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.one_stage import (
    BARE_EVALUATION,
    BARE_INPUT,
    KERAS_INPUT,
    PLANNING,
    TRAINER_INPUT,
    Cost,
    NotMeasuredError,
    measure,
)
from benchmarks.repeated_pets import PICTURE, repeat_pets
from pipeline.command_line import command_parser

_TO_PIXELS: Final = (
    "ImageMaskExampleGen",
    "StatisticsGen",
    "CuratedSchema",
    "ExampleValidator",
    "Transform",
    TRAINER_INPUT,
)
"""The way from the files to the pixels that the Trainer reads."""
_ONE_THREAD: Final = (PLANNING, "StatisticsGen", "CuratedSchema", "ExampleValidator", "Transform")
"""What of it a second core is of no use to."""
_BEHIND: Final = ("Trainer", "Baseline", BARE_EVALUATION, "Evaluator", "ServingCheck", "Pusher", "Report")
_TESTED: Final = (BARE_EVALUATION, "Evaluator")
"""What costs time by test images; the others by all."""
_TEST_SHARE: Final = 4
_SETTINGS: Final = (
    "transform.height=128",
    "transform.width=128",
    "model.filters=2",
    "model.depth=2",
    "training.epochs=1",
    f"dataset.splits.group={PICTURE}",
    # What is kept in memory would grow with the images, by intention.
    "training.cache_bytes=0",
    "evaluation.min_mean_iou=0.0",
    "evaluation.allow_unmeasured_classes=[pet,background,border]",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.stages", __doc__)
    parser.add_argument("pets", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=(600, 6000))
    parser.add_argument("--cores", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--to_pixels", action="store_true")
    args = parser.parse_args(argv)
    sizes = sorted(args.sizes)
    complete = True
    with tempfile.TemporaryDirectory() as root:
        for size in sizes:
            repeat_pets(args.pets, Path(root, f"pets-{size}"), size, test=size // _TEST_SHARE)
        bare = _row(BARE_INPUT, Path(root), sizes, 1, args.rounds).clock
        for cores in args.cores:
            if cores > 1:
                apart = _row(BARE_INPUT, Path(root), sizes, cores, args.rounds, apart=True).clock
                print(f"{cores} cores  which is {bare / apart:.2f} × one bare loop", flush=True)
            _row(KERAS_INPUT, Path(root), sizes, cores, args.rounds)
            costs: dict[str, _Milliseconds] = {}
            try:
                costs[PLANNING] = _row(PLANNING, Path(root), sizes, cores, args.rounds)
                for stage in _TO_PIXELS if args.to_pixels else (*_TO_PIXELS, *_BEHIND):
                    costs[stage] = _row(stage, Path(root), sizes, cores, args.rounds)
            except NotMeasuredError as error:
                print(f"not measured: {error}", flush=True)
                complete = False
            _ratios(costs, bare, cores)
    return 0 if complete else 1


class _Milliseconds(NamedTuple):
    """What an image takes."""

    clock: float
    processor: float


def _measure_apart(loop: str, arguments: Sequence[str], workdir: Path, cores: Sequence[int]) -> Cost:
    """As many loops at once as there are cores, all over the same images: what one such pass takes of it."""
    with ThreadPoolExecutor(len(cores)) as pool:
        costs = list(pool.map(lambda core: measure(loop, arguments, workdir, [core]), cores))
    return Cost(
        max(cost.seconds for cost in costs) / len(cores),
        sum(cost.processor_seconds for cost in costs) / len(cores),
        max(cost.peak_bytes for cost in costs),
    )


def _row(
    stage: str, root: Path, sizes: Sequence[int], cores: int, rounds: int, apart: bool = False
) -> _Milliseconds:
    """Measures and prints a row: of a stage on some cores, or of loops that have one each."""
    costs: list[Cost] = []
    for size in sizes:
        arguments = ("pets_unet", str(root / f"pets-{size}"), *_SETTINGS)
        measured = [
            (_measure_apart if apart else measure)(
                stage, arguments, root / f"run-{number}-{cores}-{size}", range(cores)
            )
            for number in range(rounds)
        ]
        costs.append(Cost(*(median(values) for values in zip(*map(astuple, measured), strict=True))))
    first, last = costs[0], costs[-1]
    images, clock, processor = sizes[-1], last.seconds, last.processor_seconds
    if len(sizes) > 1:
        images, clock = images - sizes[0], clock - first.seconds
        processor -= first.processor_seconds
    counted = images / _TEST_SHARE if stage in _TESTED else images
    milliseconds = _Milliseconds(1000 * clock / counted, 1000 * processor / counted)
    name = f"{stage}, one a core" if apart else stage
    peaks = " → ".join(f"{cost.peak_bytes / 2**20:.0f}" for cost in costs)
    growth = last.peak_bytes / first.peak_bytes - 1
    print(
        f"{cores} core{'s' if cores > 1 else ' '}  {name:51} {milliseconds.clock:7.2f} ms an image, "
        f"{milliseconds.processor:.2f} by the processor, {peaks} MiB ({growth:+.0%})",
        flush=True,
    )
    return milliseconds


def _ratios(costs: Mapping[str, _Milliseconds], bare: float, cores: int) -> None:
    on = f"{cores} core{'s' if cores > 1 else ' '}  "
    if all(stage in costs for stage in _TO_PIXELS):
        clock, processor = map(sum, zip(*(costs[stage] for stage in _TO_PIXELS), strict=True))
        one_thread = sum(costs[stage].processor for stage in _ONE_THREAD)
        print(
            f"{on}to the Trainer's pixels {clock:.2f} ms an image, {clock / bare:.2f} × the bare loop; "
            f"{one_thread + (processor - one_thread) / cores:.2f} ms did no core wait but for one thread's "
            f"{one_thread:.2f}"
        )
    if "Evaluator" in costs:
        ratio = costs["Evaluator"].clock / costs[BARE_EVALUATION].clock
        print(f"{on}Evaluator {ratio:.2f} × the bare loop", flush=True)


if __name__ == "__main__":
    sys.exit(main())
