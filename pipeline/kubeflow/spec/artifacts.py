"""What Kubeflow Pipelines' backend says of artifacts, put into the words of TFX's entrypoint, and back.

TFX's container entrypoint was written for Vertex AI. The open-source backend differs from it:

- input artifacts come without their type (``ToRuntimeArtifact`` in the backend's ``v2/metadata/client.go``),
  newer ones without a name, and outputs with a type of the backend's own, ``system.*``;
- there may be an output that the component does not declare, ``executor-logs`` (``provisionOutputs`` in
  ``v2/driver/driver.go``): a file, open already, that the launcher keeps the log in;
- URIs point into an object store, while the files lie on the container's own disk, where the launcher copies
  them to and from (``LocalPathForURI`` in ``v2/component/launcher_v2.go``): TensorFlow reads neither ``s3://``
  nor ``minio://``, and credentials belong to the launcher alone;
- a null in an artifact's metadata is an error (``StructValueToMLMDValue`` in ``v2/metadata/converter.go``).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml
from google.protobuf import struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types.artifact import Artifact

from components.bucket import is_remote
from components.errors import StageError
from pipeline.kubeflow.executor_input import artifacts
from pipeline.kubeflow.spec.caching import LINEAGE
from pipeline.kubeflow.uris import local_path, remote_uri

_HTML: Final = "system.HTML"
"""Type of the artifacts that Kubeflow's pages show; the URI must name the file."""
_PAGE: Final = "index.html"


class PlainArtifact(Artifact):
    """An artifact without properties of its own, for types that TFX does not know."""

    TYPE_NAME = "PlainArtifact"


def declare(
    executor_input: pipeline_spec_pb2.ExecutorInput,
    inputs_spec: pipeline_spec_pb2.ComponentInputsSpec,
    outputs_spec: pipeline_spec_pb2.ComponentOutputsSpec,
) -> pipeline_spec_pb2.ExecutorInput:
    """Returns the input as TFX's entrypoint can read it where it reads the object store.

    Outputs that are not declared are the backend's own affair, and parameters that are for the cache alone:
    TFX does not hear of them.

    Args:
        executor_input: as the launcher gives it.
        inputs_spec: the component's inputs with the types that TFX's compiler wrote.
        outputs_spec: the same of its outputs.
    """
    declared = pipeline_spec_pb2.ExecutorInput()
    declared.CopyFrom(executor_input)
    parameters = declared.inputs.parameter_values
    for name in [name for name in parameters if name.startswith(LINEAGE)]:
        del parameters[name]
    for key, artifact in artifacts(declared.inputs.artifacts):
        _set_class(artifact, inputs_spec.artifacts[key].artifact_type)
        # Where it has no name, TFX has no id, and its Evaluator writes the ids of models down.
        artifact.name = artifact.name or artifact.uri
    for key in declared.outputs.artifacts.keys() - outputs_spec.artifacts.keys():
        del declared.outputs.artifacts[key]
    for key, artifact in artifacts(declared.outputs.artifacts):
        _set_class(artifact, outputs_spec.artifacts[key].artifact_type)
    return declared


def localize(executor_input: pipeline_spec_pb2.ExecutorInput) -> pipeline_spec_pb2.ExecutorInput:
    """Returns the input as TFX's entrypoint can read it, with a directory for each of the declared outputs.

    Args:
        executor_input: as `declare` returns it.

    Raises:
        StageError: the object store has nothing where the dataset should be.
    """
    localized = pipeline_spec_pb2.ExecutorInput()
    localized.CopyFrom(executor_input)
    _localize_parameters(localized.inputs)
    for _, artifact in artifacts(localized.inputs.artifacts):
        _translate(artifact, local_path)
    for _, artifact in artifacts(localized.outputs.artifacts):
        _translate(artifact, local_path)
        # The launcher makes its parent only, and newer ones do not register what is not there.
        Path(artifact.uri).mkdir(parents=True, exist_ok=True)
    return localized


def publish(
    executor_output: pipeline_spec_pb2.ExecutorOutput, executor_input: pipeline_spec_pb2.ExecutorInput
) -> pipeline_spec_pb2.ExecutorOutput:
    """Returns the output as the launcher takes it.

    Args:
        executor_output: as TFX's entrypoint wrote it.
        executor_input: as the launcher gave it.
    """
    published = pipeline_spec_pb2.ExecutorOutput()
    published.CopyFrom(executor_output)
    pages = {
        key for key, artifact in artifacts(executor_input.outputs.artifacts) if _title(artifact.type) == _HTML
    }
    for key, artifact in artifacts(published.artifacts):
        if key in pages:
            artifact.uri = f"{artifact.uri}/{_PAGE}"
        _translate(artifact, remote_uri)
        _drop_nulls(artifact.metadata)
    return published


def _localize_parameters(inputs: pipeline_spec_pb2.ExecutorInput.Inputs) -> None:
    """What is an input artifact's URI becomes the launcher's copy; of others there is none."""
    fetched = {artifact.uri for _, artifact in artifacts(inputs.artifacts)}
    for name, value in inputs.parameter_values.items():
        uri = value.string_value
        if is_remote(uri) and uri in fetched:
            value.string_value = local_path(uri)
            if not Path(value.string_value).exists():
                raise StageError(
                    f"{name}: there is nothing below {uri}; give a folder of the bucket with files in it"
                )


def _translate(artifact: pipeline_spec_pb2.RuntimeArtifact, translate: Callable[[str], str]) -> None:
    artifact.uri = translate(artifact.uri)
    for value in artifact.metadata.fields.values():
        if value.WhichOneof("kind") == "string_value":
            value.string_value = translate(value.string_value)


def _drop_nulls(metadata: struct_pb2.Struct) -> None:
    nulls = [key for key, value in metadata.fields.items() if value.WhichOneof("kind") == "null_value"]
    for key in nulls:
        del metadata.fields[key]


def _set_class(
    artifact: pipeline_spec_pb2.RuntimeArtifact, declared: pipeline_spec_pb2.ArtifactTypeSchema
) -> None:
    """Has TFX build the artifact from the declared type's class."""
    title = _title(declared)
    known = title in compiler_utils.TITLE_TO_CLASS_PATH
    artifact.type.schema_title = title if known else f"{__name__}.{PlainArtifact.__qualname__}"


def _title(schema: pipeline_spec_pb2.ArtifactTypeSchema) -> str:
    """The type's name; empty where there is none."""
    if schema.WhichOneof("kind") == "instance_schema":
        return (yaml.safe_load(schema.instance_schema) or {}).get("title", "")
    return schema.schema_title
