"""Looks at the input files before TFX looks for cached Examples."""

from collections.abc import Mapping
from typing import Any, Final

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.fingerprint import fingerprint_inputs
from components.token_driver import InputArtifacts, TokenDriver

DATASET_KEY: Final = "dataset"
ROOT_KEY: Final = "root"


def dataset_config(exec_properties: Mapping[str, Any]) -> DatasetConfig:
    """Returns the settings with the root that this run reads from."""
    config = DatasetConfig.model_validate_json(exec_properties[DATASET_KEY])
    return config.model_copy(update={"root": exec_properties[ROOT_KEY] or None})


class Driver(TokenDriver):
    """Cached Examples are used as long as the input files are the same."""

    PROPERTY = "fingerprint"

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        """Returns the fingerprint of the input files.

        Raises:
          StageError: the dataset's folder is missing or not what its layout says.
        """
        return fingerprint_inputs(dataset_config(exec_properties))
