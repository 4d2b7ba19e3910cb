"""Cross-entropy and focal loss: losses of single pixels."""

from typing import Any

import keras
from keras import ops

from models.losses.pixels import Pixels


def cross_entropy(pixels: Pixels, *, label_smoothing: float = 0.0) -> Any:
    """The cross-entropy of Ronneberger, Fischer and Brox 2015 ("U-Net"), averaged over the pixels.

    ``sum(w · -log p[t]) / sum(w)`` for pixels of true class ``t``, where ``w`` is the weight of that class.

    Args:
        pixels: the batch.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016,
            "Rethinking the Inception Architecture"), 0 … 1.
    """
    return focal(pixels, gamma=0.0, label_smoothing=label_smoothing)


def focal(pixels: Pixels, *, gamma: float, label_smoothing: float = 0.0) -> Any:
    """The focal loss of Lin et al. 2017 ("Focal Loss for Dense Object Detection").

    ``sum(w · (1 - p[t])^gamma · -log p[t]) / sum(w)``: cross-entropy in which pixels that are already
    right count little. The class weights ``w`` are the paper's alpha. The paper divides by the number of
    anchors assigned to objects; here every counted pixel has a class, so the sum of the weights takes its
    place.

    Args:
        pixels: the batch.
        gamma: how strongly easy pixels fade; 0 is cross-entropy.
        label_smoothing: share of the target spread evenly over all classes, each of which brings its own
            ``(1 - p)^gamma · -log p``.
    """
    # Not log_softmax at the true class: this is one fused kernel, gradient included.
    loss = ops.sparse_categorical_crossentropy(pixels.class_ids, pixels.logits, from_logits=True)
    loss = _faded(loss, gamma)
    if label_smoothing:
        of_all_classes = ops.mean(_faded(-ops.log_softmax(pixels.logits), gamma), axis=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * of_all_classes
    return pixels.mean_over_pixels(loss)


def _faded(negative_log: Any, gamma: float) -> Any:
    """Returns ``(1 - p)^gamma · -log p``, given ``-log p``."""
    if gamma == 0:
        return negative_log
    # expm1 is exact where p is so near to 1 that 1 - p is not. At 0, powers below 1 have no finite slope.
    complement = ops.maximum(-ops.expm1(-negative_log), keras.config.epsilon())
    return ops.power(complement, gamma) * negative_log
