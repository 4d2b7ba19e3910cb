"""User code of tfx Trainer: data, model, fit, export."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.v1.components import FnArgs

from components.errors import StageError
from components.imaging.resize import InputSize
from components.trainer import data
from components.trainer.checkpoints import Checkpoints
from components.trainer.config import TrainerSettings
from components.trainer.export import export
from components.trainer.network import all_devices, build_network, compile_network, training_policy
from components.trainer.progress import Progress
from models.augmentation import random_horizontal_flip

logger = logging.getLogger(__name__)

_KEPT_TRAININGS = 3
"""Checkpoints of other settings or data that wait to be gone on with."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains the recipe's network and exports the epoch that did best on the val split.

    Args:
        fn_args: what TFX hands over; its ``custom_config["settings"]`` is a ``TrainerSettings`` as JSON.

    Raises:
        StageError: the training split is empty, or the loss is no longer a number.
    """
    settings = TrainerSettings.model_validate_json(fn_args.custom_config["settings"])
    training = settings.training
    size = InputSize(settings.height, settings.width, settings.resize)
    graph = tft.TFTransformOutput(fn_args.transform_output)
    constants = data.read_constants(graph)
    strategy = all_devices()

    with _training_directory(fn_args, settings.checkpoint_dir) as directory:
        checkpoints = Checkpoints(directory, training.early_stopping_patience)
        # Other random numbers for the epochs to come than for those that are done.
        seed = training.seed + checkpoints.epochs_done
        keras.utils.set_random_seed(seed)
        train, val, examples = _datasets(
            fn_args, settings, graph, seed, strategy.num_replicas_in_sync, directory / "pixels"
        )
        with strategy.scope():
            network = build_network(settings, constants, training_policy(training.mixed_precision))
            compile_network(network, settings, constants)
            checkpoints.restore(network)
        logger.info("%s parameters, %d training examples", f"{network.count_params():,}", examples)
        if checkpoints.epochs_done:
            logger.info("going on after epoch %d", checkpoints.epochs_done)
        if not checkpoints.history.has_stalled:
            network.fit(
                train,
                validation_data=val,
                epochs=training.epochs,
                initial_epoch=checkpoints.epochs_done,
                callbacks=[Progress(training.epochs, examples), checkpoints],
                shuffle=False,
                verbose=0,
            )
        checkpoints.load_best(network)

    # float32 and outside of any strategy: what is served runs on one device, with or without a GPU.
    # Not compiled: a SavedModel would carry the optimiser's state along, twice the weights again.
    served = build_network(settings, constants, "float32")
    served.set_weights(network.get_weights())

    epochs, best = checkpoints.history.epochs, checkpoints.history.best_epoch
    logger.info("exporting epoch %d of %d", best + 1, len(epochs))
    run_directory = Path(fn_args.model_run_dir)
    run_directory.mkdir(parents=True, exist_ok=True)
    history = {"best_epoch": best + 1, "epochs": epochs}
    (run_directory / "history.json").write_text(json.dumps(history, indent=2) + "\n")
    export(served, graph, size, settings.labels, settings.recipe, Path(fn_args.serving_model_dir))


def _datasets(
    fn_args: FnArgs,
    settings: TrainerSettings,
    graph: tft.TFTransformOutput,
    seed: int,
    devices: int,
    cache_directory: Path,
) -> tuple[tf.data.Dataset, tf.data.Dataset | None, int]:
    """Returns the training and validation batches (None without any) and the number of training examples."""
    training = settings.training
    size = InputSize(settings.height, settings.width, settings.resize)
    compression = "GZIP" if settings.materialized else ""
    files = {
        "train": sorted(tf.io.gfile.glob(fn_args.train_files)),
        "val": sorted(tf.io.gfile.glob(fn_args.eval_files)),
    }
    counts = {split: data.count_examples(paths, compression) for split, paths in files.items()}
    if not counts["train"]:
        raise StageError(
            "the train split has no examples; give the dataset more pairs or lower dataset.splits"
        )
    if devices > 1 and (training.batch_size % devices or counts["train"] < training.batch_size):
        raise StageError(
            f"training.batch_size {training.batch_size} does not suit {devices} GPUs and {counts['train']} "
            f"training examples; take a multiple of {devices}, at most the number of examples"
        )
    in_memory = data.decoded_bytes(sum(counts.values()), size) <= training.cache_bytes
    if not in_memory:
        logger.info("more decoded pixels than training.cache_bytes: they are cached on disk")

    def pairs(split: str) -> tf.data.Dataset:
        if settings.materialized:
            decoded = data.materialized_pairs(files[split], size)
        else:
            decoded = data.raw_pairs(files[split], graph, size)
        return data.cached(decoded, counts[split], None if in_memory else cache_directory / split)

    augment = random_horizontal_flip if settings.augmentation.horizontal_flip else None
    # A smaller last batch could leave a device with nothing, and batch normalisation without a mean.
    drop_remainder = devices > 1
    train = data.training_batches(
        pairs("train"), counts["train"], size, training.batch_size, drop_remainder, seed, augment
    )
    val = pairs("val").batch(training.batch_size).prefetch(tf.data.AUTOTUNE) if counts["val"] else None
    return train, val, counts["train"]


@contextmanager
def _training_directory(fn_args: FnArgs, checkpoint_dir: str | None) -> Iterator[Path]:
    """The directory of this training's checkpoints and cached pixels.

    Trainings of the same settings and data share one, and so go on from each other's checkpoints. Without
    a place to keep it, it lasts as long as the training.
    """
    if checkpoint_dir is None:
        with tempfile.TemporaryDirectory(prefix="segmentation-training-") as temporary:
            yield Path(temporary)
        return
    parts = [
        fn_args.custom_config["settings"],
        *fn_args.train_files,
        *fn_args.eval_files,
        fn_args.transform_output,
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    directory = Path(checkpoint_dir) / key
    directory.mkdir(parents=True, exist_ok=True)
    directory.touch()
    others = sorted(Path(checkpoint_dir).iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for outdated in others[1 + _KEPT_TRAININGS :]:
        shutil.rmtree(outdated)
    # A killed training could not take its pixels along, and half a cache is none.
    shutil.rmtree(directory / "pixels", ignore_errors=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory / "pixels", ignore_errors=True)
