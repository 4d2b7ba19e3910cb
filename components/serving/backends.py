"""Which program serves: TensorFlow Serving itself where it can be had, otherwise the embedded server.

Importing this module imports no TensorFlow.
"""

import csv
import dataclasses
import io
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from components.serving.server.options import LOOPBACK, OptionsError, ServerOptions

IMAGE: Final = "tensorflow/serving:2.21.0"
"""The release whose API the server and the client speak; it loads SavedModels of TensorFlow 2.21."""
BINARY: Final = "tensorflow_model_server"

_ENGINE_SECONDS: Final = 10
"""An engine that hangs is none."""
_REMOTE: Final = "://"
_NOT_IN_CONTAINERS: Final = {
    "--grpc_socket_path": "a socket of the container cannot be reached",
    "--model_config_file_poll_wait_seconds": "the container goes on seeing the file it was started with",
}


class Backend(StrEnum):
    """The programs there are; AUTO takes the first of the others that can be had."""

    AUTO = "auto"
    TENSORFLOW_MODEL_SERVER = BINARY
    DOCKER = "docker"
    EMBEDDED = "embedded"


class BackendError(Exception):
    """The program asked for cannot be had; the message is one line."""


@dataclass(frozen=True)
class Launch:
    """What to run."""

    backend: Backend
    command: tuple[str, ...]
    reason: str
    """One line: what was taken, and why."""


def choose(wanted: Backend, options: ServerOptions) -> Launch:
    """Decides what serves.

    Raises:
        BackendError: ``wanted`` is not there.
        OptionsError: it cannot do what the options say.
    """
    # TensorFlow Serving refuses relative ones.
    options = dataclasses.replace(options, model_base_path=_absolute(options.model_base_path))
    missing = [f"no {BINARY} on PATH"]
    unchecked = f"; not checked here: {' '.join(options.others)}" if options.others else ""
    if wanted in (Backend.AUTO, Backend.TENSORFLOW_MODEL_SERVER):
        if binary := shutil.which(BINARY):
            _require_ports(options, BINARY)
            _require_no_key(options, BINARY)
            reason = f"Serving with {binary}{unchecked}"
            return Launch(Backend.TENSORFLOW_MODEL_SERVER, (binary, *options.flags()), reason)
        if wanted is not Backend.AUTO:
            raise BackendError(
                f"there is no {BINARY} on PATH; install it, or take --backend docker or embedded"
            )
    if wanted in (Backend.AUTO, Backend.DOCKER):
        engine = _docker("version", "--format", "{{.Server.Version}}")
        # Asked for, the image is pulled; unasked, nothing is downloaded that may not even exist.
        if engine and (wanted is Backend.DOCKER or _docker("image", "inspect", IMAGE)):
            reason = f"Serving with the container {IMAGE} (Docker {engine}){unchecked}"
            return Launch(Backend.DOCKER, _docker_command(options), reason)
        if wanted is not Backend.AUTO:
            raise BackendError("no Docker engine answers; start it, or take --backend embedded")
        missing.append(f"Docker has no image {IMAGE}" if engine else "no Docker engine")
    options.require_embedded()
    command = (sys.executable, "-m", "components.serving.server", *options.flags())
    because = f": {', '.join(missing)}" if wanted is Backend.AUTO else ""
    reason = f"Serving with the embedded server, for development and tests{because}"
    return Launch(Backend.EMBEDDED, command, reason)


def _docker(*arguments: str) -> str | None:
    """What Docker answers; None where it does not, or fails: the client alone, without its engine, does."""
    if not shutil.which("docker"):
        return None
    try:
        answer = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=_ENGINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _docker_command(options: ServerOptions) -> tuple[str, ...]:
    """Runs the container so that the same flags mean the same: paths and ports are those of the host.

    ``--init`` because a process that is number 1 in its container does not end by SIGTERM unless it handles
    it, which tensorflow_model_server does not.
    """
    _require_ports(options, "the container")
    _require_no_key(options, "the container")
    others, files = [], []
    for flag, _, value in (other.partition("=") for other in options.others):
        if flag in _NOT_IN_CONTAINERS:
            raise OptionsError(f"{flag}: {_NOT_IN_CONTAINERS[flag]}; leave it out")
        if flag.endswith("_file"):
            value = _absolute(value)
            files.append(value)
        others.append(f"{flag}={value}" if value else flag)
    paths = [*_base_paths(options), *files]
    options = dataclasses.replace(options, others=tuple(others))
    # Who asks for the version alone opens no port, and may ask while a server holds it.
    ports = [port for port in (options.port, options.rest_api_port) if port and paths]
    publish = [f"--publish={LOOPBACK}:{port}:{port}" for port in ports]
    mounts = [f"--mount={_read_only(path)}" for path in paths if _REMOTE not in path]
    entrypoint = f"--entrypoint={BINARY}"
    return ("docker", "run", "--rm", "--init", *publish, *mounts, entrypoint, IMAGE, *options.flags())


def _base_paths(options: ServerOptions) -> list[str]:
    """Where the models lie."""
    if not (file := options.other("model_config_file")):
        return [options.model_base_path] if options.model_base_path else []
    try:
        config = text_format.Parse(Path(file).read_text(), model_server_config_pb2.ModelServerConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise OptionsError(f"--model_config_file {file}: {error}") from None
    return [model.base_path for model in config.model_config_list.config]


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path and _REMOTE not in path else path


def _read_only(path: str) -> str:
    # The flag's value is a line of CSV.
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        ["type=bind", f"source={path}", f"target={path}", "readonly"]
    )
    return line.getvalue()


def _require_no_key(options: ServerOptions, program: str) -> None:
    if options.verify_key:
        raise OptionsError(
            f"--verify_key: {program} checks no signatures; let it watch a directory that "
            "python -m pipeline.verify --to keeps, or take --backend embedded"
        )


def _require_ports(options: ServerOptions, program: str) -> None:
    if options.port == 0:
        raise OptionsError(f"--port=0: {program} takes no free port by itself; name one")
