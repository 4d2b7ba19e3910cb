"""Values that one run of a compiled pipeline gets instead of its defaults."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from pipeline.config import Recipe
from pipeline.recipe_errors import RecipeError, suggestion

RECIPE_KEYS: Final = {
    "data_path": "dataset.root",
    "epochs": "training.epochs",
    "learning_rate": "training.learning_rate",
    "min_mean_iou": "evaluation.min_mean_iou",
    "serving_dir": "kubeflow.serving_root",
}
"""The pipeline's parameters, each with the key of the recipe that may hold the same values."""


def parameter_values(assignments: Sequence[str], load: Callable[[list[str]], Recipe]) -> dict[str, Any]:
    """Returns the parameters' values, each checked as if it stood in the recipe.

    Args:
        assignments: ``NAME=VALUE`` each, the value in YAML; later ones win.
        load: loads the recipe with further ``KEY=VALUE`` on top; raises RecipeError.

    Raises:
        RecipeError: an unknown name, or a value that the recipe would not take.
    """
    overrides = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeError([f"--param {assignment}: write it as NAME=VALUE, such as epochs=10"])
        if name not in RECIPE_KEYS:
            raise RecipeError([f"--param {assignment}: unknown parameter {name!r}{_choices(name)}"])
        overrides[name] = f"{RECIPE_KEYS[name]}={text}"
    try:
        recipe = load(list(overrides.values()))
    except RecipeError as error:
        given = ", ".join(assignments)
        raise RecipeError([f"--param {given}: {line}" for line in str(error).splitlines()]) from None
    return {name: attrgetter(RECIPE_KEYS[name])(recipe) for name in overrides}


def _choices(name: str) -> str:
    close = suggestion(name, RECIPE_KEYS)
    everything = f"there is {', '.join(RECIPE_KEYS)}"
    return close if everything in close else f"{close} ({everything})"
