"""What people change from one run to the next: a table of it, and the one way of its values to the stages.

The stages' settings are fixed when a pipeline is compiled, and hold none of these values. A run's own come as
execution properties, so that an orchestrator may set them and TFX's cache knows them; a stage puts them into
its settings with `settings_of_run` and reads them nowhere else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from components.errors import StageError

if TYPE_CHECKING:
    from tfx.orchestration.data_types import RuntimeParameter

DATA_PATH: Final = "data_path"
EPOCHS: Final = "epochs"
LEARNING_RATE: Final = "learning_rate"
MIN_MEAN_IOU: Final = "min_mean_iou"
SERVING_DIR: Final = "serving_dir"

RECIPE_KEYS: Final = {
    DATA_PATH: "dataset.root",
    EPOCHS: "training.epochs",
    LEARNING_RATE: "training.learning_rate",
    MIN_MEAN_IOU: "evaluation.min_mean_iou",
}
"""Each parameter with the recipe's key whose value it is. ``serving_dir`` is made from several."""

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class RunParameters:
    """Values for one run; on Kubeflow, parameters of the compiled pipeline, whose fields' names they bear."""

    data_path: "str | RuntimeParameter"
    """Folder of the dataset, here or in a bucket; empty where it is drawn."""
    epochs: "int | RuntimeParameter"
    learning_rate: "float | RuntimeParameter"
    min_mean_iou: "float | RuntimeParameter"
    """The gate's threshold on the whole test split."""
    serving_dir: "str | RuntimeParameter"
    """The directory a model server watches; versions appear right under it."""


def settings_of_any_run(settings: Mapping[str, Any]) -> str:
    """Returns a stage's settings as JSON, with null where a run's own value belongs.

    Args:
        settings: blocks as in the recipe, ``training`` for example, and whatever else; ready for JSON.
    """
    return json.dumps(_with(settings, dict.fromkeys(RECIPE_KEYS)), ensure_ascii=False)


def recipe_of_run(settings: str, exec_properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they were, with the values of this run.

    Args:
        settings: of `settings_of_any_run`.
        exec_properties: has the parameters that the stage takes, under their names.
    """
    return _with(json.loads(settings), exec_properties)


def settings_of_run(model: type[_Model], settings: str, exec_properties: Mapping[str, Any]) -> _Model:
    """Returns what `recipe_of_run` does as a checked model.

    Raises:
        StageError: a value of this run is impossible.
    """
    values = recipe_of_run(settings, exec_properties)
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems = []
        for details in error.errors():
            message = details["msg"].removeprefix("Value error, ")
            key = ".".join(map(str, details["loc"]))
            known = key in RECIPE_KEYS.values()
            problems.append(f"{key} is {details['input']!r}: {message}" if known else message)
        raise StageError(f"this run's parameters are impossible: {'; '.join(problems)}") from error


def _with(settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    replaced = dict(settings)
    for name, key in RECIPE_KEYS.items():
        block, _, leaf = key.partition(".")
        if name in parameters and block in replaced:
            # An empty text is how a parameter, which cannot be null, says that nothing is named.
            value = None if parameters[name] == "" else parameters[name]
            replaced[block] = {**replaced[block], leaf: value}
    return replaced
