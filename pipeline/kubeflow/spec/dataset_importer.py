"""The task that brings a dataset from an object store to the stage that reads it."""

import json
from typing import Final

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ArtifactTypeSchema,
    ParameterType,
    PipelineDeploymentConfig,
    PipelineSpec,
)

from components.run_parameters import DATA_PATH
from pipeline.kubeflow.spec.caching import READER
from pipeline.kubeflow.spec.compatibility import open_deployment

IMPORTER: Final = "dataset-importer"
DATASET_FILES: Final = "dataset_files"
"""Key of the artifact, as the importer's output and as a stage's input; ``dataset`` is a parameter there."""

_URI: Final = "uri"
_INPUTS_SPEC_FLAG: Final = "--json_serialized_inputs_spec_args"
_TYPE: Final = ArtifactTypeSchema(schema_title="system.Dataset", schema_version="0.0.1")


def import_dataset(spec: PipelineSpec) -> None:
    """Gives the stage that reads the files at ``data_path`` what lies there as an input artifact.

    An importer registers a URI as an artifact and reads nothing itself (``v2/component/importer_launcher.go``
    in the backend); the launcher of a task copies its input artifacts to the pod's disk before the command
    begins (``downloadArtifacts`` in ``v2/component/launcher_v2.go``). The parameter stays the URI, for which
    the entrypoint puts the copy's path: see `artifacts`. With ``reimport`` every run has an artifact of its
    own, so that nothing made from an earlier one stands in for it.

    Args:
        spec: a compatible pipeline, with the parameter ``data_path``; changed in place.
    """
    _add_importer(spec)
    # Others take the parameter for the record alone.
    reader = spec.root.dag.tasks[READER]
    component = spec.components[reader.component_ref.name]
    component.input_definitions.artifacts[DATASET_FILES].artifact_type.CopyFrom(_TYPE)
    source = reader.inputs.artifacts[DATASET_FILES].task_output_artifact
    source.producer_task, source.output_artifact_key = IMPORTER, DATASET_FILES
    reader.dependent_tasks.append(IMPORTER)
    with open_deployment(spec) as deployment:
        _declare_input(deployment.executors[component.executor_label].container)


def _add_importer(spec: PipelineSpec) -> None:
    """Adds what kfp's compiler makes of ``dsl.importer(artifact_uri=data_path, reimport=True)``."""
    component = spec.components[IMPORTER]
    component.executor_label = f"{IMPORTER}-executor"
    component.input_definitions.parameters[_URI].parameter_type = ParameterType.STRING
    component.output_definitions.artifacts[DATASET_FILES].artifact_type.CopyFrom(_TYPE)
    task = spec.root.dag.tasks[IMPORTER]
    task.task_info.name = task.component_ref.name = IMPORTER
    task.inputs.parameters[_URI].component_input_parameter = DATA_PATH
    with open_deployment(spec) as deployment:
        importer = deployment.executors[component.executor_label].importer
        importer.artifact_uri.runtime_parameter = _URI
        importer.type_schema.CopyFrom(_TYPE)
        importer.reimport = True


def _declare_input(container: PipelineDeploymentConfig.PipelineContainerSpec) -> None:
    """Tells the entrypoint of the input, as TFX's compiler has told it of the others."""
    position = list(container.args).index(_INPUTS_SPEC_FLAG) + 1
    inputs = json.loads(container.args[position])
    inputs.setdefault("artifacts", {})[DATASET_FILES] = {"artifactType": json_format.MessageToDict(_TYPE)}
    container.args[position] = json.dumps(inputs, sort_keys=True)
