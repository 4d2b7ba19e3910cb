"""The network of a recipe, ready to be fitted on the devices there are."""

import keras
import tensorflow as tf

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.trainer.config import TrainerSettings
from components.trainer.data import Constants
from models.losses import SparseCrossEntropy, median_frequency_weights
from models.metrics import ResizedMeanIoU
from models.unet import unet


def build_network(settings: TrainerSettings, constants: Constants, dtype_policy: str) -> keras.Model:
    """Returns the network with fresh weights.

    Args:
        settings: the recipe's part for the Trainer.
        constants: what the transform graph learnt, the normalisation among it.
        dtype_policy: ``float32`` or ``mixed_float16``.
    """
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


def compile_network(network: keras.Model, settings: TrainerSettings, constants: Constants) -> None:
    """Gives the network its optimiser, its loss, and the metric that chooses the checkpoint."""
    training = settings.training
    weights = None
    if training.class_weights == "median_frequency":
        if not any(constants.class_pixels):
            raise StageError("every pixel of the train split is ignored: there is nothing to learn")
        weights = median_frequency_weights(constants.class_pixels)
    network.compile(
        keras.optimizers.Adam(training.learning_rate),
        SparseCrossEntropy(ignore_label=IGNORE_LABEL, class_weights=weights),
        metrics=[ResizedMeanIoU(settings.labels.num_classes, ignore_label=IGNORE_LABEL)],
        # XLA pays on accelerators; on a CPU, TensorFlow's own kernels train U-Nets three times as fast.
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )


def all_devices() -> tf.distribute.Strategy:
    """Every GPU there is, in this process; the CPU where there is none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(gpus) if len(gpus) > 1 else tf.distribute.get_strategy()


def training_policy(mixed_precision: bool | None) -> str:
    """The dtype policy to train with: as wanted, else float16 where every GPU has tensor cores for it."""
    if mixed_precision is None:
        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        mixed_precision = bool(gpus) and min(gpu.get("compute_capability", (0, 0)) for gpu in details) >= (
            7,
            0,
        )
    return "mixed_float16" if mixed_precision else "float32"
