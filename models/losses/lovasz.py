"""The Lovász-softmax loss, a surrogate of IoU."""

from typing import Any

from keras import ops

from models.losses.pixels import Pixels


def lovasz(pixels: Pixels) -> Any:
    """The Lovász-softmax loss of Berman, Triki and Blaschko 2018, averaged over the classes.

    For each class, the Lovász extension of the Jaccard loss ``1 - IoU``, from sets of wrong pixels to
    errors in 0 … 1: the errors ``|g - p|`` of all pixels, sorted from the largest, each times what its pixel
    adds to the Jaccard loss after the ones before it. Where probabilities are 0 or 1, it is 1 - IoU.

    It sorts all pixels once a class, which makes it the dearest loss by far.
    """
    truth = ops.transpose(pixels.truth)
    # 0 for ignored pixels, which come last and bring nothing.
    errors = ops.abs(truth - ops.transpose(pixels.probabilities))
    order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
    errors = ops.take_along_axis(errors, order, axis=-1)
    steps = _jaccard_steps(ops.take_along_axis(truth, order, axis=-1))
    return pixels.mean_over_present_classes(ops.sum(errors * steps, axis=-1))


def _jaccard_steps(truth: Any) -> Any:
    """What each pixel adds to the Jaccard loss if it is wrong, and all before it are.

    A wrong pixel of the class leaves the intersection (I), another's joins the union (U). The steps are
    written out, ``1/U`` and ``I/(U-1) - I/U``, as one fraction each: differences of the running Jaccard
    loss would lose most of their digits to rounding, a million pixels in.

    Args:
        truth: float (C, P), 1 for the pixels of the class, 0 for others.
    """
    # Integers: float32 would stop counting at 16.8 million pixels.
    members = ops.cast(truth, "int32")
    size = ops.sum(members, axis=-1, keepdims=True)
    intersection = ops.cast(size - ops.cumsum(members, axis=-1), truth.dtype)
    union = ops.cast(size + ops.cumsum(1 - members, axis=-1), truth.dtype)
    # The union before the pixel joined; 0 only for classes that no pixel has.
    union_before = ops.maximum(union - 1, 1)
    return ops.where(members == 1, 1 / union, intersection / (union * union_before))
