"""Dice and Tversky loss: losses of a class's overlap of prediction and truth."""

from typing import Any

from keras import ops

from models.losses.pixels import Pixels, sum_over_pixels


def dice(pixels: Pixels) -> Any:
    """One minus the soft Dice coefficient, ``2·sum(p·g) / (sum(p) + sum(g))``, averaged over the classes.

    After Milletari, Navab and Ahmadi 2016 ("V-Net"), with plain sums in the denominator where they sum
    squares (Drozdzal et al. 2016, "The Importance of Skip Connections"). No constant is added to keep
    empty classes from dividing by 0: only classes in the truth are averaged.
    """
    return tversky(pixels, alpha=0.5, beta=0.5)


def tversky(pixels: Pixels, *, alpha: float, beta: float) -> Any:
    """One minus the soft Tversky index, ``TP / (TP + alpha·FP + beta·FN)``, averaged over the classes.

    After Salehi, Erdogmus and Gholipour 2017 ("Tversky Loss Function for Image Segmentation"), with true
    positives, false positives and false negatives of each class summed over the batch as probabilities.
    alpha = beta = 0.5 is Dice, alpha = beta = 1 is Jaccard (IoU).

    Args:
        pixels: the batch.
        alpha: weight of false positives, 0 or more.
        beta: weight of false negatives, above 0.
    """
    true_positives = sum_over_pixels(pixels.truth * pixels.probabilities)
    false_positives = sum_over_pixels(pixels.probabilities) - true_positives
    false_negatives = pixels.class_pixels - true_positives
    denominator = true_positives + alpha * false_positives + beta * false_negatives
    # Above 0 for every class in the truth; the others are not averaged, but must be finite for that.
    index = true_positives / ops.where(pixels.class_pixels > 0, denominator, 1.0)
    return pixels.mean_over_present_classes(1 - index)
