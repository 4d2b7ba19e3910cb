"""The metrics' names in TFMA's output."""

from typing import Final

MEAN_IOU: Final = "mean_iou"
MEAN_DICE: Final = "mean_dice"
PIXEL_ACCURACY: Final = "pixel_accuracy"
FREQUENCY_WEIGHTED_IOU: Final = "frequency_weighted_iou"
EXAMPLES: Final = "examples"
CONFUSION_MATRIX: Final = "confusion_matrix"
"""int64 [C, C], rows true classes, columns predicted ones."""
INVALID_MASKS: Final = "invalid_masks"
"""Only there if masks could not be counted: how many, and the first one's story."""
UNMEASURED_CLASSES: Final = "unmeasured_classes"
"""How many classes have no pixel in the ground truth, those left out that may have none."""
UNPREDICTED_CLASSES: Final = "unpredicted_classes"
"""How many classes have pixels in the ground truth but were predicted nowhere, those left out that may be."""

IOU_PREFIX: Final = "iou/"
"""A class's IoU is under this prefix and its name."""
DICE_PREFIX: Final = "dice/"
"""A class's Dice coefficient is under this prefix and its name."""
