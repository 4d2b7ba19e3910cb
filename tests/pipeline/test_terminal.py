"""``components.streams``, ``pipeline.terminal``: streams that are missing, paths as one would type them."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from signing_keys import write_keys

from components.model_store import signing
from pipeline.terminal import short_path

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [
        "predict nothing.jpg --server localhost:1 --model m --output o",
        "serve --model_name m --model_base_path /nowhere",
        "verify /nowhere --key /nowhere",
        "init --data /nowhere",
        "runs --workdir /nowhere",
        "report --compare a b",
        "run_kubeflow compile --recipe nobody --pipeline-root s3://b/p --output p.yaml",
    ],
    ids=lambda command: str(command).split()[0],
)
def test_a_mistake_ends_with_2_where_nobody_hears_of_it(command: str, tmp_path: Path) -> None:
    """By a new interpreter: it is at its start that Python looks for its streams."""
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m pipeline.{command} 2>&-"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What ``pipeline.verify`` finds signed."""
    home = tmp_path_factory.mktemp("signed")
    private, public = write_keys(home)
    (version := home / "serving" / "3").mkdir(parents=True)
    (version / "saved_model.pb").touch()
    signing.sign(version, private)
    return f"verify {version.parent} --key {public}"


@pytest.mark.parametrize(("command", "status"), [("run_local --list-recipes", 0), ("verify", 0), ("runs", 2)])
@pytest.mark.parametrize("redirection", ["", ">/dev/full", ">/dev/full 2>&1"])
def test_a_command_ends_with_its_own_status_whatever_becomes_of_what_it_prints(
    command: str, status: int, redirection: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By a new interpreter, which writes once more what is left as it ends; in a pipe, at once."""
    if command == "verify":
        pytest.importorskip("model_signing")
        command = request.getfixturevalue("signed")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m pipeline.{command} {redirection}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_REPOSITORY), **({} if redirection else {"PYTHONUNBUFFERED": "1"})},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert done.returncode == (status if redirection else 0)
    assert done.stderr.endswith("No space left on device\n" if redirection == ">/dev/full" else "")
    assert not done.stderr or redirection == ">/dev/full"


@pytest.mark.parametrize(
    "command",
    [
        *("evaluate.__main__", "init.__main__", "kubeflow.entrypoint", "predict.__main__", "report"),
        *("run_kubeflow", "run_kubeflow compile", "run_kubeflow submit", "run_kubeflow wait", "run_local"),
        *("runs", "runs show", "runs delete", "serve", "verify"),
    ],
)
def test_help_is_said_in_letters_that_every_terminal_has(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, *more = command.split()
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit, match=r"^0$"):
            importlib.import_module(f"pipeline.{module}").main([*more, "--help"])
        assert stdout.tell()


def test_a_child_process_has_the_streams_that_were_missing() -> None:
    program = (
        "import subprocess, components.streams as t\n"
        "t.open_missing_streams()\n"
        "subprocess.run(['sh', '-c', 'echo heard by nobody >&2'], check=True)"
    )
    subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{program}" 2>&-'], cwd=_REPOSITORY, check=True)


def test_a_path_is_as_one_would_type_it_and_never_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "runs/shapes") == "runs/shapes"
    assert short_path(tmp_path / "-x/serving") == "./-x/serving"
    assert short_path(Path("-x")) == "./-x"
    assert short_path(tmp_path.parent / "-x") == str(tmp_path.parent / "-x")


def test_a_path_is_whole_where_the_current_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert short_path(here / "runs") == str(here / "runs")
