"""Looks at the input files before TFX looks for cached Examples."""

from collections.abc import Mapping
from typing import Any

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.fingerprint import fingerprint_inputs
from components.token_driver import InputArtifacts, TokenDriver


class Driver(TokenDriver):
    """Cached Examples are used as long as the input files are the same."""

    PROPERTY = "fingerprint"

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        """Returns the fingerprint of the input files.

        Raises:
          StageError: the dataset's folder is missing or not what its layout says.
        """
        return fingerprint_inputs(DatasetConfig.model_validate_json(exec_properties["dataset"]))
