"""One stage of a run, or a bare loop that does as much, in a process of its own: its time and peak memory.

``benchmarks.stages`` starts it.
"""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.repeated_pets import PICTURE

TRAINER_INPUT: Final = "Trainer's input: decode, resize, write"
"""Not a stage of its own: what the Trainer does with its pictures before the first epoch."""
BARE_INPUT: Final = "bare loop: read, decode, resize, write"
KERAS_INPUT: Final = "keras.utils.image_dataset_from_directory"
PLANNING: Final = "ImageMaskExampleGen's one thread: find, pair, compare"
"""What it does with all files before and after its workers have them: a part of that stage."""
BARE_EVALUATION: Final = "bare loop: predict, np.bincount"
_BATCH: Final = 32


class NotMeasuredError(Exception):
    """It did not come to its end; the message is its last line."""


@dataclass(frozen=True)
class Cost:
    """What was taken, imports and start-up excluded from the time but not from the memory."""

    seconds: float
    processor_seconds: float
    """Of all its threads, and of its processes that have ended."""
    peak_bytes: int


def measure(stage: str, arguments: Sequence[str], workdir: Path, cores: Sequence[int]) -> Cost:
    """Runs one stage, or loop, on the named cores only.

    Args:
        stage: its name; those before it have been run in the same work directory.
        arguments: recipe, data and ``--set``'s values, as for ``pipeline.run_local``.
        workdir: where the run's artifacts go.
        cores: their numbers.

    Raises:
        NotMeasuredError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.one_stage", stage, json.dumps(list(cores)), str(workdir)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        [*_, last] = ["nothing was said", *done.stderr.split("\n")[:-1]]
        raise NotMeasuredError(last)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _now() -> np.ndarray:
    """float64 [2], seconds: by the clock, and by the processor, with processes that have ended."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return np.array([time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in spent)])


def _trainer_input(workdir: Path, data: Path, side: int) -> np.ndarray:
    import tensorflow_transform as tft

    from components.imaging.reading import InputSize
    from components.trainer.decoding import count_examples, raw_pairs
    from components.trainer.pictures import EqualPictures

    [graph] = (workdir / "artifacts/Transform/transform_graph").iterdir()
    files = [file for split in ("train", "val") for file in _examples(workdir, split)]
    size = InputSize(side, side, "stretch")
    with tempfile.TemporaryDirectory() as root:
        started = _now()
        count = count_examples(files)
        pairs = raw_pairs(files, tft.TFTransformOutput(str(graph)), size, 3)
        EqualPictures(
            pairs.batch(_BATCH).as_numpy_iterator, count, (side, side, 3), Path(root, "pixels")
        ).fill()
        return _now() - started


def _planning(workdir: Path, data: Path, side: int) -> np.ndarray:
    from components.image_mask_example_gen.config import DatasetConfig
    from components.image_mask_example_gen.inputs import InputFiles, fingerprint_inputs
    from components.image_mask_example_gen.plan import plan_ingestion
    from components.image_mask_example_gen.splits import SplitConfig

    config = DatasetConfig(layout="oxford_iiit_pet", root=str(data), splits=SplitConfig(group=PICTURE))
    started = _now()
    fingerprint = fingerprint_inputs(config)
    plan = plan_ingestion(config, data)
    inputs = InputFiles(config, data, plan.files)
    inputs.check_same(fingerprint)
    inputs.check_unchanged()
    return _now() - started


def _bare_input(workdir: Path, data: Path, side: int) -> np.ndarray:
    """What one writes without this project: TensorFlow's own operations, a file after the other.

    There is no code of ours in it, so that what we save there does not make the bare loop faster too.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2)
    def pixels(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = tf.io.decode_image(image, channels=3, expand_animations=False)
        resized = tf.image.resize(decoded, (side, side), antialias=True)
        class_ids = tf.image.resize(tf.io.decode_png(mask, channels=1), (side, side), method="nearest")
        return tf.cast(tf.round(resized), tf.uint8), class_ids

    def read(image: Path) -> tuple[bytes, bytes]:
        return image.read_bytes(), (data / f"annotations/trimaps/{image.stem}.png").read_bytes()

    images = sorted((data / "images").iterdir())
    pixels(*read(images[0]))
    with tempfile.TemporaryDirectory() as directory:
        started = _now()
        with tf.io.TFRecordWriter(f"{directory}/pixels") as writer:
            for path in images:
                image, mask = pixels(*read(path))
                writer.write(image.numpy().tobytes() + mask.numpy().tobytes())
        return _now() - started


def _keras_input(workdir: Path, data: Path, side: int) -> np.ndarray:
    """What a first notebook does: images and masks as two datasets of Keras, zipped; nothing is checked."""
    import tensorflow as tf
    from keras.utils import image_dataset_from_directory

    def pictures(folder: str, colors: str, interpolation: str) -> tf.data.Dataset:
        return image_dataset_from_directory(
            str(data / folder),
            labels=None,
            color_mode=colors,
            batch_size=_BATCH,
            image_size=(side, side),
            shuffle=False,
            interpolation=interpolation,
            follow_links=True,
            verbose=False,
        )

    started = _now()
    images = pictures("images", "rgb", "bilinear")
    masks = pictures("annotations/trimaps", "grayscale", "nearest")
    for _ in tf.data.Dataset.zip((images, masks)):
        pass
    return _now() - started


def _bare_evaluation(workdir: Path, data: Path, side: int) -> np.ndarray:
    """Predictions and a confusion matrix over the test split: batches of Examples, both PNGs decoded."""
    import tensorflow as tf
    from PIL import Image

    from components.dataset import features

    [model] = (workdir / "artifacts/Trainer/model").glob("*/Format-Serving")
    evaluate = tf.saved_model.load(str(model)).signatures["evaluate"]
    specification = {features.MASK_ENCODED: tf.io.FixedLenFeature([], tf.string)}
    confusion = np.zeros((3, 3), np.int64)
    records = tf.data.TFRecordDataset(_examples(workdir, "test"))
    evaluate(examples=next(iter(records.batch(_BATCH))))
    started = _now()
    for examples in records.batch(_BATCH).prefetch(2):
        predicted = evaluate(examples=examples)["mask_bytes"].numpy()
        truth = tf.io.parse_example(examples, specification)[features.MASK_ENCODED].numpy()
        for pngs in zip(truth, predicted, strict=True):
            true_ids, predicted_ids = (np.asarray(Image.open(io.BytesIO(png))).ravel() for png in pngs)
            counted = true_ids < 3
            cells = true_ids[counted].astype(np.int64) * 3 + predicted_ids[counted]
            confusion += np.bincount(cells, minlength=9).reshape(3, 3)
    return _now() - started


def _examples(workdir: Path, split: str) -> list[str]:
    found = (workdir / "artifacts").glob(f"ImageMaskExampleGen/examples/*/Split-{split}/*")
    return sorted(map(str, found))


_LOOPS: Final[Mapping[str, Callable[[Path, Path, int], np.ndarray]]] = {
    TRAINER_INPUT: _trainer_input,
    BARE_INPUT: _bare_input,
    KERAS_INPUT: _keras_input,
    PLANNING: _planning,
    BARE_EVALUATION: _bare_evaluation,
}
"""Each takes the work directory, the dataset's folder and the pixels a side, and returns what it took."""


def _spent(stage: str, workdir: Path, recipe_name: str, data: str, *changes: str) -> np.ndarray:
    from pipeline.config import load_recipe

    recipe = load_recipe(recipe_name, data, changes)
    if loop := _LOOPS.get(stage):
        return loop(workdir, Path(data), recipe.transform.height)

    from pipeline.create_pipeline import create_pipeline
    from pipeline.local.stages import stages_of

    workdir.mkdir(parents=True, exist_ok=True)
    pipeline = create_pipeline(
        recipe,
        recipe.run_parameters(str(workdir / "serving")),
        pipeline_name="benchmark",
        pipeline_root=str(workdir / "artifacts"),
        metadata_path=str(workdir / "metadata.sqlite"),
        checkpoint_dir=str(workdir / "checkpoints"),
    )
    stages = stages_of(pipeline, "benchmark", recipe.beam_args)
    [wanted] = [each for each in stages if each.name == stage]
    started = _now()
    wanted.run()
    return _now() - started


def main(stage: str, cores: str, workdir: str, *arguments: str) -> None:
    numbers = json.loads(cores)
    os.sched_setaffinity(0, numbers)
    if len(numbers) == 1:
        import tensorflow as tf

        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(1)
    seconds, processor_seconds = _spent(stage, Path(workdir), *arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(asdict(Cost(seconds, processor_seconds, peak))))


if __name__ == "__main__":
    main(*sys.argv[1:])
