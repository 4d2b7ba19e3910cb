"""The network of a recipe, ready to be fitted; Keras alone, whatever its backend."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.files import sha256
from components.trainer.config import Constants, TrainerSettings
from components.trainer.optimizers import spare_vectors
from components.trainer.training_config import TrainingConfig
from models.class_weights import class_weights
from models.encoder_unet import encoder_unet
from models.fully_convolutional import is_fully_convolutional
from models.losses.segmentation_loss import SegmentationLoss
from models.resized_mean_iou import ResizedMeanIoU
from models.test_time_augmentation import average_augmented
from models.unet import unet


def build_network(
    settings: TrainerSettings, constants: Constants, dtype_policy: str, *, any_size: bool = False
) -> keras.Model:
    """Returns the network with fresh weights, those of an encoder's ``encoder_weights`` loaded.

    Args:
        settings: the recipe's part for the Trainer.
        constants: what the transform graph learnt, the normalisation among it.
        dtype_policy: ``float32``, ``mixed_float16`` or ``mixed_bfloat16``.
        any_size: take images of any height and width that the network's stride divides, not of one only.

    Raises:
        StageError: the settings make no network, or the encoder's weights cannot be had or are others than
            when the pipeline was composed.
    """
    model = settings.model
    size = (None, None) if any_size else (settings.height, settings.width)
    input_shape = (*size, settings.channels)
    common: dict[str, Any] = {
        "filters": model.filters,
        "dropout": model.dropout,
        "normalization": model.normalization,
        "upsampling": model.upsampling,
        "joining": model.joining,
        "head_convolution": model.head_convolution,
        "scale": constants.pixel_scale,
        "offset": constants.pixel_offset,
    }
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy)
    try:
        if model.encoder is None:
            return unet(
                input_shape,
                settings.labels.num_classes,
                depth=model.levels,
                strided_stem=model.strided_stem,
                **common,
            )
        network = encoder_unet(
            input_shape,
            settings.labels.num_classes,
            encoder=model.encoder,
            encoder_weights=model.encoder_weights,
            freeze_encoder=model.freeze_encoder,
            **common,
        )
    except ValueError as error:
        raise StageError(f"the recipe's model cannot be built: {error}") from error
    finally:
        keras.config.set_dtype_policy(previous)
    _check_weights(settings)
    return network


def _check_weights(settings: TrainerSettings) -> None:
    """To be called once they are loaded: what was loaded before could still change."""
    path, expected = settings.model.encoder_weights, settings.encoder_digest
    if path is not None and expected and sha256(Path(path)) != expected:
        raise StageError(f"model.encoder_weights: {path} changed after the run had begun; run again")


def build_served_network(settings: TrainerSettings, constants: Constants) -> keras.Model:
    """Returns the network whose weights will be set and which will be served.

    In float32 and outside of any strategy: it runs on one device, with or without a GPU. Not compiled:
    a SavedModel would carry the optimiser's state along, twice the weights again. Of any size where it may
    see others than that of the recipe.
    """
    model = settings.model.model_copy(update={"encoder_weights": None})
    unloaded = settings.model_copy(update={"model": model})
    any_size = settings.input_size.method == "native" or bool(model.test_time_augmentation.scales)
    return build_network(unloaded, constants, "float32", any_size=any_size)


def whole_picture_stride(network: keras.Model, settings: TrainerSettings) -> int | None:
    """Returns the stride of a served network that may see more than a window at once; None if it may not."""
    if settings.model.test_time_augmentation.scales or not is_fully_convolutional(network):
        return None
    return settings.model.stride


def with_test_time_augmentation(network: keras.Model, settings: TrainerSettings) -> keras.Model:
    """Returns the served network averaged over flips and scales, as far as the recipe wants it."""
    wanted = settings.model.test_time_augmentation
    if not wanted.horizontal_flip and not wanted.scales:
        return network
    input_shape = (settings.height, settings.width, settings.channels)
    return average_augmented(
        network,
        input_shape if wanted.scales else network.input_shape[1:],
        horizontal_flip=wanted.horizontal_flip,
        scales=wanted.scales,
        stride=settings.model.stride,
    )


def compile_network(
    network: keras.Model,
    settings: TrainerSettings,
    constants: Constants,
    optimizer: keras.optimizers.Optimizer,
    jit_compile: bool,
) -> None:
    """Gives the network a fresh optimiser, its loss, and the metric that chooses the checkpoint."""
    training = settings.training
    spare_vectors(optimizer, network.trainable_variables)
    loss = SegmentationLoss(
        training.loss.model_dump(),
        ignore_label=IGNORE_LABEL,
        class_weights=_class_weights(training, constants),
    )
    network.compile(
        optimizer,
        loss,
        metrics=[ResizedMeanIoU(settings.labels.num_classes, ignore_label=IGNORE_LABEL)],
        jit_compile=jit_compile,
    )
    # Before the first step: one that makes variables is traced a second time, and what a checkpoint holds of
    # an optimiser goes into variables that are there.
    network.optimizer.build(network.trainable_variables)


class DropoutByEpoch(keras.callbacks.Callback):
    """Makes what dropout drops a function of seed, epoch and step.

    Keras counts its calls since the start of the process, which an interrupted training cannot go on
    counting, and which no checkpoint holds.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for index, state in enumerate(states):
            [word] = np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)
            state.assign(np.array([word, 0], state.dtype))


def _class_weights(training: TrainingConfig, constants: Constants) -> list[float] | None:
    if training.class_weights == "none":
        return None
    if isinstance(training.class_weights, tuple):
        return list(training.class_weights)
    return class_weights(training.class_weights, constants.class_pixels)
