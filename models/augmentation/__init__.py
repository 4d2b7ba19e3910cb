"""Changes to training images that leave them believable, applied to image and mask alike."""

from models.augmentation.random_augmentation import RandomAugmentation
from models.augmentation.variants import apply_variant

__all__ = ["RandomAugmentation", "apply_variant"]
