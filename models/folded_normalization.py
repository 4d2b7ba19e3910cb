"""Batch normalisation put into the convolutions before it, for networks that do not train any more."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from models.fully_convolutional import operations_of

_CONVOLUTIONS: Final = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)


def fold_batch_normalization(network: keras.Model) -> keras.Model:
    """Returns a network that answers as this one does outside of training, with fewer operations.

    Outside of training batch normalisation multiplies each channel and adds to it, and so do the kernel and
    the bias of a convolution: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3.2. Normalisation stays where anything else is before it, or
    where the convolution's own result is needed, too. Answers differ by rounding.

    Args:
        network: a functional model, whose layers may be functional models; it is not changed.
    """
    norms = dict(_folds(network))
    folded = set(norms.values())
    copies: list[tuple[keras.Layer, keras.Layer]] = []

    def copy(layer: keras.Layer) -> keras.Layer:
        if layer in folded:
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if layer in norms:
            config["use_bias"] = True
        made = layer.__class__.from_config(config)
        # Not arithmetic on tensors, which has no weights.
        if isinstance(layer, keras.Layer):
            copies.append((layer, made))
        return made

    def call(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if isinstance(layer, keras.layers.Identity) else layer(*inputs, **options)

    result = keras.models.clone_model(network, clone_function=copy, call_function=call, recursive=True)
    for layer, made in copies:
        if layer in norms:
            made.set_weights(_folded_weights(layer, norms[layer]))
        else:
            made.set_weights(layer.get_weights())
    return result


def _folds(model: keras.Model) -> Iterator[tuple[keras.Layer, keras.layers.BatchNormalization]]:
    """The convolutions with what normalises all that they give and nothing else."""
    nodes = [node for operation in operations_of(model) for node in operation._inbound_nodes]
    makers = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(map(id, model.outputs))
    for operation in operations_of(model):
        if isinstance(operation, keras.Model):
            yield from _folds(operation)
        if not isinstance(operation, keras.layers.BatchNormalization) or len(operation._inbound_nodes) > 1:
            continue
        tensor = operation.input
        maker = makers.get(id(tensor))
        if (
            maker is not None
            and type(maker) in _CONVOLUTIONS
            and readers[id(tensor)] == 1
            and len(maker._inbound_nodes) == 1
            and maker.activation is keras.activations.linear
            and operation.axis in (-1, len(tensor.shape) - 1)
        ):
            yield maker, operation


def _folded_weights(layer: keras.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Returns the kernel and the bias that do both."""

    def values(variable: object, default: float) -> np.ndarray:
        given = np.full(norm.moving_mean.shape, default) if variable is None else variable
        return np.asarray(ops.convert_to_numpy(given), np.float64)

    kernel = values(layer.kernel, 0.0)
    scale = values(norm.gamma, 1.0) / np.sqrt(values(norm.moving_variance, 1.0) + norm.epsilon)
    bias = values(norm.beta, 0.0) + (values(layer.bias, 0.0) - values(norm.moving_mean, 0.0)) * scale
    # Where a kernel has the channels of the result.
    match layer:
        case keras.layers.DepthwiseConv2D():
            factors = scale.reshape(kernel.shape[-2:])
        case keras.layers.Conv2DTranspose():
            factors = scale[:, np.newaxis]
        case _:
            factors = scale
    return [kernel * factors, bias]
