"""What an importer task does (``component/importer_launcher.go``): it registers a URI, and reads nothing."""

from collections.abc import Mapping

from google.protobuf import struct_pb2

from emulator.driver import Component, Task
from emulator.metadata_store import MetadataStore
from emulator.package import Importer


class ImporterError(Exception):
    """The importer would fail, and with it the task; it is not tried again."""


def run(
    task: Task,
    component: Component,
    importer: Importer,
    parameters: Mapping[str, struct_pb2.Value],
    store: MetadataStore,
) -> dict[str, int]:
    """Returns the id of the imported artifact by its key.

    Args:
        task: whose executor this is; no driver runs before it (``compiler/argocompiler/importer.go``).
        component: its component.
        importer: what the package says of it; one that reimports.
        parameters: of the run.
        store: where the artifact is remembered.
    """
    try:
        # getOutPutArtifactName.
        [key] = component.output_definitions.artifacts
    except ValueError:
        raise ImporterError("failed to extract output artifact name from componentOutputSpec") from None
    if not importer.reimport:
        raise ImporterError("an importer that does not reimport is not emulated")
    return {key: store.imported(_uri(task, importer, parameters)).id}


def _uri(task: Task, importer: Importer, parameters: Mapping[str, struct_pb2.Value]) -> str:
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
