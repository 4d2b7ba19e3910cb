"""Training throughput of the recipes: what the network costs, and what everything around it adds.

    python -m benchmarks.training [RECIPE ...] [--steps 20] [--rounds 3] [--precision bfloat16 ...]
                                  [--set KEY=VALUE ...]

For each recipe, with pictures of noise at the recipe's input size (speed does not depend on what they show),
with ``transform.resize=native`` of one to four times its sides:

- ``tensors``: the network fitted on one batch that lies in memory, images a second;
- ``trainer``: the same through the Trainer's input pipeline, which reads decoded pictures in a random
  order, or cuts windows from them, and augments; ``ratio`` is the one over the other, and ``work`` the same
  in processor time, which other programs on the machine do not disturb, but which only counts where
  processors train;
- ``input``: that pipeline alone, nothing trained;
- ``augm.``: the processor time that augmentation adds to the pipeline, over that of a training step. Where
  the processor also trains, this is what a run pays; where an accelerator trains, it runs beside.

``--precision`` repeats ``tensors`` in other number formats. ``tensors`` and ``trainer`` take turns, as often
as ``--rounds`` says; the first epoch of every turn, in which things are compiled, does not count.

Without TensorFlow (``KERAS_BACKEND=jax`` or ``torch``), ``tensors`` alone is measured, on NumPy arrays.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import keras
import numpy as np

from components.trainer.config import Constants, TrainerSettings
from components.trainer.network import build_network, compile_network
from components.trainer.optimizers import build_optimizer, phases
from pipeline.command_line import command_parser
from pipeline.config import list_recipes, load_recipe

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
EPOCHS = 2
"""Counted in each turn."""
_OF_THE_TRAINER = f" {'trainer':>8} {'ratio':>6} {'work':>6} {'input':>8} {'augm.':>7}"


class Pictures(NamedTuple):
    """Noise: images uint8 (N, H, W, channels) and class ids uint8 (N, H, W), all of the network's size."""

    images: np.ndarray
    masks: np.ndarray


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


def build(settings: TrainerSettings, policy: str) -> keras.Model:
    """Returns the recipe's network with random weights, compiled as the Trainer would."""
    jit_compile = keras.backend.backend() == "jax"
    if ON_TENSORFLOW:
        from components.trainer.hardware import compiles_steps

        jit_compile = compiles_steps(settings.training)
    keras.utils.set_random_seed(0)
    channels, classes = settings.channels, settings.labels.num_classes
    constants = Constants((1 / 255,) * channels, (0.0,) * channels, (1,) * classes)
    network = build_network(settings, constants, policy)
    optimizer = build_optimizer(settings.training, phases(settings.training)[0], steps_per_epoch=1000)
    compile_network(network, settings, constants, optimizer, jit_compile)
    return network


def dtype_policy(settings: TrainerSettings, precision: str | None) -> str:
    """Returns the policy of a number format; None is what the Trainer would take."""
    if precision is None and ON_TENSORFLOW:
        from components.trainer.hardware import training_policy

        return training_policy(settings.training)
    precision = precision or settings.training.mixed_precision or "none"
    return "float32" if precision == "none" else f"mixed_{precision}"


def draw(settings: TrainerSettings, count: int) -> Pictures:
    """Returns ``count`` pictures for the recipe's network."""
    random = np.random.default_rng(0)
    size = (count, settings.height, settings.width)
    images = random.integers(0, 256, (*size, settings.channels), np.uint8)
    return Pictures(images, random.integers(0, settings.labels.num_classes, size).astype(np.uint8))


def fit_tensors(network: keras.Model, pictures: Pictures, batch: int, steps: int) -> EpochTimer:
    """Fits on a batch in memory."""
    timer = EpochTimer()
    options: dict[str, Any] = {"epochs": 1 + EPOCHS, "callbacks": [timer], "verbose": 0, "shuffle": False}
    if ON_TENSORFLOW:
        import tensorflow as tf

        data = tf.data.Dataset.from_tensors((pictures.images[:batch], pictures.masks[:batch])).repeat()
        network.fit(data, steps_per_epoch=steps, **options)
    else:
        images, masks = (np.concatenate([part[:batch]] * steps) for part in pictures)
        network.fit(images, masks, batch_size=batch, **options)
    return timer


def fit_trainer(network: keras.Model, batches: Any, steps: int) -> EpochTimer:
    """Fits through the input pipeline."""
    timer = EpochTimer()
    network.fit(
        batches, steps_per_epoch=steps, epochs=1 + EPOCHS, callbacks=[timer], verbose=0, shuffle=False
    )
    return timer


def trainer_batches(settings: TrainerSettings, pictures: Pictures, steps: int, augmented: bool = True) -> Any:
    """Returns at least ``steps`` batches as the Trainer would train on, their pixels cached."""
    from components.trainer.batches import augmentation, training_batches, window_batches
    from components.trainer.pictures import EqualPictures

    batch = settings.training.batch_size
    augment = augmentation(settings.augmentation, settings.reading) if augmented else None
    if settings.input_size.method == "native":
        return window_batches(
            draw_windows(settings), range(1), steps_per_epoch=steps, batch_size=batch, augment=augment
        )
    kept = EqualPictures(lambda: [pictures], len(pictures.images), pictures.images.shape[1:], None)
    kept.fill()
    return training_batches(
        kept,
        range(-(-steps * batch // len(kept))),
        batch_size=batch,
        drop_remainder=True,
        seed=0,
        augment=augment,
    )


def draw_windows(settings: TrainerSettings) -> Any:
    """Returns the windows of 16 pictures between the network's size and four times its sides."""
    from components.trainer.pictures import Picture
    from components.trainer.windows import RandomWindows

    random = np.random.default_rng(0)
    pictures = []
    for _ in range(16):
        size = [int(side * random.uniform(1, 4)) for side in (settings.height, settings.width)]
        image = random.integers(0, 256, (*size, settings.channels), np.uint8)
        class_ids = random.integers(0, settings.labels.num_classes, size).astype(np.uint8)
        pictures.append(Picture(image, class_ids))
    return RandomWindows(
        pictures,
        settings.height,
        settings.width,
        num_classes=settings.labels.num_classes,
        foreground=settings.training.foreground_windows,
        seed=0,
    )


def iterate(batches: Any, steps: int) -> tuple[float, float]:
    """Takes ``steps`` batches after two that do not count; returns seconds by clock and by processor."""
    iterator = iter(batches)
    for _ in range(2):
        next(iterator)
    begun = (time.perf_counter(), time.process_time())
    for _ in range(steps):
        next(iterator)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def measure(name: str, overrides: Sequence[str], steps: int, rounds: int, precisions: Sequence[str]) -> str:
    """Returns a recipe's line of the table."""
    with tempfile.TemporaryDirectory() as root:
        # As much of a dataset as decides about a network: Clothing Co-Parsing keeps its class names there.
        Path(root, "labels.txt").write_text("\n".join(f"garment {number}" for number in range(59)))
        data = None if name == "shapes" else root
        encoder = load_recipe(name, data).model.encoder
        recipe = load_recipe(name, data, [*(["model.encoder_weights=null"] if encoder else []), *overrides])
    settings = recipe.trainer_settings()
    batch = settings.training.batch_size
    # As many as an epoch takes: the input pipeline begins anew with each.
    pictures = draw(settings, steps * batch)

    def rate(timers: Sequence[EpochTimer]) -> float:
        return steps * batch / median(seconds for timer in timers for seconds in timer.wall[1:])

    def work(timers: Sequence[EpochTimer]) -> float:
        return median(seconds for timer in timers for seconds in timer.processor[1:])

    policy = dtype_policy(settings, None)
    network = build(settings, policy)
    tensors: list[EpochTimer] = []
    trainer: list[EpochTimer] = []
    for _ in range(rounds):
        tensors.append(fit_tensors(network, pictures, batch, steps))
        if ON_TENSORFLOW:
            batches = trainer_batches(settings, pictures, (1 + EPOCHS) * steps)
            trainer.append(fit_trainer(network, batches, steps))
    line = f"{name:18} {policy:15} {network.count_params():12,} {rate(tensors):8.1f}"
    if ON_TENSORFLOW:
        wall, augmented = iterate(trainer_batches(settings, pictures, steps + 2), steps)
        _, plain = iterate(trainer_batches(settings, pictures, steps + 2, augmented=False), steps)
        share = max(0.0, augmented - plain) / work(tensors)
        ratios = f"{rate(trainer) / rate(tensors):6.3f} {work(tensors) / work(trainer):6.3f}"
        line += f" {rate(trainer):8.1f} {ratios} {steps * batch / wall:8.0f} {share:7.1%}"
    for precision in precisions:
        other = build(settings, dtype_policy(settings, precision))
        line += f"  {precision} {rate([fit_tensors(other, pictures, batch, steps)]):.1f}"
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser("benchmarks.training", __doc__)
    parser.add_argument("recipes", nargs="*", default=tuple(list_recipes()))
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="*", default=(), choices=("none", "float16", "bfloat16"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    args = parser.parse_args(arguments)
    columns = f"{'recipe':18} {'numbers':15} {'parameters':>12} {'tensors':>8}"
    print(columns + (_OF_THE_TRAINER if ON_TENSORFLOW else ""))
    for name in args.recipes:
        print(measure(name, args.overrides, args.steps, args.rounds, args.precision), flush=True)


if __name__ == "__main__":
    main()
