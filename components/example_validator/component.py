"""The ExampleValidator component: TFX's own, which also fails the run when it finds anomalies."""

from collections.abc import Sequence
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator import executor as tfx_executor
from tfx.components.example_validator import labels
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto.orchestration import execution_result_pb2
from tfx.types import (
    Artifact,
    artifact_utils,
    component_spec,
    standard_artifacts,
    standard_component_specs,
)
from tfx.utils import json_utils, writer_utils

from components.dataset.contracts import STATISTICS_ENVIRONMENT
from components.errors import StageError
from components.fingerprint import CODE_FINGERPRINT_KEY


class Executor(tfx_executor.Executor):
    """Validates as TFX does, then reads the anomalies and says them."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> execution_result_pb2.ExecutorOutput:
        """Runs the validation.

        Raises:
            StageError: a split has anomalies; the message names split, feature and what was found.
        """
        output = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.ANOMALIES_KEY])
        findings = []
        for split in artifact_utils.decode_split_names(artifact.split_names):
            directory = artifact_utils.get_split_uri([artifact], split)
            path = f"{directory}/{tfx_executor.DEFAULT_FILE_NAME}"
            with fileio.open(path, "rb") as file:
                anomalies = anomalies_pb2.Anomalies.FromString(file.read())
            findings += [
                f"split {split}, feature {feature}: {info.description}"
                for feature, info in sorted(anomalies.anomaly_info.items())
            ]
            if anomalies.HasField("dataset_anomaly_info"):
                findings.append(f"split {split}: {anomalies.dataset_anomaly_info.description}")
        if findings:
            raise StageError("the examples do not fit the schema:\n  " + "\n  ".join(findings))
        return output

    def _Validate(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> anomalies_pb2.Anomalies:
        # TFX's own documents an environment among its inputs, but does not hand it on.
        anomalies = tfdv.validate_statistics(
            inputs[standard_component_specs.STATISTICS_KEY],
            inputs[standard_component_specs.SCHEMA_KEY],
            environment=STATISTICS_ENVIRONMENT,
        )
        directory = outputs[labels.SCHEMA_DIFF_PATH]
        writer_utils.write_anomalies(f"{directory}/{tfx_executor.DEFAULT_FILE_NAME}", anomalies)
        return anomalies


class ExampleValidatorSpec(standard_component_specs.ExampleValidatorSpec):
    """What TFX's ExampleValidator has, and a digest of the code."""

    PARAMETERS = standard_component_specs.ExampleValidatorSpec.PARAMETERS | {
        CODE_FINGERPRINT_KEY: component_spec.ExecutionParameter(type=str)
    }


class ExampleValidator(base_component.BaseComponent):
    """TFX's ExampleValidator with anomalies that stop the pipeline; its output is ``anomalies``, as TFX's.

    Args:
        statistics: of all splits.
        schema: what they have to be.
        code_fingerprint: a digest of the code that validates; a new one validates anew.
        exclude_splits: names of those that are not validated.
    """

    SPEC_CLASS = ExampleValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        *,
        code_fingerprint: str,
        exclude_splits: Sequence[str] = (),
    ) -> None:
        spec = ExampleValidatorSpec(
            statistics=statistics,
            schema=schema,
            exclude_splits=json_utils.dumps(list(exclude_splits)),
            code_fingerprint=code_fingerprint,
            anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
        )
        super().__init__(spec=spec)
