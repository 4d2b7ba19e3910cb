"""The Evaluator component: TFX's, with this project's metrics, its gate, and errors in plain words."""

import json
from typing import Final

from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from components.dataset.labels import LabelSet
from components.evaluator.config import EvaluationConfig, EvaluatorSettings
from components.fingerprint import CODE_FINGERPRINT_KEY
from components.named_executor import NamedBeamExecutor
from components.run_parameters import MIN_MEAN_IOU, settings_of_any_run

SPLIT: Final = "test"
SETTINGS_KEY: Final = "settings"


class EvaluatorSpec(standard_component_specs.EvaluatorSpec):
    """What TFX's Evaluator has, its settings, and the threshold that people change from run to run."""

    PARAMETERS = standard_component_specs.EvaluatorSpec.PARAMETERS | {
        SETTINGS_KEY: component_spec.ExecutionParameter(type=str),
        CODE_FINGERPRINT_KEY: component_spec.ExecutionParameter(type=str),
        MIN_MEAN_IOU: component_spec.ExecutionParameter(type=float),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Measures the candidate against the thresholds of the recipe and the model now being served.

    Its outputs ``evaluation`` and ``blessing`` are those of TFX's Evaluator; the evaluation also holds
    ``evaluation.json``, which others read.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = NamedBeamExecutor("components.evaluator.executor.Executor")

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        config: EvaluationConfig,
        labels: LabelSet,
        min_mean_iou: float | RuntimeParameter,
        code_fingerprint: str = "",
    ) -> None:
        """Creates the component; its node id is ``Evaluator``.

        Args:
            examples: only the split ``test`` is read.
            model: the candidate.
            baseline_model: the served model; an artifact without a SavedModel stands for none.
            config: thresholds and slices.
            labels: names the classes.
            min_mean_iou: of this run; ``config.min_mean_iou`` is not read.
            code_fingerprint: a digest of the code that evaluates; a new one is evaluated anew, not
                answered from TFX's cache.
        """
        settings = EvaluatorSettings(evaluation=config, labels=labels)
        spec = EvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            settings=settings_of_any_run(settings.model_dump(mode="json")),
            code_fingerprint=code_fingerprint,
            example_splits=json.dumps([SPLIT]),
            module_path="components.evaluator.extractors",
            min_mean_iou=min_mean_iou,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
