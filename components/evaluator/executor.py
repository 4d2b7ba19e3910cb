"""Evaluates with TFX's executor, and says in plain words what came of it."""

import logging
from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import executor as tfx_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils, proto_utils

from components.bucket import path_of
from components.dataset.contracts import EVALUATION_FILE, VERSION, Evaluation
from components.errors import StageError
from components.evaluator.component import SETTINGS_KEY, SPLIT
from components.evaluator.config import EvaluatorSettings
from components.evaluator.eval_config import build_eval_config
from components.evaluator.results import read_evaluation
from components.imaging.reading import InputSize
from components.model_store.description import input_size
from components.run_parameters import settings_of_run

# TFX's executor asks for it there, where `tfx.components` puts it, which a local run does not import whole.
tfma.EvalConfig = config_pb2.EvalConfig

logger = logging.getLogger(__name__)


class Executor(tfx_executor.Executor):
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
