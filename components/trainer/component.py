"""The Trainer component: TFX's own, with the settings that people change from run to run set apart."""

from typing import Final

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.named_executor import NamedExecutor
from components.run_parameters import DATA_PATH, EPOCHS, LEARNING_RATE, settings_of_any_run
from components.serving.config import ServingLimits
from components.trainer.config import TrainerSettings

SETTINGS_KEY: Final = "settings"
LIMITS_KEY: Final = "limits"


class TrainerSpec(standard_component_specs.TrainerSpec):
    """What TFX's Trainer has, its settings, and what people change from run to run."""

    PARAMETERS = standard_component_specs.TrainerSpec.PARAMETERS | {
        SETTINGS_KEY: component_spec.ExecutionParameter(type=str),
        LIMITS_KEY: component_spec.ExecutionParameter(type=str),
        DATA_PATH: component_spec.ExecutionParameter(type=str),
        EPOCHS: component_spec.ExecutionParameter(type=int),
        LEARNING_RATE: component_spec.ExecutionParameter(type=float),
    }


class Trainer(base_component.BaseComponent):
    """Trains the recipe's network and exports the epoch that did best on the val split.

    Its outputs ``model`` and ``model_run`` are those of TFX's Trainer.

    Args:
        examples: what ingestion wrote, or Transform where the settings say ``materialized``.
        transform_graph: from bytes to pixels.
        settings: everything ``run_fn`` needs to know, but for what follows.
        limits: what the exported model refuses.
        data_path: of this run, for the record in the model.
        epochs: of this run.
        learning_rate: of this run.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = NamedExecutor("components.trainer.executor.Executor")

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        settings: TrainerSettings,
        limits: ServingLimits,
        data_path: str | RuntimeParameter,
        epochs: int | RuntimeParameter,
        learning_rate: float | RuntimeParameter,
    ) -> None:
        spec = TrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            run_fn="components.trainer.run_fn.run_fn",
            train_args=trainer_pb2.TrainArgs(splits=["train"]),
            eval_args=trainer_pb2.EvalArgs(splits=["val"]),
            settings=settings_of_any_run(settings.model_dump(mode="json")),
            limits=limits.model_dump_json(),
            data_path=data_path,
            epochs=epochs,
            learning_rate=learning_rate,
            model=types.Channel(type=standard_artifacts.Model),
            model_run=types.Channel(type=standard_artifacts.ModelRun),
        )
        super().__init__(spec=spec)
