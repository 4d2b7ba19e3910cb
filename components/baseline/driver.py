"""The Baseline's driver: puts the served version into the key of TFX's cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.model_store import tokens
from components.run_parameters import SERVING_DIR
from components.token_driver import InputArtifacts, TokenDriver


def resolve_token(inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
    """Returns the token of the served version that the stage is to answer with."""
    candidate = artifact_utils.get_single_instance(list(inputs[standard_component_specs.MODEL_KEY]))
    model_dir = path_utils.serving_model_path(candidate.uri)
    return tokens.baseline_token(Path(model_dir), Path(exec_properties[SERVING_DIR]))


class Driver(TokenDriver):
    """A cached baseline is used as long as the same version is the one to compare with."""

    PROPERTY = tokens.SERVED_MODEL_KEY

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        return resolve_token(inputs, exec_properties)
