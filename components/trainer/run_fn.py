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
from components.trainer.progress import Progress
from models.augmentation import random_horizontal_flip
from models.losses import SparseCrossEntropy, median_frequency_weights
from models.metrics import ResizedMeanIoU
from models.unet import unet

logger = logging.getLogger(__name__)


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
    keras.utils.set_random_seed(training.seed)

    with _scratch_directory() as scratch:
        strategy = _strategy()
        train, val, examples = _datasets(
            fn_args, settings, graph, size, strategy.num_replicas_in_sync, scratch
        )
        with strategy.scope():
            network = _network(
                settings,
                constants,
                "mixed_float16" if _mixed_precision(training.mixed_precision) else "float32",
            )
            _compile(network, settings, constants)
        logger.info("%s parameters, %d training examples", f"{network.count_params():,}", examples)

        directory = Path(settings.checkpoint_dir or scratch) / _training_key(fn_args)
        _remove_other_trainings(directory)
        checkpoints = Checkpoints(directory, training.early_stopping_patience)
        if checkpoints.epochs_done:
            logger.info("going on after epoch %d", checkpoints.epochs_done)
        if not checkpoints.history.has_stalled:
            with strategy.scope():
                checkpoints.restore(network)
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
        served = _network(settings, constants, "float32")
        served.set_weights(network.get_weights())

    history = checkpoints.history
    best = history.best_epoch
    logger.info("exporting epoch %d of %d", best + 1, checkpoints.epochs_done)
    run_directory = Path(fn_args.model_run_dir)
    run_directory.mkdir(parents=True, exist_ok=True)
    (run_directory / "history.json").write_text(
        json.dumps({"best_epoch": best + 1, "epochs": history.epochs}, indent=2)
    )
    origin = settings.model_dump(
        mode="json", exclude={"labels", "checkpoint_dir", "code_fingerprint", "materialized"}
    )
    export(served, graph, size, settings.labels, origin, Path(fn_args.serving_model_dir))


def _datasets(
    fn_args: FnArgs,
    settings: TrainerSettings,
    graph: tft.TFTransformOutput,
    size: InputSize,
    devices: int,
    scratch: Path,
) -> tuple[tf.data.Dataset, tf.data.Dataset | None, int]:
    """Returns the training and validation batches (None without any) and the number of training examples."""
    training = settings.training
    compression = "GZIP" if settings.materialized else ""

    def pairs(patterns: list[str], split: str) -> tuple[tf.data.Dataset, int]:
        files = sorted(tf.io.gfile.glob(patterns))
        count = data.count_examples(files, compression)
        if settings.materialized:
            decoded = data.materialized_pairs(files, size)
        else:
            decoded = data.raw_pairs(files, graph, size)
        return data.cached(decoded, count, size, training.cache_bytes // 2, scratch / split), count

    train_pairs, train_count = pairs(fn_args.train_files, "train")
    if not train_count:
        raise StageError(
            "the train split has no examples; give the dataset more pairs or lower dataset.splits"
        )
    if devices > 1 and (training.batch_size % devices or train_count < training.batch_size):
        raise StageError(
            f"training.batch_size {training.batch_size} does not suit {devices} GPUs and {train_count} "
            f"training examples; take a multiple of {devices}, at most the number of examples"
        )
    val_pairs, val_count = pairs(fn_args.eval_files, "val")
    augment = random_horizontal_flip if settings.augmentation.horizontal_flip else None
    # A smaller last batch could leave a device with nothing, and batch normalisation without a mean.
    drop_remainder = devices > 1
    train = data.training_batches(
        train_pairs, train_count, size, training.batch_size, drop_remainder, training.seed, augment
    )
    val = val_pairs.batch(training.batch_size).prefetch(tf.data.AUTOTUNE) if val_count else None
    return train, val, train_count


def _network(settings: TrainerSettings, constants: data.Constants, dtype_policy: str) -> keras.Model:
    model = settings.model
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy)
    try:
        return unet(
            (settings.height, settings.width, 3),
            settings.labels.num_classes,
            filters=model.filters,
            depth=model.depth,
            dropout=model.dropout,
            normalization=model.normalization,
            scale=constants.pixel_scale,
            offset=constants.pixel_offset,
        )
    finally:
        keras.config.set_dtype_policy(previous)


def _compile(network: keras.Model, settings: TrainerSettings, constants: data.Constants) -> None:
    training = settings.training
    weights = (
        median_frequency_weights(constants.class_pixels)
        if training.class_weights == "median_frequency"
        else None
    )
    network.compile(
        keras.optimizers.Adam(training.learning_rate),
        SparseCrossEntropy(class_weights=weights),
        metrics=[ResizedMeanIoU(settings.labels.num_classes)],
        # XLA pays on accelerators; on a CPU, TensorFlow's own kernels train U-Nets three times as fast.
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )


def _strategy() -> tf.distribute.Strategy:
    """Every GPU there is, in this process."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(gpus) if len(gpus) > 1 else tf.distribute.get_strategy()


def _mixed_precision(wanted: bool | None) -> bool:
    """Whether to compute in float16: as wanted, otherwise where every GPU has tensor cores for it."""
    if wanted is not None:
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    return bool(capabilities) and min(capabilities) >= (7, 0)


def _training_key(fn_args: FnArgs) -> str:
    """Names a training by everything that goes into it: equal keys share their checkpoints."""
    parts = [
        fn_args.custom_config["settings"],
        *fn_args.train_files,
        *fn_args.eval_files,
        fn_args.transform_output,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _remove_other_trainings(directory: Path) -> None:
    """Checkpoints of other settings or other data will not be asked for again."""
    if directory.parent.is_dir():
        for other in directory.parent.iterdir():
            if other.is_dir() and other != directory and (other / "state.json").exists():
                shutil.rmtree(other)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="segmentation-training-") as path:
        yield Path(path)
