"""Training throughput through the pipeline, against the same Keras model fitted on tensors in memory.

    python -m benchmarks.trainer WORKDIR [--epochs 5]

WORKDIR is that of a finished run, of the ``shapes`` recipe for example: its Examples, transform graph and
settings are used. Both sides train the same network on the same pixels with the same loss and batch size,
twice in turn; the first epoch of each turn, which compiles and fills the cache, is left out.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow_transform as tft

from components.dataset.labels import LabelSet
from components.imaging.resize import InputSize
from components.trainer import data
from components.trainer.config import TrainerSettings
from components.trainer.network import build_network, compile_network
from models.augmentation import random_horizontal_flip
from pipeline.config import load_recipe

ROUNDS = 2


class EpochTimer(keras.callbacks.Callback):
    """Notes how long each epoch takes."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self._begun)


def newest(directory: Path) -> Path:
    """Returns the artifact with the highest id."""
    return max(directory.iterdir(), key=lambda path: int(path.name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--recipe", default="shapes")
    parser.add_argument("--data")
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    recipe = load_recipe(args.recipe, args.data)
    labels: LabelSet = recipe.dataset.label_set()
    size = InputSize(recipe.transform.height, recipe.transform.width, recipe.transform.resize)
    artifacts = args.workdir / "artifacts"
    graph = tft.TFTransformOutput(str(newest(artifacts / "Transform" / "transform_graph")))
    examples = newest(artifacts / "ImageMaskExampleGen" / "examples")
    files = sorted(str(path) for path in examples.glob("Split-train/*"))
    constants = data.read_constants(graph)
    count = data.count_examples(files)
    batch_size = recipe.training.batch_size

    settings = TrainerSettings(
        recipe={},
        labels=labels,
        height=size.height,
        width=size.width,
        resize=size.method,
        materialized=False,
        model=recipe.model,
        augmentation=recipe.augmentation,
        training=recipe.training,
    )

    def network() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = build_network(settings, constants, "float32")
        compile_network(model, settings, constants)
        return model

    pairs = data.cached(data.raw_pairs(files, graph, size), count, None)
    augment = random_horizontal_flip if recipe.augmentation.horizontal_flip else None
    batches = data.training_batches(pairs, count, size, batch_size, False, 0, augment)
    images, masks = (np.stack(values) for values in zip(*pairs.as_numpy_iterator(), strict=True))
    through_pipeline, in_memory = network(), network()
    seconds: dict[str, list[float]] = {"pipeline": [], "in memory": []}
    for _ in range(ROUNDS):
        timer = EpochTimer()
        through_pipeline.fit(batches, epochs=args.epochs + 1, shuffle=False, callbacks=[timer], verbose=0)
        seconds["pipeline"] += timer.seconds[1:]
        timer = EpochTimer()
        in_memory.fit(
            images, masks, batch_size=batch_size, epochs=args.epochs + 1, callbacks=[timer], verbose=0
        )
        seconds["in memory"] += timer.seconds[1:]
    rates = {side: count / float(np.median(times)) for side, times in seconds.items()}
    for side, rate in rates.items():
        print(f"{side:10} {rate:7.1f} images/s (median of {len(seconds[side])} epochs of {count} images)")
    print(f"ratio      {rates['pipeline'] / rates['in memory']:7.3f}")


if __name__ == "__main__":
    main()
