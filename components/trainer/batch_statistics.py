"""The Keras callback that gives batch normalisation its statistics after each epoch."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from components.trainer.optimizers import averaged_weights
from models.batch_statistics import batch_moments, normalizing_layers, set_population_statistics


class PopulationStatistics(keras.callbacks.Callback):
    """Takes batch normalisation's statistics anew over some training images, before anything is measured.

    They are those of the weights that are measured, the averaged ones where the optimiser averages, and
    stay: training reads none of them. With several replicas each process takes them on one of its devices,
    all over the same images. Costs nothing where no batch normalisation trains.

    Args:
        batches: images (N, H, W, channels) uint8, as many in each; not augmented, as what is measured.
    """

    def __init__(self, batches: tf.data.Dataset):
        super().__init__()
        self._batches = batches
        self._fresh = False

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._moments = tf.function(lambda images: batch_moments(self.model, images), autograph=False)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._fresh = False

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._take()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._fresh:  # nothing was validated
            with averaged_weights(self.model):
                self._take()

    def _take(self) -> None:
        if normalizing_layers(self.model):
            set_population_statistics(self.model, [self._moments(images) for images in self._batches])
        self._fresh = True
