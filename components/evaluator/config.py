"""The recipe's ``evaluation`` block: when a model is good enough to be served."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from components.dataset.labels import LabelSet
from components.settings import Settings

Iou = Annotated[float, Field(ge=0.0, le=1.0)]


class EvaluationConfig(Settings):
    """The gate's thresholds, all on the test split at the masks' own sizes.

    A threshold whose value cannot be measured is not met: its slice does not occur in the test split, or
    its class neither there nor in a prediction; where predictions alone show a class, its IoU is 0. Nor is
    the gate as a whole met where a class has no test pixel, or is never found: a mean over the other
    classes says nothing of it.
    """

    min_mean_iou: Iou = 0.5
    """The mean IoU that a model must reach."""
    min_class_iou: dict[str, Iou] = Field(default_factory=dict)
    """IoU to be reached by single classes, ``{class: IoU}``."""
    min_slice_iou: dict[str, dict[str, Iou]] = Field(default_factory=dict)
    """Mean IoU to be reached on single slices, ``{attribute: {value: IoU}}``: ``{species: {cat: 0.6}}``."""
    allow_unmeasured_classes: tuple[str, ...] = Field(default=(), strict=False)
    """Classes that need no pixel in the test split, and that the model need not find. Where any other
    class has none, or has some of which not one is predicted rightly, the model is refused."""
    max_regression: float | None = Field(default=0.01, ge=0.0, le=1.0)
    """How far the mean IoU of the test split's classes may fall below that of the model now being served;
    null measures that, too, but asks nothing."""
    slices: tuple[str, ...] = Field(default=(), strict=False)
    """Attributes of the dataset for each of whose values the mean IoU, and what the resize leaves of it, are
    reported, too, e.g. ``[species]``."""

    @model_validator(mode="after")
    def _slice_thresholds_have_slices(self) -> Self:
        for attribute in self.min_slice_iou:
            if attribute not in self.slices:
                raise ValueError(
                    f"evaluation.min_slice_iou names the attribute {attribute!r}, which evaluation.slices "
                    f"({', '.join(self.slices) or 'empty'}) does not; add it there or remove the threshold"
                )
        return self

    def check_classes(self, labels: LabelSet) -> None:
        """Checks that every class named exists.

        Raises:
            ValueError: naming the key, the unknown class and the classes there are.
        """
        named = {
            "min_class_iou": self.min_class_iou,
            "allow_unmeasured_classes": self.allow_unmeasured_classes,
        }
        for key, names in named.items():
            for name in names:
                if name not in labels.names:
                    raise ValueError(
                        f"evaluation.{key} names the class {name!r}, which does not exist; "
                        f"the classes are {', '.join(labels.names)}"
                    )


class EvaluatorSettings(Settings):
    """What the Evaluator is handed, but for the code that it runs."""

    evaluation: EvaluationConfig
    labels: LabelSet
