"""The Evaluator component: TFX's, with this project's metrics, its gate, and errors in plain words."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from tfx import types
from tfx.components.evaluator import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import path_utils, proto_utils

from components.bucket import path_of
from components.dataset.contracts import EVALUATION_FILE, VERSION, Evaluation
from components.dataset.labels import LabelSet
from components.errors import StageError
from components.evaluator import extractors
from components.evaluator.config import EvaluationConfig, EvaluatorSettings
from components.evaluator.eval_config import build_eval_config
from components.evaluator.results import read_evaluation
from components.imaging.reading import InputSize
from components.model_store.description import input_size
from components.run_parameters import MIN_MEAN_IOU, settings_of_any_run, settings_of_run

logger = logging.getLogger(__name__)

SPLIT: Final = "test"
SETTINGS_KEY: Final = "settings"
CODE_FINGERPRINT_KEY: Final = "code_fingerprint"


class EvaluatorExecutor(tfx_executor.Executor):
    """TFX's executor, except that an empty baseline is no baseline and bad input ends in plain words."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the candidate, and the served model if there is one, on the test split.

        Raises:
            StageError: if there is nothing to evaluate or masks cannot be compared.
        """
        _require_examples(input_dict[standard_component_specs.EXAMPLES_KEY])
        candidate = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        # The model's own word: what is scored a second time may have been made from another recipe.
        size = input_size(path_of(_model_dir(candidate)))
        exec_properties = exec_properties | _eval_config(exec_properties, size)
        inputs = dict(input_dict)
        baseline_version = ""
        for baseline in inputs.pop(standard_component_specs.BASELINE_MODEL_KEY, []):
            if _holds_model(baseline):
                inputs[standard_component_specs.BASELINE_MODEL_KEY] = [baseline]
                baseline_version = baseline.get_string_custom_property(VERSION)

        super().Do(inputs, output_dict, exec_properties)

        evaluation = artifact_utils.get_single_instance(output_dict[standard_component_specs.EVALUATION_KEY])
        found = read_evaluation(evaluation.uri, baseline_version)
        if not found.metrics.examples:
            raise _no_examples()
        with fileio.open(f"{evaluation.uri}/{EVALUATION_FILE}", "w") as file:
            file.write(found.model_dump_json() + "\n")
        _log(found)


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
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(EvaluatorExecutor)

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
            module_path=extractors.__name__,
            min_mean_iou=min_mean_iou,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


def _eval_config(exec_properties: Mapping[str, Any], size: InputSize | None) -> dict[str, str]:
    """What TFX's executor reads in place of the settings."""
    settings = settings_of_run(EvaluatorSettings, exec_properties[SETTINGS_KEY], exec_properties)
    config = build_eval_config(settings.evaluation, settings.labels, size)
    return {standard_component_specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config)}


def _require_examples(examples: list[types.Artifact]) -> None:
    # Only looks for files: Beam's own complaint about their absence is hard to read.
    for artifact in examples:
        if SPLIT not in artifact_utils.decode_split_names(artifact.split_names):
            raise _no_examples()
        if not fileio.glob(f"{artifact_utils.get_split_uri([artifact], SPLIT)}/*"):
            raise _no_examples()


def _no_examples() -> StageError:
    return StageError(
        f"There is nothing to evaluate on: the split {SPLIT!r} has no examples. "
        "Give it a share in dataset.splits, or add images to it."
    )


def _model_dir(artifact: types.Artifact) -> str:
    return path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))


def _holds_model(artifact: types.Artifact) -> bool:
    return fileio.exists(f"{_model_dir(artifact)}/saved_model.pb")


def _log(found: Evaluation) -> None:
    compared = " (and the served model's)" if found.baseline else ""
    logger.info("%d examples evaluated%s", found.metrics.examples, compared)
    for check in found.checks:
        logger.info("%s  %s", "passed" if check.passed else "FAILED", check.message)
