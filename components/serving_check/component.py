"""The ServingCheck component."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.fingerprint import CODE_FINGERPRINT_KEY
from components.serving.config import ServingCheckConfig
from components.serving_check.driver import Driver
from components.serving_check.executor import CONFIG_KEY, INFRA_BLESSING_KEY, Executor


class ServingCheckSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `ServingCheck`."""

    INPUTS = {  # noqa: RUF012  (as TFX declares it)
        standard_component_specs.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        standard_component_specs.MODEL_BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
        standard_component_specs.EXAMPLES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        INFRA_BLESSING_KEY: component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)
    }
    PARAMETERS = {  # noqa: RUF012
        CONFIG_KEY: component_spec.ExecutionParameter(type=str),
        CODE_FINGERPRINT_KEY: component_spec.ExecutionParameter(type=str),
    }


class ServingCheck(base_component.BaseComponent):
    """Starts a model server with the candidate and finds out whether it can be pushed.

    The server answers test images with the masks that the model's signature ``evaluate``, the one that the
    Evaluator calls, gives without a server; it refuses hostile requests and survives them. Its latency and
    memory are measured. A model that the Evaluator did not approve is not tried.

    Its output ``infra_blessing`` is that of TFX's InfraValidator; beside the verdict lies a
    ``ServingCheck``, except where the model was not tried. A refusal is not taken from TFX's cache.

    Args:
        model: the candidate.
        model_blessing: the Evaluator's verdict.
        examples: only the split ``test`` is read.
        config: how many examples, and thresholds.
        code_fingerprint: a digest of the code that serves and checks; a new one checks anew.
    """

    SPEC_CLASS = ServingCheckSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        examples: types.BaseChannel,
        config: ServingCheckConfig,
        code_fingerprint: str,
    ) -> None:
        spec = ServingCheckSpec(
            model=model,
            model_blessing=model_blessing,
            examples=examples,
            config=config.model_dump_json(),
            code_fingerprint=code_fingerprint,
            infra_blessing=types.Channel(type=standard_artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)
