"""Training throughput of the recipes: what the network costs, and what everything around it adds.

    python -m benchmarks.training [RECIPE ...] [--steps 20] [--rounds 3] [--precision bfloat16 ...]
                                  [--set KEY=VALUE ...]

For each recipe, with pictures of noise at the recipe's input size (speed does not depend on what they show):

- ``memory``: the network fitted on batches that lie in memory as tensors, images a second;
- ``trainer``: the same through the Trainer's input pipeline, cached pixels shuffled, batched and augmented;
- ``input``: that pipeline alone, nothing trained;
- ``augmentation``: its processor time over that of a training step, per cent. Where the processor also
  trains, this is what a run pays; where an accelerator trains, it runs beside.

``--precision`` repeats ``memory`` in other number formats. ``memory`` and ``trainer`` take turns, as often as
``--rounds`` says; the first epoch of every turn, in which things are compiled and cached, does not count.

Without TensorFlow (``KERAS_BACKEND=jax`` or ``torch``), ``memory`` alone is measured, on NumPy arrays.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.trainer.config import TrainerSettings
from components.trainer.constants import Constants
from components.trainer.network import build_network, compile_network
from components.trainer.optimizers import build_optimizer, phases
from models.augmentation import RandomAugmentation
from pipeline.config import load_recipe

RECIPES = ("pets_unet", "pets_mobilenetv2", "kitti_unet", "ccp_densenet121", "pets_best")
EPOCHS = 2
"""Counted in each turn."""


class EpochTimer(keras.callbacks.Callback):
    """Notes how long each epoch takes, by the clock and by the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.wall: list[float] = []
        self.processor: list[float] = []
        self._begun = (0.0, 0.0)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._begun = (time.perf_counter(), time.process_time())

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.wall.append(time.perf_counter() - self._begun[0])
        self.processor.append(time.process_time() - self._begun[1])


def build(settings: TrainerSettings, precision: str) -> keras.Model:
    """Returns the recipe's network with random weights, compiled."""
    keras.utils.set_random_seed(0)
    channels, classes = settings.channels, settings.labels.num_classes
    constants = Constants((1 / 255,) * channels, (0.0,) * channels, (1,) * classes)
    network = build_network(settings, constants, "float32" if precision == "none" else f"mixed_{precision}")
    optimizer = build_optimizer(settings.training, phases(settings.training)[0], steps_per_epoch=1000)
    compile_network(network, settings, constants, optimizer, jit_compile=keras.backend.backend() == "jax")
    return network


def pictures(settings: TrainerSettings, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns noise: images uint8 (count, H, W, channels) and class ids uint8 (count, H, W)."""
    random = np.random.default_rng(0)
    size = (count, settings.height, settings.width)
    images = random.integers(0, 256, (*size, settings.channels), np.uint8)
    return images, random.integers(0, settings.labels.num_classes, size).astype(np.uint8)


def memory_turn(
    network: keras.Model, images: np.ndarray, masks: np.ndarray, batch: int, steps: int
) -> EpochTimer:
    """Fits on batches in memory."""
    timer = EpochTimer()
    options: dict[str, Any] = {"epochs": 1 + EPOCHS, "callbacks": [timer], "verbose": 0, "shuffle": False}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensors((images[:batch], masks[:batch])).repeat()
        network.fit(data, steps_per_epoch=steps, **options)
    else:
        repeats = -(-steps * batch // len(images))
        images, masks = (np.concatenate([part] * repeats)[: steps * batch] for part in (images, masks))
        network.fit(images, masks, batch_size=batch, **options)
    return timer


def trainer_batches(settings: TrainerSettings, images: np.ndarray, masks: np.ndarray, epochs: int) -> Any:
    """Returns what the Trainer would train on, its pixels cached."""
    import tensorflow as tf

    from components.trainer import data
    from components.trainer.examples import augmentation, variants

    return data.training_batches(
        tf.data.Dataset.from_tensor_slices((images, masks)).cache(),
        range(epochs),
        buffer=len(images),
        batch_size=settings.training.batch_size,
        drop_remainder=True,
        seed=0,
        augment=augmentation(settings.augmentation),
        variants=variants(settings.augmentation),
    )


def trainer_turn(network: keras.Model, batches: Any, steps: int) -> EpochTimer:
    """Fits through the input pipeline."""
    timer = EpochTimer()
    network.fit(
        batches, steps_per_epoch=steps, epochs=1 + EPOCHS, callbacks=[timer], verbose=0, shuffle=False
    )
    return timer


def augmentation_seconds(
    settings: TrainerSettings, images: np.ndarray, masks: np.ndarray, steps: int
) -> float:
    """Returns the processor time that augmenting one batch takes, as a graph of its own."""
    import tensorflow as tf

    from components.trainer.examples import augmentation, variants

    changes: list[Callable[..., Any]] = [
        lambda images, masks, seed, variant=variant: variant(images, masks)
        for variant in variants(settings.augmentation)
    ]
    random: RandomAugmentation | None = augmentation(settings.augmentation)
    if random is None and not changes:
        return 0.0
    # Of the copies of a picture one is the picture itself, and costs nothing.
    share = len(changes) / (len(changes) + 1) if changes else 1.0
    functions = [tf.function(change) for change in ([random] if random else changes)]
    batch = (tf.constant(images), tf.constant(masks))
    for function in functions:
        function(*batch, tf.constant(0, tf.int64))
    begun = time.process_time()
    for step in range(steps):
        for function in functions:
            function(*batch, tf.constant(step, tf.int64))
    return share * (time.process_time() - begun) / steps / len(functions)


def measure(name: str, overrides: Sequence[str], steps: int, rounds: int, precisions: Sequence[str]) -> str:
    """Returns a recipe's line of the table."""
    with tempfile.TemporaryDirectory() as root:
        # As much of a dataset as decides about a network: Clothing Co-Parsing keeps its class names there.
        Path(root, "labels.txt").write_text("\n".join(f"garment {number}" for number in range(59)))
        encoder = load_recipe(name, root).model.encoder
        recipe = load_recipe(name, root, [*(["model.encoder_weights=null"] if encoder else []), *overrides])
    settings = recipe.trainer_settings()
    batch = settings.training.batch_size
    images, masks = pictures(settings, 2 * batch)
    count = steps * batch

    def rate(timers: Sequence[EpochTimer]) -> float:
        return count / float(np.median([seconds for timer in timers for seconds in timer.wall[1:]]))

    precision = recipe.training.mixed_precision or "none"
    on_tensorflow = keras.backend.backend() == "tensorflow"
    in_memory = build(settings, precision)
    memory: list[EpochTimer] = []
    trainer: list[EpochTimer] = []
    through_trainer = build(settings, precision) if on_tensorflow else None
    for _ in range(rounds):
        memory.append(memory_turn(in_memory, images, masks, batch, steps))
        if through_trainer is not None:
            epochs = -(-(1 + EPOCHS) * steps * batch // len(images)) + 1
            batches = trainer_batches(settings, images, masks, epochs)
            trainer.append(trainer_turn(through_trainer, batches, steps))
    line = f"{name:18} {precision:9} {in_memory.count_params():12,} {rate(memory):8.1f}"
    if on_tensorflow:
        epochs = max(2, 4 * count // len(images))
        begun, seen = time.perf_counter(), 0
        for batch_images, _ in trainer_batches(settings, images, masks, epochs):
            seen += len(batch_images)
        alone = seen / (time.perf_counter() - begun)
        step = float(np.median([seconds for timer in memory for seconds in timer.processor[1:]])) / steps
        share = augmentation_seconds(settings, images[:batch], masks[:batch], steps) / step
        line += f" {rate(trainer):8.1f} {rate(trainer) / rate(memory):6.3f} {alone:8.0f} {share:7.1%}"
    for other in precisions:
        faster = rate([memory_turn(build(settings, other), images, masks, batch, steps)])
        line += f"  {other} {faster:.1f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="*", default=(), choices=("none", "float16", "bfloat16"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    args = parser.parse_args()
    print(f"{'recipe':18} {'numbers':9} {'parameters':>12} {'memory':>8}", end="")
    print(
        f" {'trainer':>8} {'ratio':>6} {'input':>8} {'augm.':>7}"
        if keras.backend.backend() == "tensorflow"
        else ""
    )
    for name in args.recipes:
        print(measure(name, args.overrides, args.steps, args.rounds, args.precision), flush=True)


if __name__ == "__main__":
    main()
