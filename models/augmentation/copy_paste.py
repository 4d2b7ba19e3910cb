"""Objects of one image on another."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def copy_paste(images: Any, masks: Any, class_ids: Sequence[int], chosen: Any) -> tuple[Any, Any]:
    """Pastes what the next image of the batch shows of some classes onto each image that is chosen.

    The simple form of Ghiasi et al. (2021), "Simple copy-paste is a strong data augmentation method": what is
    pasted has been moved, scaled and coloured on its own already, and its edges are not blended.

    Args:
        images: (N, H, W, channels).
        masks: class ids (N, H, W).
        class_ids: the classes that are pasted.
        chosen: bool (N,), the images that are pasted onto.

    Returns:
        Images and masks of the same shapes and dtypes.
    """
    next_images, next_masks = ops.roll(images, -1, axis=0), ops.roll(masks, -1, axis=0)
    pasted = ops.zeros_like(masks, dtype="bool")
    for class_id in class_ids:
        pasted = ops.logical_or(pasted, next_masks == ops.cast(class_id, masks.dtype))
    pasted = ops.logical_and(pasted, chosen[:, None, None])
    return ops.where(pasted[..., None], next_images, images), ops.where(pasted, next_masks, masks)
