"""What an image costs from its file to the pixels that the Trainer reads, against a bare loop.

    python -m benchmarks.ingestion PETS_DIRECTORY [--small 600] [--large 6000]

The marginal cost an image is the difference between a large and a small dataset over the difference in
images, so start-up does not count. The bare loop decodes, resizes and writes the same pixels with the
same TensorFlow operations on one core, without Beam, checks or statistics. Peak memory is shown a stage.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.repeated_pets import repeat_pets
from benchmarks.stages import FIRST_EPOCH, Cost, measure

STAGES = (
    "ImageMaskExampleGen",
    "StatisticsGen",
    "CuratedSchema",
    "ExampleValidator",
    "Transform",
    FIRST_EPOCH,
)
MEMORY_ONLY = ("Trainer", "Baseline", "Evaluator", "Pusher")
"""Stages behind the data's way to the Trainer: their peak memory is shown, their time counts elsewhere."""
SIDE = 128
# A network that costs nothing beside its input, and no cache in memory: what is left is what may not grow.
OVERRIDES = (
    f"transform.height={SIDE}",
    f"transform.width={SIDE}",
    "model.filters=2",
    "model.depth=2",
    "training.epochs=1",
    "training.cache_bytes=0",
    "evaluation.min_mean_iou=0.0",
)


def bare_loop(dataset: Path) -> float:
    """Returns the seconds a plain loop needs for every pair of a dataset: read, decode, resize, write."""
    import tensorflow as tf

    from components.imaging.decode import decode_image
    from components.imaging.reading import InputSize
    from components.imaging.resize import resize_image, resize_mask

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    size = InputSize(SIDE, SIDE, "stretch")

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2)
    def pixels(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        class_ids = tf.io.decode_png(mask, channels=1)[:, :, 0]
        return resize_image(decode_image(image), size), resize_mask(class_ids, size)

    names = [path.stem for path in sorted((dataset / "images").iterdir())]
    pixels((dataset / "images" / f"{names[0]}.jpg").read_bytes(), _mask(dataset, names[0]))
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        with tf.io.TFRecordWriter(f"{directory}/pixels") as writer:
            for name in names:
                image, mask = pixels((dataset / "images" / f"{name}.jpg").read_bytes(), _mask(dataset, name))
                writer.write(image.numpy().tobytes() + mask.numpy().tobytes())
        return time.perf_counter() - started


def _mask(dataset: Path, name: str) -> bytes:
    return (dataset / "annotations" / "trimaps" / f"{name}.png").read_bytes()


def _bare_loop_on_one_core(dataset: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingestion", "--bare", str(dataset)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, [0]),
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pets", type=Path)
    parser.add_argument("--small", type=int, default=600)
    parser.add_argument("--large", type=int, default=6000)
    parser.add_argument("--bare", action="store_true", help="time the bare loop over a dataset and stop")
    args = parser.parse_args()
    if args.bare:
        print(bare_loop(args.pets))
        return
    with tempfile.TemporaryDirectory() as root:
        sizes = (args.small, args.large)
        datasets = {count: Path(root) / f"pets-{count}" for count in sizes}
        for count, dataset in datasets.items():
            repeat_pets(args.pets, dataset, count, test=10)
        images = args.large - args.small
        bare = [_bare_loop_on_one_core(datasets[count]) for count in sizes]
        bare_cost = (bare[1] - bare[0]) / images
        print(f"bare loop on one core: {bare_cost * 1e3:.2f} ms an image")
        total: dict[int, float] = {}
        for cores in (1, 2):
            costs: list[dict[str, Cost]] = []
            for count, dataset in datasets.items():
                arguments = ["pets_unet", str(dataset), *OVERRIDES, f"beam.workers={cores}"]
                stages = STAGES + (MEMORY_ONLY if cores == 2 else ())
                costs.append(measure(arguments, Path(root) / f"run-{cores}-{count}", stages, range(cores)))
            print(f"{cores} core(s), {sizes[0]} and {sizes[1]} images:")
            total[cores] = 0.0
            for stage in costs[0]:
                small, large = (cost[stage] for cost in costs)
                marginal = (large.seconds - small.seconds) / images
                total[cores] += marginal if stage in STAGES else 0.0
                time_shown = f"{marginal * 1e3:6.2f} ms an image, " if stage in STAGES else ""
                print(
                    f"  {stage:24} {time_shown}peak {small.peak_bytes / 2**20:.0f} → "
                    f"{large.peak_bytes / 2**20:.0f} MiB ({large.peak_bytes / small.peak_bytes - 1:+.1%})"
                )
            print(
                f"  together {total[cores] * 1e3:.2f} ms an image, "
                f"{total[cores] / bare_cost:.2f} × the bare loop"
            )
        print(f"two cores are {total[1] / total[2]:.2f} × as fast as one")


if __name__ == "__main__":
    main()
