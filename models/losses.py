"""What training minimises."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("segmentation")
class SparseCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits against class ids, averaged over the pixels that count.

    ``sum(w · ce) / sum(w)`` over all pixels of the batch, where ``w`` is the weight of the pixel's
    true class and 0 for ignored pixels. The average is over pixels, not over images: an image with few
    counted pixels does not speak louder than the others. Where nothing counts, the loss and its
    gradients are 0.

    Call it with ``y_true``, integer class ids (N, H, W), and ``y_pred``, logits (N, H, W, C). The result
    is a scalar, so per-image sample weights have nothing to act on. On several devices each averages
    over its own share of the batch.

    Args:
        ignore_label: class id of pixels that do not count.
        class_weights: one factor a class, 0 or more, not all 0; None counts all alike.
        name: name of the loss.
        **kwargs: ``reduction`` and ``dtype`` of `keras.losses.Loss`.

    Raises:
        ValueError: the weights are negative or all 0.
    """

    def __init__(
        self,
        *,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        name: str = "sparse_cross_entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if class_weights is not None and (min(class_weights) < 0 or max(class_weights) == 0):
            raise ValueError(f"class_weights is {list(class_weights)}; give factors of 0 or more, not all 0")
        self.ignore_label = ignore_label
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        num_classes = y_pred.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            given = len(self.class_weights)
            raise ValueError(f"{given} class_weights for {num_classes} classes; give one a class")
        class_ids = ops.cast(y_true, "int32")
        counted = ops.not_equal(class_ids, self.ignore_label)
        # Any valid class will do where nothing counts: the weight of the pixel is 0.
        class_ids = ops.where(counted, class_ids, 0)
        weights = ops.cast(counted, y_pred.dtype)
        if self.class_weights is not None:
            weights = weights * ops.take(ops.convert_to_tensor(self.class_weights, y_pred.dtype), class_ids)
        cross_entropy = ops.sparse_categorical_crossentropy(class_ids, y_pred, from_logits=True)
        total = ops.sum(weights)
        return ops.sum(weights * cross_entropy) / ops.where(total > 0, total, 1.0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"ignore_label": self.ignore_label, "class_weights": self.class_weights}


def median_frequency_weights(pixel_counts: Sequence[int]) -> list[float]:
    """Returns weights that let rare classes speak as loudly as common ones.

    The weight of a class is the median of the class frequencies over its own: below 1 for the common
    classes, above 1 for the rare ones. After Eigen and Fergus 2015 ("Predicting Depth, Surface Normals
    and Semantic Labels"), as used in SegNet (Badrinarayanan et al. 2015). They measure a class's frequency
    in the images that show it; here it is its share of all counted pixels, which one pass over the
    masks gives.

    A class without a pixel has no frequency. It is left out of the median and weighs 0: training cannot
    learn it, and where it appears only in the validation split, it must not drown the rest.

    Args:
        pixel_counts: pixels of each class in the training split, ignored ones left out.

    Raises:
        ValueError: no class has a pixel.
    """
    present = [count for count in pixel_counts if count > 0]
    if not present:
        raise ValueError("no class has a pixel; class weights need masks with at least one counted pixel")
    middle = median(present)
    return [middle / count if count > 0 else 0.0 for count in pixel_counts]
