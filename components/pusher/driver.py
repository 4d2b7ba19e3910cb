"""The Pusher's driver: puts the served versions into the key of TFX's cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.components.util import model_utils
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.errors import StageError
from components.model_store import signing, store, tokens
from components.run_parameters import SERVING_DIR
from components.token_driver import InputArtifacts, TokenDriver

SIGNING_KEY_KEY: Final = "signing_key"
_REFUSED: Final = "refused"
_APPROVED_MODEL: Final = "current_model"
"""Where TFX's Evaluator keeps the URI of the model in its verdict."""


def serving_dir(exec_properties: Mapping[str, Any]) -> Path:
    """The directory a model server watches."""
    return Path(exec_properties[SERVING_DIR])


def refusal(inputs: InputArtifacts) -> str:
    """Says why the model must not be pushed; empty if it may."""

    def verdict(key: str) -> types.Artifact:
        return artifact_utils.get_single_instance(list(inputs[key]))

    blessing = verdict(standard_component_specs.MODEL_BLESSING_KEY)
    if not model_utils.is_model_blessed(blessing):
        return "the Evaluator did not approve the model"
    # A cache that took one model for another would answer so.
    approved = blessing.get_string_custom_property(_APPROVED_MODEL)
    model = verdict(standard_component_specs.MODEL_KEY)
    if approved and approved != model.uri:
        return f"the Evaluator approved another model, {approved}, and not {model.uri}"
    if not model_utils.is_infra_validated(verdict(standard_component_specs.INFRA_BLESSING_KEY)):
        return "the model did not pass the serving check"
    return ""


def already_served(model_dir: Path, base: Path, key: str | None) -> store.Version | None:
    """Returns the newest version if it is this very model; signed by the key, where there is one.

    Raises:
        StageError: nothing can be signed with the key.
    """
    try:
        if key:
            signing.check_private_key(key)
        served = tokens.already_served(model_dir, base)
        return served if served and not (key and not signing.is_signed_by(served.path, key)) else None
    except signing.SigningError as error:
        raise StageError(f"serving.signing_key: {error}") from None


def resolve_token(inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
    """Returns the token of the push, which `tokens.push_token` explains.

    A version that the key has not signed is no push of this model: it is pushed again.

    A refusal changes nothing under ``serving/``, so it stays good whatever is served.
    """
    if refusal(inputs):
        return _REFUSED
    model = artifact_utils.get_single_instance(list(inputs[standard_component_specs.MODEL_KEY]))
    model_dir, base = Path(path_utils.serving_model_path(model.uri)), serving_dir(exec_properties)
    return tokens.push_token(already_served(model_dir, base, exec_properties.get(SIGNING_KEY_KEY)))


class Driver(TokenDriver):
    """A cached push is used as long as the version it made is the newest."""

    PROPERTY = tokens.PUSH_TOKEN_KEY

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        return resolve_token(inputs, exec_properties)
