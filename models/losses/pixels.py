"""A batch's pixels as the losses take them: truth, probabilities, weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from keras import ops


@dataclass(frozen=True)
class Pixels:
    """All pixels of a batch in one row each, with what counts and how much.

    Images have no borders here: every loss sums over the batch, so an image with few counted pixels does
    not speak louder than the others, and a class need not occur in each image.

    Every shape is known as soon as the batch's is, so XLA can compile what is built on it: ignored pixels
    stay in their rows and count 0.

    Attributes:
        logits: float (P, C).
        class_ids: int32 (P,), a valid class, 0 for ignored pixels.
        counted: float (P,), 1, or 0 for ignored pixels.
        class_weights: float (C,), 0 or more.
    """

    logits: Any
    class_ids: Any
    counted: Any
    class_weights: Any

    @classmethod
    def of(
        cls, y_true: Any, y_pred: Any, *, ignore_label: int, class_weights: Sequence[float] | None
    ) -> Self:
        """Lays out a batch.

        Args:
            y_true: class ids (N, H, W), 0 … C-1 or the ignore label, of any type.
            y_pred: logits (N, H, W, C), floating point; what is computed from them keeps their type.
            ignore_label: class id of pixels that do not count.
            class_weights: one factor a class; None is 1 for each.

        Raises:
            ValueError: there are not as many weights as classes.
        """
        num_classes = y_pred.shape[-1]
        if class_weights is None:
            class_weights = [1.0] * num_classes
        if len(class_weights) != num_classes:
            raise ValueError(
                f"{len(class_weights)} class_weights for {num_classes} classes; give one a class"
            )
        class_ids = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        counted = ops.not_equal(class_ids, ignore_label)
        return cls(
            logits=ops.reshape(y_pred, (-1, num_classes)),
            class_ids=ops.where(counted, class_ids, 0),
            counted=ops.cast(counted, y_pred.dtype),
            class_weights=ops.convert_to_tensor(class_weights, y_pred.dtype),
        )

    @cached_property
    def truth(self) -> Any:
        """The true classes one-hot (P, C); ignored pixels are 0 throughout."""
        one_hot = ops.one_hot(self.class_ids, self.logits.shape[-1], dtype=self.logits.dtype)
        return one_hot * self.counted[:, None]

    @cached_property
    def probabilities(self) -> Any:
        """The softmax of the logits (P, C); ignored pixels are 0 throughout and pass no gradient on."""
        return ops.softmax(self.logits) * self.counted[:, None]

    @cached_property
    def class_pixels(self) -> Any:
        """Counted pixels of each true class (C,)."""
        return sum_over_pixels(self.truth)

    def mean_over_pixels(self, values: Any) -> Any:
        """The mean of ``values`` (P,), each pixel weighted as its true class; 0 where nothing counts."""
        return _weighted_mean(values, ops.take(self.class_weights, self.class_ids) * self.counted)

    def mean_over_present_classes(self, values: Any) -> Any:
        """The weighted mean of ``values`` (C,), finite, over the classes that the counted truth shows.

        0 where it shows none.
        """
        present = ops.cast(self.class_pixels > 0, self.class_weights.dtype)
        return _weighted_mean(values, self.class_weights * present)


def sum_over_pixels(values: Any) -> Any:
    """Sums (P, C) over the pixels: (C,).

    Along the last axis, where TensorFlow sums by halves. Along the first it adds one by one: in float32 small
    shares of millions of pixels would be rounded away, and past 16.8 million it would stop counting.
    """
    return ops.sum(ops.transpose(values), axis=-1)


def _weighted_mean(values: Any, weights: Any) -> Any:
    total = ops.sum(weights)
    return ops.sum(weights * values) / ops.where(total > 0, total, 1.0)
