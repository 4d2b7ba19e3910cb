"""Checks an approved model and writes down the verdict."""

import logging
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.dataset.contracts import SERVING_CHECK_FILE, ServingCheck
from components.serving.config import ServingCheckConfig
from components.serving_check.check import check_model
from components.serving_check.examples import SPLIT, read_examples

CONFIG_KEY: Final = "config"
INFRA_BLESSING_KEY: Final = standard_component_specs.INFRA_BLESSING_KEY

_BLESSED_PROPERTY = "blessed"
_LOG_FILE = "server.log"
# What TFX's InfraValidator calls the empty files that it leaves.
_VERDICT_FILES = {True: "INFRA_BLESSED", False: "INFRA_NOT_BLESSED"}

logger = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Blesses the candidate if it serves; a refusal is a result, not a failure of the stage."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the stage.

        Args:
            input_dict: ``model``, ``model_blessing``, and ``examples``.
            output_dict: ``infra_blessing``; its custom property ``blessed`` is 0 or 1.
            exec_properties: ``config``, a ``ServingCheckConfig`` as JSON.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        verdict = artifact_utils.get_single_instance(output_dict[INFRA_BLESSING_KEY])
        approval = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_BLESSING_KEY])
        if not model_utils.is_model_blessed(approval):
            logger.info("not checked: the Evaluator did not approve the model")
            _write_verdict(verdict, blessed=False)
            return
        model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        config = ServingCheckConfig.model_validate_json(exec_properties[CONFIG_KEY])
        test_split = artifact_utils.get_split_uri(input_dict[standard_component_specs.EXAMPLES_KEY], SPLIT)
        report = check_model(
            Path(path_utils.serving_model_path(model.uri)),
            read_examples(Path(test_split), config.check_examples),
            config,
            log=Path(verdict.uri, _LOG_FILE),
        )
        report.save(Path(verdict.uri, SERVING_CHECK_FILE))
        _write_verdict(verdict, blessed=not report.reasons)
        _log(report)


def _write_verdict(verdict: types.Artifact, *, blessed: bool) -> None:
    Path(verdict.uri, _VERDICT_FILES[blessed]).touch()
    verdict.set_int_custom_property(_BLESSED_PROPERTY, int(blessed))


def _log(report: ServingCheck) -> None:
    if report.load_seconds is not None:
        logger.info("the %s server was ready after %.1f s", report.server, report.load_seconds)
    logger.info("%d served masks equal those of the signature evaluate", report.masks)
    if report.measured:
        logger.info("%s", report.measured)
    for reason in report.reasons:
        logger.info("FAILED  %s", reason)
