"""What people change from run to run, apart from what a recipe fixes."""

from dataclasses import dataclass
from typing import Self

from tfx.orchestration.data_types import RuntimeParameter

from pipeline.config import Recipe


@dataclass(frozen=True)
class RunParameters:
    """Values for one run; on Kubeflow, parameters of the compiled pipeline, whose fields' names they bear."""

    data_path: str | RuntimeParameter
    """Folder of the dataset, on Kubeflow also a bucket's URI; empty where it is drawn."""
    epochs: int | RuntimeParameter
    learning_rate: float | RuntimeParameter
    min_mean_iou: float | RuntimeParameter
    """The gate's threshold on the whole test split."""
    serving_dir: str | RuntimeParameter
    """The directory a model server watches; versions appear right under it."""

    @classmethod
    def of(cls, recipe: Recipe, serving_dir: str) -> Self:
        """Returns the recipe's own values."""
        return cls(
            data_path=recipe.dataset.root or "",
            epochs=recipe.training.epochs,
            learning_rate=recipe.training.learning_rate,
            min_mean_iou=recipe.evaluation.min_mean_iou,
            serving_dir=serving_dir,
        )
