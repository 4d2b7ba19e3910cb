"""The loss of a recipe: terms by name, each with its weight."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import keras
from keras import ops

from models.losses.cross_entropy import cross_entropy, focal
from models.losses.lovasz import lovasz_softmax
from models.losses.overlap import dice, tversky
from models.losses.pixels import Pixels
from models.options import LossName


@keras.saving.register_keras_serializable("segmentation")
class SegmentationLoss(keras.losses.Loss):
    """A weighted sum of the terms that the functions of this package compute.

    Every term is taken over the whole batch, not image by image. Ignored pixels bring neither loss nor
    gradient; where nothing counts, both are exactly 0.

    - ``cross_entropy`` and ``focal`` are means over the counted pixels, each weighted as its true class.
    - ``dice``, ``tversky`` and ``lovasz`` are weighted means over the classes that the counted truth of the
      batch shows. What is wrongly given to a class that it does not show is missing where it belongs, so it
      is punished all the same, but less than what is given to one that it shows: these terms are best
      accompanied by ``cross_entropy``. A pixel of a class of weight 0 is a false positive where it is taken
      for another.

    Call it with ``y_true``, class ids (N, H, W) of any integer type, 0 … C-1 or the ignore label, and
    ``y_pred``, logits (N, H, W, C). The result is a scalar, float32 under mixed precision, too (``call``
    alone returns it as a vector of one); per-image sample weights have nothing to act on. On several
    devices each averages over its own share of the batch.

    Args:
        terms: name → factor, 0 or more, not all 0. Terms of factor 0 cost nothing.
        ignore_label: class id of pixels that do not count.
        class_weights: one factor a class, 0 or more, not all 0; None counts all alike. Only their
            proportions matter.
        label_smoothing: share of the target spread evenly over all classes, 0 … 1 (1 excluded), in
            ``cross_entropy`` and ``focal``. The others compare regions, not targets, and know nothing of it.
        focal_gamma: how strongly ``focal`` fades pixels that are already right, 0 or more.
        tversky_alpha: weight of false positives in ``tversky``, 0 or more.
        tversky_beta: weight of false negatives in ``tversky``, above 0.
        name: name of the loss.
        **kwargs: ``reduction`` and ``dtype`` of `keras.losses.Loss`.

    Raises:
        ValueError: an argument is out of its range, or a term unknown; the message says what would do.

    Example:
        >>> loss = SegmentationLoss({"cross_entropy": 1.0, "dice": 1.0})
        >>> model.compile("adam", loss)
    """

    def __init__(
        self,
        terms: Mapping[LossName, float],
        *,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
        tversky_alpha: float = 0.3,
        tversky_beta: float = 0.7,
        name: str = "segmentation_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        functions: dict[LossName, Callable[[Pixels], Any]] = {
            "cross_entropy": partial(cross_entropy, label_smoothing=label_smoothing),
            "dice": dice,
            "focal": partial(focal, gamma=focal_gamma, label_smoothing=label_smoothing),
            "tversky": partial(tversky, alpha=tversky_alpha, beta=tversky_beta),
            "lovasz": lovasz_softmax,
        }
        if unknown := set(terms) - set(functions):
            raise ValueError(f"terms names {sorted(unknown)}; there are {', '.join(functions)}")
        _check_factors("terms", terms.values())
        if class_weights is not None:
            _check_factors("class_weights", class_weights)
        _check("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "0 … 1, 1 excluded")
        _check("focal_gamma", focal_gamma, focal_gamma >= 0, "0 or more")
        _check("tversky_alpha", tversky_alpha, tversky_alpha >= 0, "0 or more")
        _check("tversky_beta", tversky_beta, tversky_beta > 0, "more than 0")
        self.terms = {term: float(factor) for term, factor in terms.items()}
        self.ignore_label = ignore_label
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.tversky_alpha = tversky_alpha
        self.tversky_beta = tversky_beta
        self._summands = [(factor, functions[term]) for term, factor in self.terms.items() if factor > 0]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        pixels = Pixels.of(y_true, y_pred, ignore_label=self.ignore_label, class_weights=self.class_weights)
        loss = sum(factor * term(pixels) for factor, term in self._summands)
        # Not a scalar: Keras would not scale that to the replica's share of the step.
        return ops.reshape(loss, (1,))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "terms": self.terms,
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
            "tversky_alpha": self.tversky_alpha,
            "tversky_beta": self.tversky_beta,
        }


def _check_factors(name: str, factors: Collection[float]) -> None:
    possible = all(isfinite(factor) and factor >= 0 for factor in factors)
    _check(name, list(factors), possible and any(factors), "factors of 0 or more, not all 0")


def _check(name: str, value: object, possible: bool, wanted: str) -> None:
    if not possible:
        raise ValueError(f"{name} is {value}; give {wanted}")
