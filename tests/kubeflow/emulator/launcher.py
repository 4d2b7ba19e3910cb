"""What surrounds a task's command in its pod (``component/launcher_v2.go``), and what an importer does."""

import json
import re
from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from emulator.driver import LOGS, Component, ExecutorInput, Task, local_path
from emulator.package import Container, Importer
from emulator.pod import Pod
from emulator.stores import MetadataStore, ObjectStore

RuntimeArtifact: TypeAlias = pipeline_spec_pb2.RuntimeArtifact


class TaskFailedError(Exception):
    """The command ended with another status than 0; the message is its log.

    Attributes:
        outputs: the id of the log's artifact, the only one that is recorded then, by its key.
    """

    def __init__(self, log: str, outputs: dict[str, int]):
        super().__init__(log)
        self.outputs = outputs


def launch(
    pod: Pod,
    executor_input: ExecutorInput,
    component: Component,
    container: Container,
    objects: ObjectStore,
    store: MetadataStore,
    retry: int,
) -> tuple[dict[str, int], dict[str, str], str]:
    """Runs the container's command with its inputs at hand, and records its outputs.

    Args:
        pod: where.
        executor_input: as the driver made it; stays as it is.
        component: the task's.
        container: what to run.
        objects: where artifacts come from and go to.
        store: where they are recorded.
        retry: 0 for the first attempt.

    Returns:
        The ids of the output artifacts by key, the output parameters, and the log.

    Raises:
        TaskFailedError: the command failed.
    """
    given = ExecutorInput()
    given.CopyFrom(executor_input)
    [logs] = given.outputs.artifacts[LOGS].artifacts
    # qualifyExecutorLogsForRetry: every attempt has a log of its own.
    logs.uri += f"-{retry}"
    command = _with_placeholders([*container.command, *container.args], given, component)
    for members in given.inputs.artifacts.values():
        artifact = members.artifacts[0]
        objects.download(artifact.uri, pod.own(local_path(artifact.uri)))
    for members in given.outputs.artifacts.values():
        # prepareOutputFolders: the parent alone.
        pod.own(local_path(members.artifacts[0].uri)).parent.mkdir(parents=True, exist_ok=True)
    # getLogWriter: the file is there before the command runs, and is open while it does.
    with pod.own(local_path(logs.uri)).open("w") as log:
        done = pod.run(command)
        log.write(done.stdout)
    if done.returncode != 0:
        recorded = _upload(pod, {LOGS: logs}, objects, store)
        raise TaskFailedError(f"{done.stdout}\nexit status {done.returncode}", recorded)
    output = _read_output(pod, given)
    reported = output.artifacts
    outputs = {key: members.artifacts[0] for key, members in given.outputs.artifacts.items()}
    for key, artifact in outputs.items():
        # What the command says of the log is not listened to.
        if key in reported and key != LOGS:
            _merge(reported[key].artifacts[0], artifact)
    return _upload(pod, outputs, objects, store), _answers(output, given), done.stdout


def _answers(output: pipeline_spec_pb2.ExecutorOutput, given: ExecutorInput) -> dict[str, str]:
    """``collectOutputParameters``, of texts that the output's file holds; files of their own are not read."""
    answers = {name: output.parameter_values[name].string_value for name in output.parameter_values}
    if missing := given.outputs.parameters.keys() - answers.keys():
        raise TaskFailedError(f"failed to read output parameters {sorted(missing)}", {})
    return answers


def _upload(
    pod: Pod, outputs: Mapping[str, RuntimeArtifact], objects: ObjectStore, store: MetadataStore
) -> dict[str, int]:
    """``uploadOutputArtifacts``: records what has no file, too, unless it is the log."""
    recorded = {}
    for key, artifact in outputs.items():
        local = pod.own(local_path(artifact.uri))
        objects.upload(local, artifact.uri)
        if key != LOGS or local.exists():
            recorded[key] = store.record(key, artifact).id
    return recorded


def _with_placeholders(command: list[str], executor_input: ExecutorInput, component: Component) -> list[str]:
    """``compileCmdAndArgs``."""
    if others := re.findall(r"\{\{\$\..*?\}\}", " ".join(command)):
        # On purpose: no package of this project has one, and a guess at the launcher proves nothing.
        raise NotImplementedError(f"placeholders other than {{{{$}}}} are not emulated: {others}")
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


def _merge(source: RuntimeArtifact, target: RuntimeArtifact) -> None:
    """``mergeRuntimeArtifacts``: URI and metadata; neither name nor type."""
    target.uri = source.uri or target.uri
    for key, value in source.metadata.fields.items():
        target.metadata.fields[key].CopyFrom(value)


class ImporterError(Exception):
    """The importer would fail, and with it the task; it is not tried again."""


def run_importer(
    task: Task,
    component: Component,
    importer: Importer,
    parameters: Mapping[str, struct_pb2.Value],
    store: MetadataStore,
) -> dict[str, int]:
    """Registers a URI and reads nothing (``component/importer_launcher.go``).

    Args:
        task: whose executor this is; no driver runs before it (``compiler/argocompiler/importer.go``).
        component: its component.
        importer: what the package says of it; one that reimports.
        parameters: of the run.
        store: where the artifact is remembered.

    Returns:
        The artifact's id by its key.
    """
    try:
        # getOutPutArtifactName.
        [key] = component.output_definitions.artifacts
    except ValueError:
        raise ImporterError("failed to extract output artifact name from componentOutputSpec") from None
    if not importer.reimport:
        raise ImporterError("an importer that does not reimport is not emulated")
    return {key: store.imported(_imported_uri(task, importer, parameters)).id}


def _imported_uri(task: Task, importer: Importer, parameters: Mapping[str, struct_pb2.Value]) -> str:
    """``ImportSpecToMLMDArtifact``: the value is looked up in the run's parameters, not in the task's."""
    name = importer.artifact_uri.runtime_parameter
    if name not in task.inputs.parameters:
        raise ImporterError(f"cannot find parameter {name} in task input to fetch artifact uri")
    run_parameter = task.inputs.parameters[name].component_input_parameter
    if run_parameter not in parameters:
        raise ImporterError(f"parent DAG does not have input parameter {run_parameter}")
    uri = parameters[run_parameter].string_value
    if not uri:
        raise ImporterError(f"empty artifact URI runtime value for parameter {name}")
    return uri
