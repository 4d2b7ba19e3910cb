"""The Baseline component."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.baseline.driver import Driver
from components.baseline.executor import BASELINE_MODEL_KEY, Executor
from components.fingerprint import CODE_FINGERPRINT_KEY
from components.run_parameters import SERVING_DIR


class BaselineSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of `Baseline`."""

    INPUTS = {  # noqa: RUF012  (as TFX declares it)
        standard_component_specs.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    OUTPUTS = {  # noqa: RUF012
        BASELINE_MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    PARAMETERS = {  # noqa: RUF012
        SERVING_DIR: component_spec.ExecutionParameter(type=str),
        CODE_FINGERPRINT_KEY: component_spec.ExecutionParameter(type=str),
    }


class Baseline(base_component.BaseComponent):
    """Gives the model that is being served, for the Evaluator to compare the candidate with.

    What is served is read when the stage runs, and takes part in TFX's cache key: a cached answer is
    used only while the same version is the one to compare with.

    Its output ``baseline_model`` is a Model artifact. Nothing comparable served, it has no files and its
    custom property ``version`` is empty; where what is served cannot be compared with, the custom
    properties ``incomparable_version`` and ``obstacle`` say what and why. A candidate that is itself the
    newest version is not compared with itself but with what it was compared with when it was pushed.

    Args:
        model: the candidate.
        serving_dir: the directory a model server watches, ``serving/<model_name>``.
        code_fingerprint: a digest of the code that says what can be compared; a new one looks anew.
    """

    SPEC_CLASS = BaselineSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self, model: types.BaseChannel, serving_dir: str | RuntimeParameter, code_fingerprint: str
    ) -> None:
        spec = BaselineSpec(
            model=model,
            serving_dir=serving_dir,
            code_fingerprint=code_fingerprint,
            baseline_model=types.Channel(type=standard_artifacts.Model),
        )
        super().__init__(spec=spec)
