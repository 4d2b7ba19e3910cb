"""The Pusher's driver: puts the served versions into the key of TFX's cache."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.components.util import model_utils
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.model_store import store
from components.token_driver import InputArtifacts, TokenDriver

SERVING_DIR_KEY: Final = "serving_dir"
_REFUSED: Final = "refused"


def serving_dir(exec_properties: Mapping[str, Any]) -> Path:
    """The directory a model server watches."""
    return Path(exec_properties[SERVING_DIR_KEY])


def already_served(model_dir: Path, base: Path) -> store.Version | None:
    """Returns the newest version if it is this very model."""
    served = store.newest(base)
    same = served is not None and served.fingerprint() == store.content_fingerprint(model_dir)
    return served if same else None


def refusal(inputs: InputArtifacts) -> str:
    """Says why the model must not be pushed; empty if it may."""

    def verdict(key: str) -> types.Artifact:
        return artifact_utils.get_single_instance(list(inputs[key]))

    if not model_utils.is_model_blessed(verdict(standard_component_specs.MODEL_BLESSING_KEY)):
        return "the Evaluator did not approve the model"
    if not model_utils.is_infra_validated(verdict(standard_component_specs.INFRA_BLESSING_KEY)):
        return "the model did not pass the serving check"
    return ""


def resolve_token(inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
    """Returns the token of the push: of one that is still good, or a new one that no cache knows.

    A push is still good while the version it made is the newest one; that version keeps its token. It is
    not good any more once the version is deleted or another one is newer. A refusal changes nothing
    under ``serving/``, so it stays good whatever is served.
    """
    if refusal(inputs):
        return _REFUSED
    model = artifact_utils.get_single_instance(list(inputs[standard_component_specs.MODEL_KEY]))
    served = already_served(Path(path_utils.serving_model_path(model.uri)), serving_dir(exec_properties))
    earlier = served.provenance().get(store.PUSH_TOKEN_KEY) if served else None
    return earlier or uuid.uuid4().hex


class Driver(TokenDriver):
    """A cached push is used as long as the version it made is the newest."""

    PROPERTY = store.PUSH_TOKEN_KEY

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        return resolve_token(inputs, exec_properties)
