"""What a task is given before it runs (``container.go``, ``resolve.go`` and ``driver.go`` in ``driver``)."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from emulator.package import Container
from emulator.stores import MetadataStore

LOGS: Final = "executor-logs"
"""An output that no component declares; the launcher writes the command's log there."""
_KINDS: Final = {
    pipeline_spec_pb2.ParameterType.NUMBER_DOUBLE: "number_value",
    pipeline_spec_pb2.ParameterType.NUMBER_INTEGER: "number_value",
    pipeline_spec_pb2.ParameterType.BOOLEAN: "bool_value",
    pipeline_spec_pb2.ParameterType.LIST: "list_value",
    pipeline_spec_pb2.ParameterType.STRUCT: "struct_value",
}
_CONDITION: Final = re.compile(
    r"\(?inputs\.artifacts\['(\w+)'\]\.artifacts\[0\]\.metadata\['(\w+)'\] == (\d+(?:\.\d+)?)\)?"
)
_ROOTS: Final = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}

Component: TypeAlias = pipeline_spec_pb2.ComponentSpec
ExecutorInput: TypeAlias = pipeline_spec_pb2.ExecutorInput
Task: TypeAlias = pipeline_spec_pb2.PipelineTaskSpec


class DriverError(Exception):
    """The driver would fail, and with it the task."""


def root_parameters(
    spec: pipeline_spec_pb2.PipelineSpec, given: Mapping[str, Any]
) -> dict[str, struct_pb2.Value]:
    """The run's parameters: those given, defaults for the others (``compiler/argocompiler/argo.go``)."""
    declared = spec.root.input_definitions.parameters
    if unknown := given.keys() - declared.keys():
        raise DriverError(f"the pipeline has no parameters {sorted(unknown)}")
    values = {name: json_format.ParseDict(value, struct_pb2.Value()) for name, value in given.items()}
    for name, parameter in declared.items():
        if name not in values and parameter.HasField("default_value"):
            values[name] = parameter.default_value
    return values


def resolve_inputs(
    task: Task,
    component: Component,
    parameters: Mapping[str, struct_pb2.Value],
    outputs: Mapping[str, Mapping[str, int]],
    answers: Mapping[str, Mapping[str, str]],
    store: MetadataStore,
) -> ExecutorInput:
    """Constants, the run's parameters, and what earlier tasks have put out.

    Args:
        task: to be run.
        component: its component.
        parameters: of the run.
        outputs: ids of artifacts by task and output key.
        answers: output parameters by task and key.
        store: where these are remembered.
    """
    resolved = ExecutorInput()
    for name, source in task.inputs.parameters.items():
        kind = source.WhichOneof("kind")
        if kind == "component_input_parameter":
            if source.component_input_parameter not in parameters:
                raise DriverError(f"no input parameter {source.component_input_parameter}")
            value = parameters[source.component_input_parameter]
        elif kind == "runtime_value" and source.runtime_value.WhichOneof("value") == "constant":
            value = source.runtime_value.constant
        elif kind == "task_output_parameter":
            # resolveUpstreamParameters.
            output = source.task_output_parameter
            if output.producer_task not in answers:
                raise DriverError(f"producer task, {output.producer_task}, not in tasks")
            if output.output_parameter_key not in answers[output.producer_task]:
                raise DriverError(f"{output.producer_task} has no parameter {output.output_parameter_key!r}")
            value = struct_pb2.Value(string_value=answers[output.producer_task][output.output_parameter_key])
        else:
            raise DriverError(f"parameter {name}: {kind} is not implemented")
        resolved.inputs.parameter_values[name].CopyFrom(value)
    for name, source in task.inputs.artifacts.items():
        origin = source.task_output_artifact
        if origin.producer_task not in outputs:
            raise DriverError(f"cannot find producer task {origin.producer_task!r}")
        if origin.output_artifact_key not in outputs[origin.producer_task]:
            raise DriverError(f"{origin.producer_task} has no output {origin.output_artifact_key!r}")
        artifact_id = outputs[origin.producer_task][origin.output_artifact_key]
        resolved.inputs.artifacts[name].artifacts.append(store.runtime_artifact(artifact_id))
    _check_parameters(resolved, component)
    return resolved


def triggers(task: Task, executor_input: ExecutorInput) -> bool:
    """Whether the task's condition holds, or it has none (``expression/expression.go``).

    Of CEL, what a package has: a number in an artifact's metadata is compared. As there, a whole number is
    not comparable with a double, which all numbers of artifacts are: ``== 1`` is an error.
    """
    condition = task.trigger_policy.condition
    if not condition:
        return True
    comparison = _CONDITION.fullmatch(condition)
    if comparison is None:
        raise DriverError(f"a condition that is not emulated: {condition}")
    key, name, number = comparison.groups()
    metadata = executor_input.inputs.artifacts[key].artifacts[0].metadata
    if name not in metadata:
        raise DriverError(f"no such key: {name}")
    if not isinstance(metadata[name], float) or "." not in number:
        raise DriverError(f"no such overload: {metadata[name]!r} == {number}")
    return bool(metadata[name] == float(number))


def provision_outputs(executor_input: ExecutorInput, root: str, task_name: str, component: Component) -> None:
    """Adds where the outputs shall go (``provisionOutputs``): a new place for every execution.

    With ``PUBLISH_LOGS=true``, as the backend's manifests have it, one is for the log.
    """
    for name in component.output_definitions.parameters:
        executor_input.outputs.parameters[name].output_file = f"/tmp/kfp/outputs/{name}"
    definitions = dict(component.output_definitions.artifacts)
    definitions[LOGS] = pipeline_spec_pb2.ComponentOutputsSpec.ArtifactSpec(
        artifact_type=pipeline_spec_pb2.ArtifactTypeSchema(schema_title="system.Artifact")
    )
    task_root = f"{root.rstrip('/')}/{task_name}/{uuid.uuid4()}"
    for name, definition in definitions.items():
        artifact = executor_input.outputs.artifacts[name].artifacts.add()
        artifact.name = name
        artifact.uri = f"{task_root}/{name}"
        artifact.type.CopyFrom(definition.artifact_type)
        artifact.metadata.CopyFrom(definition.metadata)
    executor_input.outputs.output_file = f"{local_path(task_root)}/output_metadata.json"


def local_path(uri: str) -> str:
    """``LocalPathForURI`` in ``component/launcher_v2.go``."""
    for scheme, root in _ROOTS.items():
        if uri.startswith(scheme):
            return root + uri.removeprefix(scheme)
    raise ValueError(f"failed to generate local path for URI {uri}: unsupported storage scheme")


def fingerprint(executor_input: ExecutorInput, container: Container, claims: list[str]) -> str:
    """The key of the cache (``getFingerPrint`` in ``driver/cache.go``, ``cacheutils/cache.go``).

    Of input artifacts their ids count, not what they hold; of volumes their names; of the environment what
    the container itself has, as in backends newer than 2.17, nothing of what the second document adds.
    """
    outputs = json_format.MessageToDict(executor_input.outputs).get("artifacts", {})
    for members in outputs.values():
        for artifact in members["artifacts"]:
            del artifact["uri"]
    key = {
        "inputArtifactNames": {
            name: [artifact.name for artifact in members.artifacts]
            for name, members in executor_input.inputs.artifacts.items()
        },
        "inputParameterValues": {
            name: json_format.MessageToDict(value)
            for name, value in executor_input.inputs.parameter_values.items()
        },
        "outputArtifactsSpec": outputs,
        "outputParametersSpec": sorted(executor_input.outputs.parameters),
        "containerSpec": {
            "image": container.image,
            "cmdArgs": [*container.command, *container.args],
            "pvcNames": sorted(set(claims)),
            "env": {variable.name: variable.value for variable in container.env},
        },
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _check_parameters(executor_input: ExecutorInput, component: Component) -> None:
    """``handleParamTypeValidationAndConversion``: a missing or mistyped parameter fails the task."""
    for name, declared in component.input_definitions.parameters.items():
        if name not in executor_input.inputs.parameter_values:
            if not declared.is_optional and not declared.HasField("default_value"):
                raise DriverError(f"neither value nor default value for non-optional parameter {name!r}")
            continue
        value = executor_input.inputs.parameter_values[name]
        kind = value.WhichOneof("kind")
        if declared.parameter_type == pipeline_spec_pb2.ParameterType.STRING and kind != "string_value":
            # All types can be consumed as text.
            value.string_value = json.dumps(json_format.MessageToDict(value))
        elif kind != _KINDS.get(declared.parameter_type, kind):
            expected = _KINDS[declared.parameter_type]
            raise DriverError(f"input parameter {name!r} type mismatch: expect {expected}, got {kind}")
