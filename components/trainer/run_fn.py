"""User code of TFX's Trainer: reads the data, builds the network, fits and exports it."""

import logging
from pathlib import Path

import keras
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components.errors import StageError
from components.serving.config import ServingLimits
from components.trainer.batch_statistics import PopulationStatistics
from components.trainer.checkpoints import Checkpoints, LeavesOutUncounted
from components.trainer.config import Constants, TrainerSettings, untrained_classes
from components.trainer.data import Examples
from components.trainer.decoding import read_constants
from components.trainer.directory import PIXELS, training_directory
from components.trainer.distribution import check_same_start, is_chief, replicated, training_strategy
from components.trainer.export import export
from components.trainer.hardware import compiles_steps, devices, training_policy
from components.trainer.network import (
    DropoutByEpoch,
    build_network,
    build_served_network,
    compile_network,
    whole_picture_stride,
    with_test_time_augmentation,
)
from components.trainer.optimizers import (
    ValidateAveragedWeights,
    build_optimizer,
    doubt_about_average,
    phases,
)
from components.trainer.progress_callback import Progress
from components.trainer.record import TrainingRecord, write_record
from models.encoder_unet import unfreeze
from models.folded_normalization import fold_batch_normalization

logger = logging.getLogger(__name__)


def run_fn(fn_args: FnArgs) -> None:
    """Trains the recipe's network and exports the epoch that did best on the val split.

    Args:
        fn_args: what TFX hands over; its ``custom_config`` has ``settings``, a ``TrainerSettings``, and
            may have ``limits``, a ``ServingLimits``: other limits need no other training.

    Raises:
        StageError: the training split is empty, or ignored throughout, the model cannot be built, the loss is
            no longer a number, or the machines that train together do not start from the same.
    """
    settings: TrainerSettings = fn_args.custom_config["settings"]
    limits: ServingLimits = fn_args.custom_config.get("limits") or ServingLimits()
    training = settings.training
    if settings.model.freeze_encoder and settings.model.encoder_weights is None:
        logger.warning(
            "model.freeze_encoder is true, but model.encoder_weights is null: the frozen encoder has "
            "random weights and knows nothing; set model.encoder_weights to imagenet, or "
            "model.freeze_encoder to false"
        )
    # First of all: joining other machines must precede whatever TensorFlow computes.
    strategy = training_strategy()
    graph = tft.TFTransformOutput(fn_args.transform_output)
    constants = read_constants(graph)
    if not any(constants.class_pixels):
        raise StageError("every pixel of the train split is ignored: there is nothing to learn")
    keras.utils.set_random_seed(training.seed)
    untrained = untrained_classes(settings.labels, constants)
    if untrained:
        logger.warning(
            "the training split has no pixel of %s: no number of epochs can teach what it never shows; give "
            "it images that do, see whether dataset.classes and the masks agree, or leave the classes out",
            ", ".join(untrained),
        )

    with training_directory(fn_args, settings, constants) as directory:
        checkpoints = Checkpoints(directory, training.early_stopping_patience)
        if settings.checkpoint_dir is not None:
            check_same_start(strategy, directory.name, checkpoints.digest, settings.checkpoint_dir)
        examples = Examples(fn_args, settings, graph, strategy.num_replicas_in_sync, directory / PIXELS)
        record = TrainingRecord(directory, examples.shown, settings.labels)
        with strategy.scope():
            network = build_network(settings, constants, training_policy(training))
        network = replicated(network, strategy)
        logger.info("%s parameters, %d training examples", f"{network.count_params():,}", examples.count)
        logger.info("training on %s", devices())
        with strategy.scope():
            train(network, settings, constants, examples, checkpoints, record)
        if not is_chief():
            return
        served = build_served_network(settings, constants)
        checkpoints.load_best(served)
        write_record(directory, checkpoints.history, untrained, Path(fn_args.model_run_dir))

    epochs, best = checkpoints.history.epochs, checkpoints.history.best_epoch
    logger.info("exporting epoch %d of %d", best + 1, len(epochs))
    export(
        with_test_time_augmentation(fold_batch_normalization(served), settings),
        graph,
        settings.input_size,
        settings.labels,
        limits,
        settings.reading,
        settings.made_from(),
        Path(fn_args.serving_model_dir),
        whole_picture_stride(served, settings),
    )


def train(
    network: keras.Model,
    settings: TrainerSettings,
    constants: Constants,
    examples: Examples,
    checkpoints: Checkpoints,
    record: TrainingRecord,
) -> None:
    """Trains what the checkpoints do not hold yet, phase by phase.

    The second phase starts from the first one's best epoch, with everything trainable and a fresh optimiser.
    """
    training = settings.training
    planned = phases(training)
    leaves_out_uncounted = LeavesOutUncounted()
    for phase in planned:
        if checkpoints.last_phase > phase.number:
            continue
        if phase.number == 2:
            unfreeze(network)
            if checkpoints.last_phase == 1:
                checkpoints.load_best(network)
        begun = checkpoints.last_phase == phase.number
        epochs = range(checkpoints.epochs_done, checkpoints.begin_phase(phase.number) + phase.epochs)
        if not epochs or checkpoints.history.has_stalled(phase.number):
            continue
        if doubt := doubt_about_average(training, phase.epochs * examples.steps_per_epoch):
            logger.warning(doubt)
        optimizer = build_optimizer(training, phase, examples.steps_per_epoch)
        compile_network(network, settings, constants, optimizer, compiles_steps(training))
        if begun:
            logger.info("going on after epoch %d", checkpoints.epochs_done)
            checkpoints.restore(network, examples.steps_per_epoch)
        last_epoch = epochs.stop + sum(later.epochs for later in planned[phase.number :])
        network.fit(
            examples.train(epochs),
            steps_per_epoch=examples.steps_per_epoch,
            validation_data=examples.val,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            callbacks=[
                DropoutByEpoch(training.seed),
                ValidateAveragedWeights(),
                PopulationStatistics(examples.for_statistics),
                leaves_out_uncounted,
                Progress(last_epoch, examples.count_an_epoch),
                record,
                checkpoints,
            ],
            shuffle=False,
            verbose=0,
        )
