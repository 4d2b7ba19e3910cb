"""Runs before the cache is asked: adds the fingerprint of the input files to what the cache compares.

TFX's local orchestration runs drivers; Kubeflow Pipelines does not, there the fingerprint stays empty.
"""

from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.proto.orchestration import driver_output_pb2

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.fingerprint import fingerprint_inputs


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Sets the execution property ``fingerprint``."""

    def __init__(self, metadata_handle: metadata.Metadata):
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Returns the property for this run.

        Raises:
          StageError: the dataset's folder is missing or not what its layout says.
        """
        config = DatasetConfig.model_validate_json(execution_info.exec_properties["dataset"])
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["fingerprint"].string_value = fingerprint_inputs(config)
        return output
