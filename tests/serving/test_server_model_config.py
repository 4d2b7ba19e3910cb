"""ModelServerConfig in text format: what it means, and how mistakes are told."""

from pathlib import Path

import grpc
import pytest
from tensorflow_serving.config import model_server_config_pb2

from components.serving.server.errors import ServingError
from components.serving.server.model_config import (
    All,
    Latest,
    ModelConfig,
    Specific,
    from_proto,
    parse_model_config_file,
)


def parse(tmp_path: Path, text: str) -> list[ModelConfig]:
    path = tmp_path / "models.config"
    path.write_text(text)
    return parse_model_config_file(path)


def config(*models: str) -> str:
    entries = [f'  config {{\n    model_platform: "tensorflow"\n    {model}\n  }}\n' for model in models]
    return f"model_config_list {{\n{''.join(entries)}}}"


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ServingError) as caught:
        parse(tmp_path, text)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "\n" not in caught.value.message
    assert str(tmp_path / "models.config") in caught.value.message
    return caught.value.message


def test_a_model_has_name_base_path_policy_and_labels(tmp_path: Path) -> None:
    body = """
        name: "pets" base_path: "/models/pets"
        model_version_policy { specific { versions: 3 versions: 4 } }
        version_labels { key: "stable" value: 3 }
        version_labels { key: "canary" value: 4 }
    """
    assert parse(tmp_path, config(body)) == [
        ModelConfig("pets", Path("/models/pets"), Specific(frozenset({3, 4})), {"stable": 3, "canary": 4})
    ]


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", {9}),
        ("model_version_policy { latest { num_versions: 2 } }", {5, 9}),
        ("model_version_policy { latest { } }", {9}),
        ("model_version_policy { all { } }", {1, 5, 9}),
        ("model_version_policy { specific { versions: 1 versions: 7 } }", {1}),
    ],
)
def test_a_policy_picks_versions(tmp_path: Path, policy: str, served: set[int]) -> None:
    (model,) = parse(tmp_path, config(f'name: "pets" base_path: "/models/pets" {policy}'))
    assert model.policy.select([5, 9, 1]) == served


@pytest.mark.parametrize("policy", [Latest(3), All(), Specific(frozenset({1}))])
def test_without_versions_every_policy_picks_none(policy: Latest | All | Specific) -> None:
    assert policy.select([]) == set()


def test_an_unknown_field_is_named_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, config('nme: "pets"'))
    assert f"{tmp_path / 'models.config'}:4:5: " in message
    assert '"nme"' in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a model_config_list is needed"),
        (config('base_path: "/models/pets"'), "has no name"),
        (config('name: "pets" base_path: "models/pets"'), "Expected model pets to have an absolute path"),
        (config('name: "pets" base_path: "gs://models/pets"'), "local directories"),
        (
            'model_config_list { config { name: "pets" base_path: "/models/pets" } }',
            'must be "tensorflow"',
        ),
        (
            config('name: "pets" base_path: "/a"', 'name: "pets" base_path: "/b"'),
            "Illegal to list model pets multiple times in config list",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"absent\.config cannot be read: No such file"):
        parse_model_config_file(tmp_path / "absent.config")


def test_an_empty_list_of_models_is_a_list() -> None:
    text = model_server_config_pb2.ModelServerConfig()
    text.model_config_list.SetInParent()
    assert from_proto(text) == []
