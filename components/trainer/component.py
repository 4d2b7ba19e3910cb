"""The Trainer component: TFX's own, with the settings that people change from run to run set apart."""

import json
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from tfx import types
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.errors import StageError
from components.trainer import run_fn
from components.trainer.config import ServingLimits, TrainerSettings
from components.trainer.distribution import is_chief

SETTINGS_KEY: Final = "settings"
LIMITS_KEY: Final = "limits"
EPOCHS_KEY: Final = "epochs"
LEARNING_RATE_KEY: Final = "learning_rate"


class TrainerExecutor(GenericExecutor):
    """TFX's executor, after it has put the run's own values into the settings.

    Processes that train together (``TF_CONFIG``) each run it with the same arguments.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; see ``run_fn``.

        Raises:
            StageError: this run's number of epochs or learning rate is impossible.
        """
        custom_config = json.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        settings = TrainerSettings.model_validate_json(custom_config[SETTINGS_KEY])
        of_this_run = {key: exec_properties[key] for key in (EPOCHS_KEY, LEARNING_RATE_KEY)}
        try:
            settings = settings.with_training(of_this_run)
        except ValidationError as error:
            found = "; ".join(map(_explained, error.errors()))
            raise StageError(f"this run's parameters are impossible: {found}") from error
        custom_config[SETTINGS_KEY] = settings.model_dump_json()
        changed = {standard_component_specs.CUSTOM_CONFIG_KEY: json.dumps(custom_config)}
        exec_properties = {**exec_properties, **changed}
        if is_chief():
            super().Do(input_dict, output_dict, exec_properties)
        else:
            # TFX's own would miss the model, which the chief alone exports.
            run_fn.run_fn(self._GetFnArgs(input_dict, output_dict, exec_properties))


def _explained(details: ErrorDetails) -> str:
    """In pydantic's words; what it finds in several keys together names them itself."""
    message = details["msg"].removeprefix("Value error, ")
    key = details["loc"][-1] if details["loc"] else None
    return f"training.{key}: {message}" if key in (EPOCHS_KEY, LEARNING_RATE_KEY) else message


class TrainerSpec(standard_component_specs.TrainerSpec):
    """What TFX's Trainer has, and what people change from run to run."""

    PARAMETERS = standard_component_specs.TrainerSpec.PARAMETERS | {
        EPOCHS_KEY: component_spec.ExecutionParameter(type=int),
        LEARNING_RATE_KEY: component_spec.ExecutionParameter(type=float),
    }


class Trainer(base_component.BaseComponent):
    """Trains the recipe's network and exports the epoch that did best on the val split.

    Its outputs ``model`` and ``model_run`` are those of TFX's Trainer.

    Args:
        examples: what ingestion wrote, or Transform where the settings say ``materialized``.
        transform_graph: from bytes to pixels.
        settings: everything ``run_fn`` needs to know.
        limits: what the exported model refuses.
        epochs: of this run; replaces ``settings.training.epochs``.
        learning_rate: of this run; replaces ``settings.training.learning_rate``.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        settings: TrainerSettings,
        limits: ServingLimits,
        epochs: int | RuntimeParameter,
        learning_rate: float | RuntimeParameter,
    ) -> None:
        custom_config = {SETTINGS_KEY: settings.model_dump_json(), LIMITS_KEY: limits.model_dump_json()}
        spec = TrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            run_fn=f"{run_fn.__name__}.run_fn",
            train_args=trainer_pb2.TrainArgs(splits=["train"]),
            eval_args=trainer_pb2.EvalArgs(splits=["val"]),
            custom_config=json.dumps(custom_config),
            epochs=epochs,
            learning_rate=learning_rate,
            model=types.Channel(type=standard_artifacts.Model),
            model_run=types.Channel(type=standard_artifacts.ModelRun),
        )
        super().__init__(spec=spec)
