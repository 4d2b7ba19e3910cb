"""What surrounds a task's command in its pod (``component/launcher_v2.go``)."""

import json

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from emulator.driver import Component, ExecutorInput
from emulator.metadata_store import MetadataStore
from emulator.object_store import ObjectStore
from emulator.package import Container
from emulator.pod import Pod

_ROOTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}


class TaskFailedError(Exception):
    """The command ended with another status than 0; the message is its log."""


def launch(
    pod: Pod,
    executor_input: ExecutorInput,
    component: Component,
    container: Container,
    objects: ObjectStore,
    store: MetadataStore,
) -> tuple[dict[str, int], str]:
    """Runs the container's command with its inputs at hand, and records its outputs.

    Returns:
        The ids of the output artifacts by key, and the log.

    Raises:
        TaskFailedError: the command failed.
    """
    command = _with_placeholders([*container.command, *container.args], executor_input, component)
    for members in executor_input.inputs.artifacts.values():
        artifact = members.artifacts[0]
        objects.download(artifact.uri, pod.own(local_path(artifact.uri)))
    for members in executor_input.outputs.artifacts.values():
        # prepareOutputFolders: the parent alone.
        pod.own(local_path(members.artifacts[0].uri)).parent.mkdir(parents=True, exist_ok=True)
    done = pod.run(command)
    if done.returncode != 0:
        raise TaskFailedError(f"{done.stdout}\nexit status {done.returncode}")
    executor_output = _read_output(pod, executor_input)
    outputs = {}
    for key, members in executor_input.outputs.artifacts.items():
        artifact = members.artifacts[0]
        if reported := executor_output.artifacts.get(key):
            _merge(reported.artifacts[0], artifact)
        objects.upload(pod.own(local_path(artifact.uri)), artifact.uri)
        outputs[key] = store.record(key, artifact).id
    return outputs, done.stdout


def local_path(uri: str) -> str:
    """``LocalPathForURI``."""
    for scheme, root in _ROOTS.items():
        if uri.startswith(scheme):
            return root + uri.removeprefix(scheme)
    raise ValueError(f"failed to generate local path for URI {uri}: unsupported storage scheme")


def _with_placeholders(command: list[str], executor_input: ExecutorInput, component: Component) -> list[str]:
    """``getPlaceholders``: only those that take no path are used here."""
    filled = ExecutorInput()
    filled.CopyFrom(executor_input)
    # addDefaultParams: what the driver leaves out, the placeholder has.
    for name, declared in component.input_definitions.parameters.items():
        if declared.HasField("default_value") and name not in filled.inputs.parameter_values:
            filled.inputs.parameter_values[name].CopyFrom(declared.default_value)
    text = json.dumps(json_format.MessageToDict(filled))
    return [argument.replace("{{$}}", text) for argument in command]


def _read_output(pod: Pod, executor_input: ExecutorInput) -> pipeline_spec_pb2.ExecutorOutput:
    """``getExecutorOutputFile``: no file is no output; what the proto does not know is an error."""
    file = pod.own(executor_input.outputs.output_file)
    text = file.read_text() if file.exists() else "{}"
    return json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())


def _merge(source: pipeline_spec_pb2.RuntimeArtifact, target: pipeline_spec_pb2.RuntimeArtifact) -> None:
    """``mergeRuntimeArtifacts``: URI and metadata; neither name nor type."""
    target.uri = source.uri or target.uri
    for key, value in source.metadata.fields.items():
        target.metadata.fields[key].CopyFrom(value)
