"""The Keras metric that chooses the checkpoint: mean IoU at the network's input size."""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("segmentation")
class ResizedMeanIoU(keras.metrics.Metric):
    """Mean IoU at the network's input size, for choosing a checkpoint.

    Masks are compared as resized for the network, so the number is near, but not equal to, the mean
    IoU at original resolution by which models are judged; hence its name. One confusion matrix is
    summed over everything seen since the last reset; the mean is over the classes that occur in the truth
    or in the predictions, NaN while nothing was counted.

    Update it with ``y_true``, integer class ids (N, H, W), and ``y_pred``, logits (N, H, W, C).

    Args:
        num_classes: C.
        ignore_label: class id of pixels that do not count.
        name: name in the training history.
        **kwargs: ``dtype`` of `keras.metrics.Metric`.
    """

    def __init__(
        self, num_classes: int, *, ignore_label: int = 255, name: str = "iou_at_input_size", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        # Integers: float32 would stop counting at 16.8 million pixels a cell.
        self.confusion_matrix = self.add_variable(
            (num_classes, num_classes), initializer="zeros", dtype="int64", name="confusion_matrix"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if sample_weight is not None:
            raise ValueError(
                "sample_weight is not supported; use the ignore label for pixels that do not count"
            )
        classes = y_pred.shape[-1]
        if classes != self.num_classes:
            raise ValueError(f"logits for {classes} classes; this metric was made for {self.num_classes}")
        truth = ops.cast(y_true, "int32")
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        cells = self.num_classes**2
        # Ignored pixels fall into one extra cell, which is cut off.
        cell = ops.where(truth == self.ignore_label, cells, truth * self.num_classes + predicted)
        cell = ops.reshape(cell, (-1,))
        # Not ops.bincount: the size of its result depends on the data, which XLA cannot compile.
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 1)[:cells]
        counts = ops.reshape(counts, (self.num_classes, self.num_classes))
        self.confusion_matrix.assign_add(ops.cast(counts, self.confusion_matrix.dtype))

    def result(self) -> Any:
        matrix = ops.convert_to_tensor(self.confusion_matrix)
        intersection = ops.cast(ops.diagonal(matrix), "float64")
        union = ops.cast(ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1), "float64") - intersection
        present = union > 0
        iou = ops.where(present, intersection / ops.where(present, union, 1.0), 0.0)
        classes = ops.sum(ops.cast(present, "float64"))
        mean = ops.where(classes > 0, ops.sum(iou) / ops.maximum(classes, 1.0), math.nan)
        return ops.cast(mean, self.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_classes": self.num_classes, "ignore_label": self.ignore_label}
