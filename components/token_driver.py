"""A TFX driver that lets what a stage reads from disk take part in TFX's cache key."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2

InputArtifacts = Mapping[str, Sequence[types.Artifact]]


class TokenDriver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Sets one execution property just before TFX looks for a cached answer.

    TFX's cache knows inputs and parameters only. What a stage reads besides, the user's files or the served
    versions, is put into words here: as long as the token is the same, an earlier answer still holds.

    It derives from both of TFX's base drivers: components demand the one, the launcher runs the other.
    Kubeflow Pipelines runs no drivers: there a task finds it, and executors have it as a
    parameter. Where nothing may be cached they find no token and work it out themselves.
    """

    PROPERTY: str
    """Name of the execution property."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    @abc.abstractmethod
    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        """Returns what the stage's answer depends on besides its inputs and parameters."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        output = driver_output_pb2.DriverOutput()
        token = self.token(execution_info.input_dict, execution_info.exec_properties)
        output.exec_properties[self.PROPERTY].string_value = token
        return output
