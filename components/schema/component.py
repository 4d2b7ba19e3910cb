"""The CuratedSchema component."""

from pathlib import Path
from typing import Any, ClassVar, Final

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs

SCHEMA_TEXT_KEY: Final = "schema_text"
_SCHEMA_FILE: Final = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writes the schema where TFX's components look for it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the stage.

        Args:
            input_dict: nothing.
            output_dict: ``schema``.
            exec_properties: ``schema_text``, the schema as a text proto.
        """
        schema = artifact_utils.get_single_instance(output_dict[standard_component_specs.SCHEMA_KEY])
        Path(schema.uri, _SCHEMA_FILE).write_text(exec_properties[SCHEMA_TEXT_KEY], encoding="utf-8")


class CuratedSchemaSpec(component_spec.ComponentSpec):
    """Output and parameter of `CuratedSchema`."""

    INPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {}
    OUTPUTS: ClassVar = {
        standard_component_specs.SCHEMA_KEY: component_spec.ChannelParameter(type=standard_artifacts.Schema)
    }
    PARAMETERS: ClassVar = {SCHEMA_TEXT_KEY: component_spec.ExecutionParameter(type=str)}


class CuratedSchema(base_component.BaseComponent):
    """Hands on a schema that the pipeline brings along; its output is ``schema``.

    TFX's ImportSchemaGen reads it from a file instead, which would have to lie where every orchestrator's
    containers can read it, and of which TFX's cache compares the path alone.

    Args:
        schema: what every Example must look like.
    """

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, schema: schema_pb2.Schema) -> None:
        spec = CuratedSchemaSpec(
            schema_text=text_format.MessageToString(schema),
            schema=types.Channel(type=standard_artifacts.Schema),
        )
        super().__init__(spec=spec)
