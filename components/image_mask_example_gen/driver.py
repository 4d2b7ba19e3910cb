"""Looks at the input files before TFX looks for cached Examples."""

from collections.abc import Mapping
from typing import Any

from components.image_mask_example_gen.inputs import FINGERPRINT_KEY, fingerprint_inputs, ingestion_settings
from components.token_driver import InputArtifacts, TokenDriver


class Driver(TokenDriver):
    """Cached Examples are used as long as the input files are the same."""

    PROPERTY = FINGERPRINT_KEY

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        """Returns the fingerprint of the input files.

        Raises:
          StageError: the dataset's folder is missing or not what its layout says.
        """
        return fingerprint_inputs(ingestion_settings(exec_properties).dataset)
