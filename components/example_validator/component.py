"""The ExampleValidator component: TFX's own, which also fails the run when it finds anomalies."""

from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import executor as tfx_executor
from tfx.components.example_validator import labels
from tfx.components.example_validator.component import ExampleValidator as TfxExampleValidator
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto.orchestration import execution_result_pb2
from tfx.types import Artifact, artifact_utils, standard_component_specs
from tfx.utils import writer_utils

from components.dataset.contracts import STATISTICS_ENVIRONMENT
from components.errors import StageError


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


class ExampleValidator(TfxExampleValidator):
    """TFX's ExampleValidator with anomalies that stop the pipeline."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
