"""The statistics that batch normalisation uses outside of training, taken over a population of images.

Keras keeps moving averages over the batches of training. They are of weights that have changed since, of
augmented images, and mostly of the last dozen batches, a small last one among them: with few steps an epoch,
what is validated and exported is as much their luck as what was learnt. Here they are computed from the
weights as they are, as Wu and Johnson 2021 propose ("Rethinking 'Batch' in BatchNorm", "PreciseBN").
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

Moments = Sequence[tuple[Any, Any]]
"""Mean and variance of a batch, (channels,) each, for each layer."""


def normalizing_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns the batch normalisation that trains, of nested models, too; what is frozen keeps its own."""
    return [
        layer
        for layer in _layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def batch_moments(model: keras.Model, images: Any) -> Moments:
    """Returns the moments of a batch at each of the `normalizing_layers`, which all normalise by their own.

    Nothing is dropped: these shall be the statistics of inference. The moving statistics are written over.

    Args:
        model: takes ``images``.
        images: (N, H, W, channels), as in training.
    """
    layers = normalizing_layers(model)
    with _as_they_are(model):
        for layer in layers:
            # A number that is none would remain one however little of it is kept.
            for variable in (layer.moving_mean, layer.moving_variance):
                variable.assign(ops.zeros_like(variable))
        model(images, training=True)
        return [(ops.copy(layer.moving_mean), ops.copy(layer.moving_variance)) for layer in layers]


def set_population_statistics(model: keras.Model, batches: Sequence[Moments]) -> None:
    """Gives each of the `normalizing_layers` the moments of all batches together.

    The variance of a population is the mean of its batches' variances plus the variance of their means.

    Args:
        model: whose moving statistics are set.
        batches: what `batch_moments` returned for some batches of the same number of images.
    """
    for index, layer in enumerate(normalizing_layers(model)):
        means, variances = (
            np.array([ops.convert_to_numpy(moments[index][part]) for moments in batches], np.float64)
            for part in (0, 1)
        )
        layer.moving_mean.assign(means.mean(axis=0))
        layer.moving_variance.assign(variances.mean(axis=0) + means.var(axis=0))


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


@contextmanager
def _as_they_are(model: keras.Model) -> Iterator[None]:
    """Within, a call in training mode keeps nothing of earlier moving statistics, and drops no features."""
    with ExitStack() as restored:
        for layer in _layers(model):
            for kind, name in ((keras.layers.BatchNormalization, "momentum"), (keras.layers.Dropout, "rate")):
                if isinstance(layer, kind):
                    restored.callback(setattr, layer, name, getattr(layer, name))
                    setattr(layer, name, 0.0)
        yield
