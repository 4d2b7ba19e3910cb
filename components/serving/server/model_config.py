"""Which models are served from where: TensorFlow Serving's ModelServerConfig, read and checked."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2

from components.serving.server.errors import ServingError, invalid
from components.serving.server.text_proto import read_text_proto

_PLATFORM = "tensorflow"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latest:
    """The highest ``count`` versions; none counts as 1, as in TensorFlow Serving."""

    count: int = 1

    def select(self, versions: Collection[int]) -> set[int]:
        """Returns those of ``versions`` that are to be served."""
        return set(sorted(versions)[-max(self.count, 1) :])


@dataclass(frozen=True)
class All:
    """Every version there is."""

    def select(self, versions: Collection[int]) -> set[int]:
        """Returns those of ``versions`` that are to be served."""
        return set(versions)


@dataclass(frozen=True)
class Specific:
    """These versions and no others."""

    versions: frozenset[int]

    def select(self, versions: Collection[int]) -> set[int]:
        """Returns those of ``versions`` that are to be served."""
        return set(self.versions.intersection(versions))


Policy = Latest | All | Specific


@dataclass(frozen=True)
class ModelConfig:
    """One model: the versions under ``base_path/<number>`` that ``policy`` picks.

    ``labels`` are names for versions: ``{"stable": 3, "canary": 4}``.
    """

    name: str
    base_path: Path
    policy: Policy = Latest()
    labels: Mapping[str, int] = field(default_factory=dict)


def parse_model_config_file(path: Path) -> list[ModelConfig]:
    """Reads a ModelServerConfig in text format, as ``--model_config_file`` takes it.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the file and, where the text itself is wrong, the line.
    """
    config = read_text_proto(path, model_server_config_pb2.ModelServerConfig())
    try:
        return from_proto(config)
    except ServingError as error:
        raise ServingError(error.code, f"{path}: {error.message}") from error


def from_proto(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """Returns the models of a ``model_config_list``.

    Raises:
        ServingError: INVALID_ARGUMENT, it is not a list of TensorFlow models in local directories.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid("a model_config_list is needed: model_config_list { config { name: … base_path: … } }")
    configs = [_model(model) for model in config.model_config_list.config]
    check(configs)
    return configs


def check(configs: Sequence[ModelConfig]) -> None:
    """Refuses what cannot be served together.

    Raises:
        ServingError: INVALID_ARGUMENT, a name is empty or listed twice, or a base path is not absolute.
    """
    seen = set()
    for config in configs:
        if not config.name:
            raise invalid(f"the model with base_path {config.base_path} has no name")
        if config.name in seen:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        if not config.base_path.is_absolute():
            raise invalid(
                f"Expected model {config.name} to have an absolute path; got base_path: {config.base_path}"
            )
        seen.add(config.name)


def _model(model: model_server_config_pb2.ModelConfig) -> ModelConfig:
    if "://" in model.base_path:
        raise invalid(
            f"model {model.name} has base_path {model.base_path}; the embedded server reads local directories"
        )
    # The deprecated model_type says the same in another way.
    if model.model_type != model_server_config_pb2.TENSORFLOW and model.model_platform != _PLATFORM:
        given = f'"{model.model_platform}"' if model.model_platform else "none"
        raise invalid(f'model {model.name} has model_platform {given}; it must be "{_PLATFORM}"')
    if model.HasField("logging_config"):
        logger.warning("model %s: logging_config has no effect in the embedded server", model.name)
    return ModelConfig(model.name, Path(model.base_path), _policy(model), dict(model.version_labels))


def _policy(model: model_server_config_pb2.ModelConfig) -> Policy:
    policy = model.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case None:
            return Latest()
        case "latest":
            return Latest(policy.latest.num_versions)
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case other:
            choices = "latest, all or specific"
            raise invalid(f"model {model.name} has model_version_policy {other}; it must be {choices}")
