"""What a task is given before it runs (``container.go``, ``resolve.go`` and ``driver.go`` in ``driver``)."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from emulator.expression import condition_holds
from emulator.metadata_store import MetadataStore
from emulator.package import Container

OUTPUT_FILE: Final = "/tmp/kfp_outputs/output_metadata.json"
"""OutputMetadataFilepath in ``component/launcher_v2.go``."""

_STRING = pipeline_spec_pb2.ParameterType.STRING
_NUMBERS = (pipeline_spec_pb2.ParameterType.NUMBER_DOUBLE, pipeline_spec_pb2.ParameterType.NUMBER_INTEGER)

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
    store: MetadataStore,
) -> ExecutorInput:
    """Constants, the run's parameters, and what earlier tasks have put out.

    Args:
        task: to be run.
        component: its component.
        parameters: of the run.
        outputs: ids of artifacts by task and output key.
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
    """Whether the task's condition holds, or it has none."""
    condition = task.trigger_policy.condition
    return not condition or condition_holds(condition, executor_input)


def provision_outputs(executor_input: ExecutorInput, root: str, task_name: str, component: Component) -> None:
    """Adds where the outputs shall go (``provisionOutputs``): a new place for every execution."""
    salt = str(uuid.uuid4())
    for name, definition in component.output_definitions.artifacts.items():
        artifact = executor_input.outputs.artifacts[name].artifacts.add()
        artifact.uri = f"{root.rstrip('/')}/{task_name}/{salt}/{name}"
        artifact.type.CopyFrom(definition.artifact_type)
        artifact.metadata.CopyFrom(definition.metadata)
    if component.output_definitions.parameters:
        raise DriverError("output parameters are not emulated")
    executor_input.outputs.output_file = OUTPUT_FILE


def fingerprint(executor_input: ExecutorInput, container: Container, claims: list[str]) -> str:
    """The key of the cache (``getFingerPrint`` in ``driver/cache.go``, ``cacheutils/cache.go``).

    Of input artifacts their ids count, not what they hold; of volumes their names.
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
        "containerSpec": {
            "image": container.image,
            "cmdArgs": [*container.command, *container.args],
            "pvcNames": sorted(set(claims)),
            "env": [[variable.name, variable.value] for variable in container.env],
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
        if declared.parameter_type == _STRING and kind != "string_value":
            # All types can be consumed as text.
            value.string_value = json.dumps(json_format.MessageToDict(value))
        elif declared.parameter_type in _NUMBERS and kind != "number_value":
            raise DriverError(f"input parameter {name!r} type mismatch: expect a number, got {kind}")
