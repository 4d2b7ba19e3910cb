"""The Pusher component."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.pusher.driver import SIGNING_KEY_KEY, Driver
from components.pusher.executor import BASELINE_MODEL_KEY, KEEP_VERSIONS_KEY, Executor
from components.run_parameters import SERVING_DIR


class PusherSpec(standard_component_specs.PusherSpec):
    """What TFX's Pusher has, and the baseline; a directory instead of a choice of destinations."""

    INPUTS = standard_component_specs.PusherSpec.INPUTS | {
        BASELINE_MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    PARAMETERS = {  # noqa: RUF012  (as TFX declares it)
        SERVING_DIR: component_spec.ExecutionParameter(type=str),
        KEEP_VERSIONS_KEY: component_spec.ExecutionParameter(type=int),
        SIGNING_KEY_KEY: component_spec.ExecutionParameter(type=str, optional=True),
    }


class Pusher(base_component.BaseComponent):
    """Pushes a model that the Evaluator and the ServingCheck have blessed to where a model server finds it.

    The version appears at once and complete, with a number above all others. What is served takes part in
    TFX's cache key: the stage runs again if the version it pushed is deleted or followed by another.

    Its output ``pushed_model`` is that of TFX's Pusher.

    Args:
        model: the candidate.
        model_blessing: the Evaluator's verdict.
        infra_blessing: the ServingCheck's verdict.
        baseline_model: what the candidate was compared with; remembered with the version.
        serving_dir: the directory a model server watches, ``serving/<model_name>``.
        keep_versions: how many of the newest versions stay, 1 at least.
        signing_key: file of the private key that signs the version, where the stage runs; None signs nothing.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        baseline_model: types.BaseChannel,
        serving_dir: str | RuntimeParameter,
        keep_versions: int,
        signing_key: str | None = None,
    ) -> None:
        spec = PusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            baseline_model=baseline_model,
            serving_dir=serving_dir,
            keep_versions=keep_versions,
            signing_key=signing_key,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec)
