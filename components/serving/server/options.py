"""What a model server is told: flags of tensorflow_model_server, those of the embedded server and others.

Importing this module imports no TensorFlow.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from components.model_store.store import MODEL_FILE

USAGE: Final = 2
"""Exit status where the flags are wrong."""
LOOPBACK: Final = "127.0.0.1"
"""Servers are for this machine; nothing in their API asks who is calling."""


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
    grpc_max_threads: int = _flag(
        0,
        int,
        "requests over gRPC that are answered at once, the others wait; 0 means 4 per CPU. With batching, "
        "every request of a batch occupies one",
    )
    rest_api_port: int | None = _flag(None, int, "port of the REST API; without it, or with 0, there is none")
    model_name: str = _flag("default", str, "name of the model")
    model_base_path: str = _flag("", str, "directory that holds the model's version directories")
    file_system_poll_wait_seconds: float = _flag(
        1, int, "look for new versions after so many seconds; 0 looks once"
    )
    enable_batching: bool = _flag(False, bool, "compute the requests of several clients together")
    enable_model_warmup: bool = _flag(
        True, bool, "replay assets.extra/tf_serving_warmup_requests before a version answers"
    )
    verify_key: str = _flag(
        "",
        str,
        "the embedded server's own: file of a public key, PEM; a version that it has not signed is refused",
    )
    others: tuple[str, ...] = ()
    """Flags of tensorflow_model_server that the embedded server does not have, as ``--name=value``."""

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= 65_535:
                raise OptionsError(f"--{name} is {number}; a port is 0 to 65535")
        if self.port and self.port == self.rest_api_port:
            raise OptionsError(f"--port and --rest_api_port are both {self.port}; they must differ")
        for field in _FLAGS:
            value = getattr(self, field.name)
            if field.metadata["kind"] is int and value is not None and value < 0:
                raise OptionsError(f"--{field.name} is {value}; it cannot be negative")
        if not self.model_name:
            raise OptionsError("--model_name is empty; a model needs a name")
        for flag in self.others:
            if not flag.startswith("--"):
                raise OptionsError(f"{flag!r} is no flag")
        told = {flag.partition("=")[0] for flag in self.others} & {"--model_config_file", "--version"}
        if not self.model_base_path and not told:
            raise OptionsError("no model: give --model_name and --model_base_path")

    def flags(self) -> list[str]:
        """Returns the command line that says the same, as ``--name=value``; defaults are left out."""
        given = [(field, getattr(self, field.name)) for field in _FLAGS]
        changed = [f"--{field.name}={_spelled(value)}" for field, value in given if value != field.default]
        return [*changed, *self.others]

    def other(self, name: str) -> str:
        """Returns the value of one of the `others`, empty where it is not given."""
        return next((flag.partition("=")[2] for flag in self.others if flag.startswith(f"--{name}=")), "")

    def require_embedded(self) -> None:
        """Refuses what the embedded server does not do.

        Raises:
            OptionsError: one of the flags is not among its own.
        """
        if self.others:
            raise OptionsError(
                f"the embedded server has no flag {self.others[0].partition('=')[0]} (see --help); "
                "if it is one of tensorflow_model_server's: python -m pipeline.serve --backend docker, or "
                "--backend tensorflow_model_server"
            )


_FLAGS: Final = [field for field in dataclasses.fields(ServerOptions) if field.metadata]


def check_base_path(base: str) -> None:
    """Refuses a ``--model_base_path`` that can never hold a version, with a hint at what is meant.

    A directory that holds none yet is fine: a server waits for the first.

    Raises:
        OptionsError: it does not exist, may not be looked into, or is a SavedModel itself.
    """
    path = Path(base).absolute()
    try:
        is_dir, is_model = path.is_dir(), (path / MODEL_FILE).is_file()
    except OSError as error:
        raise OptionsError(f"--model_base_path {base} cannot be looked into: {error.strerror}") from None
    if not is_dir:
        raise OptionsError(
            f"--model_base_path {base} is no directory; name the one that holds the model's version "
            f"directories, such as WORKDIR/serving/MODEL"
        )
    if is_model:
        remedy = f"name its parent, {path.parent}" if path.name.isdecimal() else f"move it to {path / '1'}"
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
        epilog="Other flags are tensorflow_model_server's alone: the embedded server refuses them.",
    )
    for field in _FLAGS:
        kind, text = field.metadata["kind"], field.metadata["help"]
        shown = "" if field.default in ("", None) else f" (default: {_spelled(field.default)})"
        how: dict[str, Any] = (
            {"type": _boolean, "nargs": "?", "const": True}
            if kind is bool
            else {"type": _non_empty if kind is str else kind}
        )
        name, metavar = f"--{field.name}", kind.__name__.upper()
        # No default here: argparse would refuse an empty one, too.
        parser.add_argument(name, default=argparse.SUPPRESS, metavar=metavar, help=text + shown, **how)
    return parser


def read_options(arguments: argparse.Namespace, others: Sequence[str] = ()) -> ServerOptions:
    """Returns the options that `argument_parser` has parsed, and what it did not know.

    Raises:
        OptionsError: as `ServerOptions`.
    """
    given = {field.name: getattr(arguments, field.name) for field in _FLAGS if field.name in arguments}
    joined: list[str] = []
    for argument in others:
        # tensorflow_model_server takes no value behind a space.
        if joined and not argument.startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    # On the command line 0 turns REST off, as there; in code it asks for any free port.
    given["rest_api_port"] = given.get("rest_api_port") or None
    return ServerOptions(**given, others=tuple(joined))


def parse_options(argv: Sequence[str] | None, prog: str, description: str) -> ServerOptions:
    """Parses a command line; a wrong one ends the process with status 2 and one line."""
    parser = argument_parser(prog, description)
    try:
        options = read_options(*parser.parse_known_args(argv))
        options.require_embedded()
    except OptionsError as error:
        parser.error(str(error))
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        # The usage of all flags would bury the one line that helps.
        self.exit(USAGE, f"{message} (--help lists the flags)\n")


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    try:
        return values[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def _non_empty(text: str) -> str:
    # An empty one comes from a shell variable that was never set: no key would be no signature asked for.
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
