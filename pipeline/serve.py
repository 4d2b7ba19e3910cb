"""Serves pushed models over gRPC and REST, with TensorFlow Serving's API and flags.

    python -m pipeline.serve --model_name pets --model_base_path runs/pets_unet/serving/pets
    python -m pipeline.serve --backend docker --model_config_file=models.config --rest_api_port 8501

--backend auto takes tensorflow_model_server where it is on PATH, otherwise its container where Docker has the
image already, otherwise the embedded server, which is for development and tests: it listens on this machine
alone and takes requests of up to 64 MiB. --backend docker pulls an image that is missing. The other two are
given all flags of tensorflow_model_server as they stand, the embedded server has only those listed below.

Ends with 0 once a signal has stopped it and the requests in flight are answered, with 1 if it cannot serve,
the newest version is not what was pushed or requests were dropped, and with 2 if a flag is wrong.
tensorflow_model_server and docker take this process's place, and end with statuses of their own.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from components.model_store.store import damage, newest
from components.serving.backends import Backend, BackendError, choose
from components.serving.server.options import (
    USAGE,
    OptionsError,
    ServerOptions,
    argument_parser,
    check_base_path,
    read_options,
)
from components.streams import open_missing_streams
from pipeline.terminal import complain

_FAILED = 1
_REMOTE = "://"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, unless another program takes over."""
    open_missing_streams()
    parser = argument_parser("python -m pipeline.serve", __doc__ or "")
    parser.add_argument(
        "--backend",
        choices=[backend.value for backend in Backend],
        default="auto",
        help="default: %(default)s",
    )
    arguments, others = parser.parse_known_args(argv)
    try:
        options = read_options(arguments, others)
        if _is_local(options):
            check_base_path(options.model_base_path)
        launch = choose(Backend(arguments.backend), options)
    except OptionsError as error:
        complain(error)
        return USAGE
    except BackendError as error:
        complain(error)
        return _FAILED
    # A full disk or a closed pipe must keep nobody from answers.
    with suppress(OSError):
        print(launch.reason, flush=True)
    if launch.backend is Backend.EMBEDDED:
        from components.serving.server.__main__ import serve

        return serve(options)
    # The others compare no more than the checksums of variables.
    try:
        served = newest(Path(options.model_base_path)) if _is_local(options) else None
        what = damage(served.path) if served else ""
    except OSError as error:
        what = f"{error.filename or options.model_base_path} cannot be read: {error.strerror}"
    if what:
        complain(what)
        return _FAILED
    try:
        os.execvp(launch.command[0], launch.command)
    except OSError as error:
        complain(f"{launch.command[0]} cannot be run: {error.strerror}")
        return _FAILED


def _is_local(options: ServerOptions) -> bool:
    return bool(options.model_base_path) and _REMOTE not in options.model_base_path


if __name__ == "__main__":
    sys.exit(main())
