"""``python -m pipeline.serve`` up to the moment when a server takes over."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest

from components.model_store.publishing import publish
from pipeline import serve

_REPOSITORY = Path(__file__).resolve().parents[2]


def _serve(
    *flags: str, path: Path | None = None, stdout: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(path) if path else "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.serve", *flags],
        cwd=_REPOSITORY,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_comes_at_once_and_names_the_exit_statuses() -> None:
    started = time.process_time(), os.times().children_user
    done = _serve("--help")
    assert done.returncode == 0
    assert os.times().children_user - started[1] < 1
    assert "Ends with 0 once a signal has stopped it" in done.stdout
    assert "--backend {auto,tensorflow_model_server,docker,embedded}" in done.stdout


def test_the_real_binary_takes_over_with_the_same_flags(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\necho "$$ $@"; exit 7\n')
    binary.chmod(0o755)
    flags = ["--model_name", "pets", "--model_base_path", str(tmp_path / "pets"), "--enable_batching"]
    flags += ["--batching_parameters_file", "b.config", "--use_alts_credentials"]
    done = _serve(*flags, path=tmp_path)
    said, ran = done.stdout.splitlines()
    unchecked = "--batching_parameters_file=b.config --use_alts_credentials"
    assert said == f"Serving with {binary}; not checked here: {unchecked}"
    assert ran.split()[1:] == [
        "--model_name=pets",
        f"--model_base_path={tmp_path / 'pets'}",
        "--enable_batching=true",
        *unchecked.split(),
    ]
    assert done.returncode == 7


def test_a_server_takes_over_where_nothing_can_be_said(tmp_path: Path) -> None:
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\nexit 7\n")
    binary.chmod(0o755)
    with Path("/dev/full").open("w") as full:
        done = _serve("--model_name", "m", "--model_base_path", str(tmp_path), path=tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (7, "")


def test_no_server_is_given_a_version_that_is_not_what_was_pushed(tmp_path: Path) -> None:
    model, base = tmp_path / "model", tmp_path / "pets"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"a graph")
    version = base / str(publish(model, base, {}))
    (version / "saved_model.pb").write_bytes(b"a gruph")
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\nexit 7\n")
    binary.chmod(0o755)
    done = _serve("--model_name", "pets", "--model_base_path", str(base), path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{version} is damaged: ") and done.stderr.count("\n") == 1


def test_a_version_that_may_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pets" / "3").mkdir(parents=True)
    binary = tmp_path / "tensorflow_model_server"
    binary.touch(0o755)
    stat = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        # Not by permissions, which do not hold for the superuser.
        if "/3/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "stat", refuse)
    assert serve.main(["--model_name", "pets", "--model_base_path", str(tmp_path / "pets")]) == 1
    said = f"{tmp_path}/pets/3/saved_model.pb cannot be read: Permission denied\n"
    assert capsys.readouterr().err == said


def test_the_container_takes_over(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nif [ "$1" = version ]; then echo 28.0; else echo "$@"; fi\n')
    docker.chmod(0o755)
    done = _serve("--model_base_path", str(tmp_path), path=tmp_path)
    assert done.stdout.splitlines()[1].startswith("run --rm --init --publish=127.0.0.1:8500:8500 --mount=")


@pytest.mark.parametrize(
    ("flags", "status", "complaint"),
    [
        (["--model_base_path", "/nowhere"], 2, "--model_base_path /nowhere is no directory"),
        ([], 2, "no model: give --model_name and --model_base_path"),
        (
            ["--model_base_path", "/tmp", "--ssl_config_file=ssl.config"],
            2,
            "the embedded server has no flag --ssl_config_file (see --help); if it is one of "
            "tensorflow_model_server's: python -m pipeline.serve --backend docker",
        ),
        (
            ["--model_base_path", "/tmp", "--backend", "cloud"],
            2,
            "invalid choice: 'cloud' (choose from 'auto', ",
        ),
        (["--model_base_path", "/tmp", "--backend", "docker"], 1, "no Docker engine answers"),
    ],
)
def test_what_cannot_be_served_is_one_line(flags: list[str], status: int, complaint: str) -> None:
    done = _serve(*flags)
    assert done.returncode == status
    assert done.stdout == "" and complaint in done.stderr and done.stderr.count("\n") == 1
