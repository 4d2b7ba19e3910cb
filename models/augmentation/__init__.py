"""Random augmentation of training images, applied to image and mask alike."""

from models.augmentation.random_augmentation import RandomAugmentation

__all__ = ["RandomAugmentation"]
