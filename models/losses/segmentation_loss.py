"""The loss of a recipe: losses by name, each with its weight and its parameters."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from math import isfinite
from typing import Any

import keras
from keras import ops

from models.losses import LOSSES, WEIGHT
from models.losses.pixels import Pixels


@keras.saving.register_keras_serializable("segmentation")
class SegmentationLoss(keras.losses.Loss):
    """A weighted sum of the losses that are registered in this package.

    Every one is taken over the whole batch, not image by image. Ignored pixels bring neither loss nor
    gradient; where nothing counts, both are exactly 0.

    - ``cross_entropy`` and ``focal`` are means over the counted pixels, each weighted as its true class.
    - ``dice``, ``tversky`` and ``lovasz`` are weighted means over the classes that the counted truth of the
      batch shows. What is wrongly given to a class that it does not show is missing where it belongs, so it
      is punished all the same, but less than what is given to one that it shows: these losses are best
      accompanied by ``cross_entropy``. A pixel of a class of weight 0 is a false positive where it is taken
      for another.

    Call it with ``y_true``, class ids (N, H, W) of any integer type, 0 … C-1 or the ignore label, and
    ``y_pred``, logits (N, H, W, C). The result is a scalar, float32 under mixed precision, too (``call``
    alone returns it as a vector of one); per-image sample weights have nothing to act on. On several
    devices each averages over its own share of the batch.

    Args:
        losses: name → weight, or the loss's parameters by name with ``weight`` among them; what is left out
            has the default that `models.losses.LOSSES` says.
        ignore_label: class id of pixels that do not count.
        class_weights: one factor a class, 0 or more, not all 0; None counts all alike. Only their
            proportions matter.
        name: name of the loss.
        **kwargs: ``reduction`` and ``dtype`` of `keras.losses.Loss`.

    Raises:
        ValueError: a parameter is out of its range, or a name unknown; the message says what would do.

    Example:
        >>> loss = SegmentationLoss({"cross_entropy": 1.0, "tversky": {"weight": 0.5, "alpha": 0.2}})
        >>> model.compile("adam", loss)
    """

    def __init__(
        self,
        losses: Mapping[str, float | Mapping[str, float]],
        *,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        name: str = "segmentation_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not losses:
            raise ValueError(f"there are no losses; choose from {', '.join(LOSSES)}")
        if class_weights is not None and not (
            all(isfinite(weight) and weight >= 0 for weight in class_weights) and any(class_weights)
        ):
            raise ValueError(f"class_weights is {list(class_weights)}; give factors of 0 or more, not all 0")
        self.losses = {name: _complete(name, given) for name, given in losses.items()}
        self.ignore_label = ignore_label
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        self._summands = [_summand(name, parameters) for name, parameters in self.losses.items()]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        pixels = Pixels.of(y_true, y_pred, ignore_label=self.ignore_label, class_weights=self.class_weights)
        loss = sum(weight * function(pixels) for weight, function in self._summands)
        # Not a scalar: Keras would not scale that to the replica's share of the step.
        return ops.reshape(loss, (1,))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "losses": self.losses,
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
        }


def _complete(name: str, given: float | Mapping[str, float]) -> dict[str, float]:
    """Returns all parameters of a loss, ``weight`` first, each within its bounds."""
    if name not in LOSSES:
        raise ValueError(f"there is no loss {name!r}; choose from {', '.join(LOSSES)}")
    known = {"weight": WEIGHT} | LOSSES[name].parameters
    values = given if isinstance(given, Mapping) else {"weight": given}
    if unknown := [parameter for parameter in values if parameter not in known]:
        raise ValueError(f"{name} has no parameter {unknown[0]!r}; there is {', '.join(known)}")
    complete = {key: float(values.get(key, parameter.default)) for key, parameter in known.items()}
    for key, parameter in known.items():
        parameter.check(f"{name}.{key}", complete[key])
    return complete


def _summand(name: str, parameters: Mapping[str, float]) -> tuple[float, Callable[[Pixels], Any]]:
    """Returns a loss's weight, and its function with all other parameters set."""
    function = getattr(import_module(f"models.losses.{LOSSES[name].module}"), name)
    own = {key: value for key, value in parameters.items() if key != "weight"}
    return parameters["weight"], partial(function, **own)
