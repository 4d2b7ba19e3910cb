"""What evaluating an image costs in the Evaluator, against bare predictions and ``np.bincount``.

    python -m benchmarks.evaluator PETS_DIRECTORY [--small 600] [--large 6000]

Both use the same exported model, a small U-Net, on the same Examples and cores. The marginal cost is the
difference between a large and a small test split over the difference in images. The bare loop reads
batches of Examples, calls the ``evaluate`` signature, decodes both PNGs and counts.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.repeated_pets import repeat_pets
from benchmarks.stages import measure

STAGES = (
    "ImageMaskExampleGen",
    "StatisticsGen",
    "CuratedSchema",
    "ExampleValidator",
    "Transform",
    "Trainer",
)
EVALUATION = ("Baseline", "Evaluator")
OVERRIDES = (
    "transform.height=128",
    "transform.width=128",
    "model.filters=8",
    "model.depth=4",
    "training.epochs=1",
    "evaluation.min_mean_iou=0.0",
)
BATCH = 32


def bare_loop(workdir: Path) -> float:
    """Returns the seconds of plain predictions and a confusion matrix over the test split."""
    import tensorflow as tf
    from PIL import Image

    from components.dataset import features

    [model_directory] = (workdir / "artifacts" / "Trainer" / "model").glob("*/Format-Serving")
    evaluate = tf.saved_model.load(str(model_directory)).signatures["evaluate"]
    files = [
        str(path) for path in (workdir / "artifacts").glob("ImageMaskExampleGen/examples/*/Split-test/*")
    ]
    specification = {features.MASK_ENCODED: tf.io.FixedLenFeature([], tf.string)}
    confusion = np.zeros((3, 3), np.int64)
    records = tf.data.TFRecordDataset(files)
    evaluate(examples=next(iter(records.batch(BATCH))))
    started = time.perf_counter()
    for examples in records.batch(BATCH).prefetch(2):
        predicted = evaluate(examples=examples)["mask_bytes"].numpy()
        truth = tf.io.parse_example(examples, specification)[features.MASK_ENCODED].numpy()
        for true_png, predicted_png in zip(truth, predicted, strict=True):
            true_ids = np.asarray(Image.open(io.BytesIO(true_png))).ravel().astype(np.int64)
            predicted_ids = np.asarray(Image.open(io.BytesIO(predicted_png))).ravel()
            counted = true_ids < 3
            cells = true_ids[counted] * 3 + predicted_ids[counted]
            confusion += np.bincount(cells, minlength=9).reshape(3, 3)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pets", type=Path)
    parser.add_argument("--small", type=int, default=600)
    parser.add_argument("--large", type=int, default=6000)
    parser.add_argument("--bare", action="store_true", help="time the bare loop over a run and stop")
    args = parser.parse_args()
    if args.bare:
        print(bare_loop(args.pets))
        return
    cores = range(2)
    evaluator, bare, peaks = [], [], []
    with tempfile.TemporaryDirectory() as root:
        for count in (args.small, args.large):
            dataset, workdir = Path(root) / f"pets-{count}", Path(root) / f"run-{count}"
            repeat_pets(args.pets, dataset, count + 40, test=count)
            arguments = ["pets_unet", str(dataset), *OVERRIDES]
            measure(arguments, workdir, STAGES, cores)
            cost = measure(arguments, workdir, EVALUATION, cores)["Evaluator"]
            evaluator.append(cost.seconds)
            peaks.append(cost.peak_bytes)
            command = [sys.executable, "-m", "benchmarks.evaluator", "--bare", str(workdir)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            bare.append(float(done.stdout.splitlines()[-1]))
    images = args.large - args.small
    evaluator_cost, bare_cost = ((times[1] - times[0]) / images for times in (evaluator, bare))
    print(f"bare predict and bincount: {bare_cost * 1e3:.2f} ms an image")
    print(
        f"Evaluator: {evaluator_cost * 1e3:.2f} ms an image, {evaluator_cost / bare_cost:.2f} × the bare loop"
    )
    print(
        f"peak memory: {peaks[0] / 2**20:.0f} → {peaks[1] / 2**20:.0f} MiB ({peaks[1] / peaks[0] - 1:+.1%})"
    )


if __name__ == "__main__":
    main()
