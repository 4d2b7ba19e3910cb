"""Values that one run of a compiled pipeline gets instead of its defaults."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from components.bucket import is_remote
from components.run_parameters import DATA_PATH, RECIPE_KEYS, SERVING_DIR
from pipeline.config import Recipe
from pipeline.recipe_errors import RecipeError, suggestion

PARAMETER_KEYS: Final = RECIPE_KEYS | {SERVING_DIR: "kubeflow.serving_root"}
"""The pipeline's parameters, each with the key of the recipe that may hold the same values."""


def parameter_values(assignments: Sequence[str], load: Callable[[list[str]], Recipe]) -> dict[str, Any]:
    """Returns the parameters' values, each checked as if it stood in the recipe.

    Args:
        assignments: ``NAME=VALUE`` each, the value in YAML; later ones win.
        load: loads the recipe with further ``KEY=VALUE`` on top; raises RecipeError.

    Raises:
        RecipeError: an unknown name, a value that the recipe would not take, or data that the pipeline as
            compiled cannot read.
    """
    overrides = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeError([f"--param {assignment}: write it as NAME=VALUE, such as epochs=10"])
        if name not in PARAMETER_KEYS:
            raise RecipeError([f"--param {assignment}: unknown parameter {name!r}{_choices(name)}"])
        overrides[name] = f"{PARAMETER_KEYS[name]}={text}"
    try:
        recipe = load(list(overrides.values()))
    except RecipeError as error:
        given = ", ".join(assignments)
        raise RecipeError([f"--param {given}: {line}" for line in str(error).splitlines()]) from None
    if DATA_PATH in overrides:
        compiled = load([])
        if compiled.kubeflow.copy_bucket:
            _check_data_path(recipe.dataset.root or "", compiled.dataset.root or "")
    return {name: attrgetter(PARAMETER_KEYS[name])(recipe) for name in overrides}


def _check_data_path(given: str, compiled: str) -> None:
    """Raises RecipeError where the one is in an object store and the other is not.

    The task that fetches data from an object store is in the pipeline or it is not.
    """
    if is_remote(given) != is_remote(compiled):
        what = "bucket" if is_remote(compiled) else "folder of a volume"
        raise RecipeError(
            [
                f"--param data_path={given}: the pipeline is compiled to read a {what}, {compiled}; "
                f"with --data {given} it is compiled to read this"
            ]
        )


def _choices(name: str) -> str:
    close = suggestion(name, PARAMETER_KEYS)
    everything = f"there is {', '.join(PARAMETER_KEYS)}"
    return close if everything in close else f"{close} ({everything})"
