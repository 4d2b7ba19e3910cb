"""The flags of tensorflow_model_server, read as it reads them, and refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.serving.server.config_files import PROMETHEUS_PATH, read_monitoring_config, read_ssl_config
from components.serving.server.options import (
    OptionsError,
    ServerOptions,
    check_base_path,
    parse_options,
)

_REPOSITORY = Path(__file__).resolve().parents[2]
_MODEL = "--model_base_path=/models/pets"


def _parsed(*argv: str) -> ServerOptions:
    return parse_options(argv, "server", "")


def test_the_defaults_are_those_of_tensorflow_model_server() -> None:
    options = _parsed(_MODEL)
    assert (options.port, options.rest_api_port, options.model_name) == (8500, None, "default")
    assert (options.file_system_poll_wait_seconds, options.rest_api_timeout_in_ms) == (1, 30_000)
    assert options.enable_model_warmup and not options.enable_batching


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching", "1"], True),
        (["--enable_batching=false"], False),
        (["--enable_batching", "--port=9000"], True),
        (["--enable_batching=True"], True),
    ],
)
def test_booleans_are_written_as_there(flags: list[str], expected: bool) -> None:
    assert _parsed(_MODEL, *flags).enable_batching is expected


def test_values_follow_an_equals_sign_or_a_space() -> None:
    assert _parsed(_MODEL, "--port=9000") == _parsed("--model_base_path", "/models/pets", "--port", "9000")


def test_rest_port_zero_turns_rest_off_as_there() -> None:
    assert _parsed(_MODEL, "--rest_api_port=0").rest_api_port is None
    assert _parsed(_MODEL, "--rest_api_port=8501").rest_api_port == 8501


def test_options_can_be_said_again_as_flags() -> None:
    options = ServerOptions(
        port=9000,
        model_name="pets",
        model_base_path="/models/pets",
        enable_batching=True,
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
        ([_MODEL, "--batching_parameters_file=b"], "without --enable_batching"),
        ([_MODEL, "--monitoring_config_file=m"], "needs --rest_api_port"),
        ([_MODEL, "--file_system_poll_wait_seconds=-1"], "cannot be negative"),
        ([_MODEL, "--rest_api_timeout_in_ms=0"], "at least 1"),
        ([_MODEL, "--model_name="], "--model_name is empty"),
        ([_MODEL, "--enable_batching=maybe"], "neither true nor false"),
        ([_MODEL, "--use_alts_credentials"], "unrecognized arguments"),
        ([_MODEL, "--grpc_channel_arguments=a=1,=2"], "'=2' is not of the form key=value"),
        ([_MODEL, "--grpc_channel_arguments=a"], "'a' is not of the form key=value"),
        (
            [_MODEL, "--grpc_channel_arguments=grpc.max_receive_message_length=2147483648"],
            "grpc.max_receive_message_length=2147483648 is too much; 2147483647 is the highest",
        ),
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


def test_help_and_version_load_no_tensorflow() -> None:
    script = (
        "import sys; import components.serving.server.__main__ as server\n"
        "try: server.main(['--help'])\n"
        "except SystemExit as ending: assert ending.code == 0\n"
        "assert not {'tensorflow', 'tfx'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "--model_base_path" in done.stdout and "development and tests" in done.stdout


def test_a_base_path_may_wait_for_its_first_version(tmp_path: Path) -> None:
    check_base_path(str(tmp_path))


def test_a_base_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="is no directory; name the one that holds"):
        check_base_path(str(tmp_path / "nowhere"))


def test_a_version_given_as_base_path_is_answered_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "saved_model.pb").touch()
    with pytest.raises(OptionsError, match=f"is a SavedModel; .* name its parent, {tmp_path}"):
        check_base_path(str(tmp_path / "17"))


def test_a_saved_model_given_as_base_path_is_to_become_a_version(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(OptionsError, match=f"move it to {tmp_path / '1'}"):
        check_base_path(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", PROMETHEUS_PATH),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: false }", None),
        ("", None),
    ],
)
def test_metrics_are_served_where_the_monitoring_config_says(
    tmp_path: Path, text: str, path: str | None
) -> None:
    (tmp_path / "monitoring.config").write_text(text)
    assert read_monitoring_config(str(tmp_path / "monitoring.config")) == path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('server_key: "/etc/key.pem"', "server_key must hold the PEM text itself"),
        ("server_kee: 1", "1:1: Message type .* has no field named"),
        (
            'server_key: "-----BEGIN x" server_cert: "-----BEGIN y"',
            "server_key and server_cert do not load together",
        ),
    ],
)
def test_an_ssl_config_that_cannot_work_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "ssl.config").write_text(text)
    with pytest.raises(OptionsError, match=complaint):
        read_ssl_config(str(tmp_path / "ssl.config"))


def test_an_ssl_config_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"--ssl_config_file .*none\.config cannot be read"):
        read_ssl_config(str(tmp_path / "none.config"))
