"""Which program serves, and how it is called; the programs are small fakes on PATH."""

import sys
from pathlib import Path

import pytest

from components.serving.backends import IMAGE, Backend, BackendError, choose
from components.serving.server.options import OptionsError, ServerOptions

_OPTIONS = ServerOptions(model_name="pets", model_base_path="/models/pets", rest_api_port=8501)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _program(folder: Path, name: str, script: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_real_binary_comes_first(programs: Path) -> None:
    binary = _program(programs, "tensorflow_model_server")
    _program(programs, "docker", "echo 28.0")
    launch = choose(Backend.AUTO, _OPTIONS)
    assert launch.backend is Backend.TENSORFLOW_MODEL_SERVER
    assert launch.command == (
        str(binary),
        "--rest_api_port=8501",
        "--model_name=pets",
        "--model_base_path=/models/pets",
    )


def test_a_docker_engine_that_has_the_image_comes_second(programs: Path) -> None:
    script = f"""case "$*" in version*) echo 28.0;; "image inspect {IMAGE}") echo "[]";; *) exit 1;; esac"""
    _program(programs, "docker", script)
    launch = choose(Backend.AUTO, _OPTIONS)
    assert launch.backend is Backend.DOCKER
    assert "28.0" in launch.reason and IMAGE in launch.reason


def test_only_who_asks_for_docker_has_the_image_pulled(programs: Path) -> None:
    _program(programs, "docker", '[ "$1" = version ] && echo 28.0')
    launch = choose(Backend.AUTO, _OPTIONS)
    assert launch.backend is Backend.EMBEDDED
    assert launch.reason.endswith(f": no tensorflow_model_server on PATH, Docker has no image {IMAGE}")
    assert choose(Backend.DOCKER, _OPTIONS).command[:2] == ("docker", "run")


@pytest.mark.parametrize(
    "backend", [Backend.TENSORFLOW_MODEL_SERVER, Backend.DOCKER, Backend.EMBEDDED], ids=str
)
def test_tensorflow_serving_which_refuses_relative_base_paths_gets_absolute_ones(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    _program(programs, "tensorflow_model_server")
    _program(programs, "docker", "echo 28.0")
    monkeypatch.chdir(tmp_path)
    command = choose(backend, ServerOptions(model_base_path="serving/pets")).command
    assert f"--model_base_path={tmp_path}/serving/pets" in command
    remote = choose(backend, ServerOptions(model_base_path="gs://bucket/pets")).command
    assert "--model_base_path=gs://bucket/pets" in remote
    assert not [argument for argument in remote if argument.startswith("--mount")]


@pytest.mark.parametrize("script", ["echo 'Cannot connect to the Docker daemon' >&2; exit 1", "exit 0"])
def test_a_docker_client_without_an_engine_does_not_count(programs: Path, script: str) -> None:
    _program(programs, "docker", script)
    launch = choose(Backend.AUTO, _OPTIONS)
    assert launch.backend is Backend.EMBEDDED
    assert "development and tests" in launch.reason


def test_embedded_runs_under_this_python_with_the_same_flags(programs: Path) -> None:
    command = choose(Backend.EMBEDDED, _OPTIONS).command
    assert command[:3] == (sys.executable, "-m", "components.serving.server")
    assert command[3:] == tuple(_OPTIONS.flags())


def test_the_container_sees_models_read_only_and_ports_stay_on_this_machine(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(programs, "docker", "echo 28.0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batching.config").touch()
    options = ServerOptions(
        port=9000,
        rest_api_port=9001,
        model_name="pets",
        model_base_path="serving/pets",
        enable_batching=True,
        others=("--batching_parameters_file=batching.config", "--use_alts_credentials"),
    )
    command = choose(Backend.DOCKER, options).command
    base, batching = tmp_path / "serving" / "pets", tmp_path / "batching.config"
    assert command == (
        "docker",
        "run",
        "--rm",
        "--init",
        "--publish=127.0.0.1:9000:9000",
        "--publish=127.0.0.1:9001:9001",
        f"--mount=type=bind,source={base},target={base},readonly",
        f"--mount=type=bind,source={batching},target={batching},readonly",
        "--entrypoint=tensorflow_model_server",
        IMAGE,
        "--port=9000",
        "--rest_api_port=9001",
        "--model_name=pets",
        f"--model_base_path={base}",
        "--enable_batching=true",
        f"--batching_parameters_file={batching}",
        "--use_alts_credentials",
    )


def test_the_container_sees_every_model_of_a_config_file(programs: Path, tmp_path: Path) -> None:
    _program(programs, "docker", "echo 28.0")
    config = tmp_path / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }} '
        for name in ("cats", "dogs")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    command = choose(Backend.DOCKER, ServerOptions(others=(f"--model_config_file={config}",))).command
    mounts = [argument for argument in command if argument.startswith("--mount")]
    assert [mount.split("source=")[1].split(",")[0] for mount in mounts] == [
        "/models/cats",
        "/models/dogs",
        str(config),
    ]


def test_the_container_may_read_models_from_elsewhere(programs: Path, tmp_path: Path) -> None:
    _program(programs, "docker", "echo 28.0")
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "cats" base_path: "gs://models/cats" '
        'model_platform: "tensorflow" } }'
    )
    command = choose(Backend.DOCKER, ServerOptions(others=(f"--model_config_file={config}",))).command
    assert len([argument for argument in command if argument.startswith("--mount")]) == 1


def test_a_path_with_a_comma_is_one_field_of_the_mount(programs: Path) -> None:
    _program(programs, "docker", "echo 28.0")
    options = ServerOptions(model_base_path="/models/a,b")
    (mount,) = [part for part in choose(Backend.DOCKER, options).command if part.startswith("--mount")]
    assert mount == '--mount=type=bind,"source=/models/a,b","target=/models/a,b",readonly'


@pytest.mark.parametrize(
    ("backend", "complaint"),
    [
        (Backend.TENSORFLOW_MODEL_SERVER, "no tensorflow_model_server on PATH"),
        (Backend.DOCKER, "no Docker engine answers"),
    ],
)
def test_a_program_asked_for_that_is_not_there_is_an_error(
    programs: Path, backend: Backend, complaint: str
) -> None:
    with pytest.raises(BackendError, match=complaint):
        choose(backend, _OPTIONS)


@pytest.mark.parametrize("backend", [Backend.TENSORFLOW_MODEL_SERVER, Backend.DOCKER])
def test_only_the_embedded_server_takes_any_free_port(programs: Path, backend: Backend) -> None:
    _program(programs, "tensorflow_model_server")
    _program(programs, "docker", "echo 28.0")
    options = ServerOptions(model_base_path="/models/pets", port=0)
    with pytest.raises(OptionsError, match="name one"):
        choose(backend, options)
    assert "--port=0" in choose(Backend.EMBEDDED, options).command


@pytest.mark.parametrize("backend", [Backend.TENSORFLOW_MODEL_SERVER, Backend.DOCKER])
def test_flags_that_the_embedded_server_lacks_are_passed_on_and_said_to_be_unchecked(
    programs: Path, backend: Backend
) -> None:
    _program(programs, "tensorflow_model_server")
    _program(programs, "docker", "echo 28.0")
    options = ServerOptions(model_base_path="/models/pets", others=("--max_num_load_retries=0",))
    launch = choose(backend, options)
    assert launch.command[-1] == "--max_num_load_retries=0"
    assert launch.reason.endswith("; not checked here: --max_num_load_retries=0")
    with pytest.raises(OptionsError, match=r"has no flag --max_num_load_retries .* --backend docker"):
        choose(Backend.EMBEDDED, options)


def test_what_a_container_cannot_do_is_refused(programs: Path) -> None:
    _program(programs, "docker", "echo 28.0")
    for flag in ("--grpc_socket_path=/tmp/s", "--model_config_file_poll_wait_seconds=30"):
        options = ServerOptions(model_base_path="/models/pets", others=(flag,))
        with pytest.raises(OptionsError, match=f"^{flag.partition('=')[0]}: .*leave it out"):
            choose(Backend.DOCKER, options)


@pytest.mark.parametrize("backend", [Backend.AUTO, Backend.TENSORFLOW_MODEL_SERVER])
def test_who_checks_no_signatures_is_not_asked_to(programs: Path, backend: Backend) -> None:
    _program(programs, "tensorflow_model_server")
    options = ServerOptions(model_base_path="/models", verify_key="signing.pub")
    with pytest.raises(OptionsError, match=r"--verify_key: .* checks no signatures; .*pipeline.verify --to"):
        choose(backend, options)
    assert "--verify_key=signing.pub" in choose(Backend.EMBEDDED, options).command


def test_the_version_is_told_without_a_model_and_beside_a_server_that_runs(programs: Path) -> None:
    binary = _program(programs, "tensorflow_model_server")
    _program(programs, "docker", "echo 28.0")
    options = ServerOptions(others=("--version",))
    assert choose(Backend.AUTO, options).command == (str(binary), "--version")
    assert choose(Backend.DOCKER, options).command == (
        *("docker", "run", "--rm", "--init", "--entrypoint=tensorflow_model_server", IMAGE, "--version"),
    )
