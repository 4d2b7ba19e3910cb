"""What a model server is told: the flags of tensorflow_model_server, as far as they mean something here.

Importing this module imports no TensorFlow.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Never

_INT32: Final = 2**31

USAGE: Final = 2
"""Exit status where the flags, or the files that they name, are wrong."""
LOOPBACK: Final = "127.0.0.1"
"""Servers are for this machine; nothing in their API asks who is calling."""

_MODEL_FILE: Final = "saved_model.pb"


class OptionsError(ValueError):
    """A flag is wrong; the message is one line that says which, and what would be right."""


def _flag(default: Any, kind: type, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "help": text})


@dataclass(frozen=True)
class ServerOptions:
    """A server's flags, under the names and with the defaults of tensorflow_model_server.

    Raises:
        OptionsError: a value is impossible, or two contradict each other.
    """

    port: int = _flag(8500, int, "port of the gRPC API; 0 takes any free one")
    grpc_socket_path: str = _flag("", str, "serve gRPC on this UNIX socket as well")
    grpc_max_threads: int = _flag(
        0,
        int,
        "requests over gRPC that are answered at once, the others wait; 0 means 4 per CPU. With batching, "
        "every request of a batch occupies one",
    )
    grpc_channel_arguments: str = _flag(
        "", str, "comma-separated arguments of the gRPC server, such as grpc.max_connection_age_ms=2000"
    )
    rest_api_port: int | None = _flag(None, int, "port of the REST API; without it, or with 0, there is none")
    rest_api_num_threads: int = _flag(
        0, int, "requests over REST that are answered at once; 0 means 4 per CPU"
    )
    rest_api_timeout_in_ms: int = _flag(30_000, int, "time limit of a request over REST")
    model_name: str = _flag("default", str, "name of the model; --model_config_file overrides it")
    model_base_path: str = _flag(
        "", str, "directory that holds the model's version directories; --model_config_file overrides it"
    )
    model_config_file: str = _flag("", str, "ModelServerConfig in text format: models, policies, labels")
    model_config_file_poll_wait_seconds: int = _flag(
        0, int, "read --model_config_file again after so many seconds; 0 never does"
    )
    file_system_poll_wait_seconds: float = _flag(
        1, int, "look for new versions after so many seconds; 0 looks once"
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, bool, "let a label that is new name a version that is not available yet"
    )
    enable_batching: bool = _flag(False, bool, "compute the requests of several clients together")
    batching_parameters_file: str = _flag("", str, "BatchingParameters in text format")
    enable_model_warmup: bool = _flag(
        True, bool, "replay assets.extra/tf_serving_warmup_requests before a version answers"
    )
    ssl_config_file: str = _flag("", str, "SSLConfig in text format; gRPC then speaks TLS alone")
    monitoring_config_file: str = _flag(
        "", str, "MonitoringConfig in text format; it turns on Prometheus metrics at the REST API's port"
    )

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= 65_535:
                raise OptionsError(f"--{name} is {number}; a port is 0 to 65535")
        if self.port and self.port == self.rest_api_port:
            raise OptionsError(f"--port and --rest_api_port are both {self.port}; they must differ")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["kind"] is int and value is not None and value < 0:
                raise OptionsError(f"--{field.name} is {value}; it cannot be negative")
        channel_arguments(self.grpc_channel_arguments)
        if self.rest_api_timeout_in_ms == 0:
            raise OptionsError("--rest_api_timeout_in_ms is 0; a request needs at least 1")
        if not self.model_base_path and not self.model_config_file:
            raise OptionsError("no model: give --model_name and --model_base_path, or --model_config_file")
        if self.model_base_path and not self.model_config_file and not self.model_name:
            raise OptionsError("--model_name is empty; a model needs a name")
        if self.batching_parameters_file and not self.enable_batching:
            raise OptionsError("--batching_parameters_file is given without --enable_batching")
        if self.monitoring_config_file and self.rest_api_port is None:
            raise OptionsError("--monitoring_config_file needs --rest_api_port: metrics are served there")

    def flags(self) -> list[str]:
        """Returns the command line that says the same, as ``--name=value``; defaults are left out."""
        return [
            f"--{field.name}={_spelled(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]


def channel_arguments(text: str) -> dict[str, int | str]:
    """Parses ``--grpc_channel_arguments``, ``key=value,key=value``; whole numbers are passed as such.

    Raises:
        OptionsError: an argument has no key or no value, or a number that gRPC does not take.
    """
    arguments: dict[str, int | str] = {}
    for argument in filter(None, text.split(",")):
        key, _, value = argument.partition("=")
        if not key or not value:
            raise OptionsError(f"--grpc_channel_arguments: {argument!r} is not of the form key=value")
        arguments[key] = _number_or_text(value)
        if isinstance(number := arguments[key], int) and not -_INT32 <= number < _INT32:
            raise OptionsError(
                f"--grpc_channel_arguments: {argument} is too much; {_INT32 - 1} is the highest"
            )
    return arguments


def _number_or_text(value: str) -> int | str:
    try:
        return int(value)
    except ValueError:
        return value


def check_base_path(base: str) -> None:
    """Refuses a ``--model_base_path`` that can never hold a version, with a hint at what is meant.

    A directory that holds none yet is fine: a server waits for the first.

    Raises:
        OptionsError: it does not exist, or is a SavedModel itself.
    """
    path = Path(base)
    if not path.is_dir():
        raise OptionsError(
            f"--model_base_path {base} is no directory; name the one that holds the model's version "
            f"directories, such as WORKDIR/serving/MODEL"
        )
    if (path / _MODEL_FILE).is_file():
        absolute = path.absolute()
        remedy = (
            f"name its parent, {absolute.parent}" if absolute.name.isdecimal() else f"move it to {path / '1'}"
        )
        raise OptionsError(
            f"--model_base_path {base} is a SavedModel; the base path holds versions of it in numbered "
            f"directories: {remedy}"
        )


def argument_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser for all flags, as ``--name=value`` or ``--name value``; it imports no TensorFlow."""
    parser = _Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Other flags of tensorflow_model_server would do nothing here, and are refused.",
    )
    parser.add_argument(
        "--version", action="version", version=_versions(), help="show the versions and leave"
    )
    for field in dataclasses.fields(ServerOptions):
        kind, text = field.metadata["kind"], field.metadata["help"]
        if kind is bool:
            parser.add_argument(
                f"--{field.name}",
                type=_boolean,
                nargs="?",
                const=True,
                default=field.default,
                metavar="BOOL",
                help=f"{text} (default: {_spelled(field.default)})",
            )
        else:
            shown = "" if field.default in ("", None) else f" (default: {field.default})"
            metavar = "N" if kind is int else field.name.rsplit("_", 1)[-1].upper()
            parser.add_argument(
                f"--{field.name}", type=kind, default=field.default, metavar=metavar, help=text + shown
            )
    return parser


def read_options(arguments: argparse.Namespace) -> ServerOptions:
    """Returns the options that `argument_parser` has parsed.

    Raises:
        OptionsError: as `ServerOptions`.
    """
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(ServerOptions)}
    # On the command line 0 turns REST off, as there; in code it asks for any free port.
    return ServerOptions(**{**values, "rest_api_port": values["rest_api_port"] or None})


def parse_options(argv: Sequence[str] | None, prog: str, description: str) -> ServerOptions:
    """Parses a command line; a wrong one ends the process with status 2 and one line."""
    parser = argument_parser(prog, description)
    try:
        return read_options(parser.parse_args(argv))
    except OptionsError as error:
        parser.error(str(error))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        # The usage of all flags would bury the one line that helps.
        self.exit(USAGE, f"{message} (--help lists the flags)\n")


def _versions() -> str:
    return (
        f"Embedded model server of TensorFlow Serving's API {version('tensorflow-serving-api')}\n"
        f"TensorFlow Library: {version('tensorflow')}"
    )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    try:
        return values[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
