"""The flags of tensorflow_model_server, read as it reads them, and refused in one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.serving.server.options import OptionsError, ServerOptions, check_base_path, parse_options

_REPOSITORY = Path(__file__).resolve().parents[2]
_MODEL = "--model_base_path=/models/pets"


def _parsed(*argv: str) -> ServerOptions:
    return parse_options(argv, "server", "")


def test_the_defaults_are_those_of_tensorflow_model_server() -> None:
    options = _parsed(_MODEL)
    assert (options.port, options.rest_api_port, options.model_name) == (8500, None, "default")
    assert options.file_system_poll_wait_seconds == 1
    assert options.enable_model_warmup and not options.enable_batching


@pytest.mark.parametrize("flag", ["", "=true", "=True", " 1", "=false"])
def test_flags_are_written_as_there(flag: str) -> None:
    options = _parsed(_MODEL, *f"--enable_batching{flag} --port 9000 --rest_api_port=0".split())
    assert (options.enable_batching, options.port, options.rest_api_port) == (flag != "=false", 9000, None)


def test_options_can_be_said_again_as_flags() -> None:
    options = ServerOptions(
        port=9000,
        model_name="pets",
        model_base_path="/models/pets",
        enable_model_warmup=False,
        rest_api_port=9001,
    )
    assert _parsed(*options.flags()) == options
    assert "--enable_model_warmup=false" in options.flags()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([], "no model: give --model_name and --model_base_path"),
        ([_MODEL, "--port=70000"], "--port is 70000; a port is 0 to 65535"),
        ([_MODEL, "--port=8501", "--rest_api_port=8501"], "must differ"),
        ([_MODEL, "--file_system_poll_wait_seconds=-1"], "cannot be negative"),
        ([_MODEL, "--model_name="], "--model_name: it is empty"),
        ([_MODEL, "--verify_key", ""], "--verify_key: it is empty"),
        ([_MODEL, "--enable_batching=maybe"], "neither true nor false"),
        ([_MODEL, "pets"], "'pets' is no flag"),
        # Unknown, and known to TensorFlow Serving alone.
        ([_MODEL, "--enable_bathcing"], "has no flag --enable_bathcing (see --help)"),
        (
            [_MODEL, "--ssl_config_file=ssl.config"],
            "has no flag --ssl_config_file (see --help); if it is one of",
        ),
        ([_MODEL, "--monitoring_config_file", "m"], "python -m pipeline.serve --backend docker"),
        ([_MODEL, "--rest_api_timeout_in_ms=100"], "python -m pipeline.serve --backend docker"),
        (["--version"], "has no flag --version"),
        (["--model_config_file=models.config"], "--backend docker, or --backend tensorflow_model_server"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(
    flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        _parsed(*flags)
    printed = capsys.readouterr().err
    assert ending.value.code == 2
    assert complaint in printed and printed.count("\n") == 1


def test_help_loads_no_tensorflow() -> None:
    script = (
        "import sys; import components.serving.server.__main__ as server\n"
        "try: server.main(['--help'])\n"
        "except SystemExit as ending: assert ending.code == 0\n"
        "assert not {'tensorflow', 'tfx', 'grpc'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "--model_base_path" in done.stdout and "development and tests" in done.stdout


def test_a_base_path_below_a_folder_that_may_not_be_entered_is_one_line(
    forbid: Callable[[str], None],
) -> None:
    forbid("closed/")
    with pytest.raises(OptionsError, match=r"closed/a cannot be looked into: Permission denied$"):
        check_base_path("closed/a")


def test_a_base_path_holds_versions_and_may_wait_for_the_first(tmp_path: Path) -> None:
    check_base_path(str(tmp_path))
    with pytest.raises(OptionsError, match="is no directory; name the one that holds"):
        check_base_path(str(tmp_path / "nowhere"))
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "saved_model.pb").touch()
    with pytest.raises(OptionsError, match=f"is a SavedModel; .* name its parent, {tmp_path}"):
        check_base_path(str(tmp_path / "17"))
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(OptionsError, match=f"move it to {tmp_path / '1'}"):
        check_base_path(str(tmp_path))
