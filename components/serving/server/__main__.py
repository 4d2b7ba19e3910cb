"""Runs the embedded model server, which speaks TensorFlow Serving's API on this machine alone.

    python -m components.serving.server --model_name=pets --model_base_path=/data/serving/pets

It is for development and tests; production is tensorflow_model_server, whose flags these are. A request may
have up to 64 MiB.

Ends with 0 after SIGTERM or SIGINT, once the requests in flight are answered (up to 30 s; a second signal
does not wait), with 1 if it cannot serve or requests were dropped, and with 2 if a flag is wrong.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from components.imports import quick_imports, without_init
from components.serving.server.options import USAGE, OptionsError, ServerOptions, parse_options
from components.streams import end_process, open_missing_streams

STOPPED: Final = 0
FAILED: Final = 1
"""Exit status where nothing can be served, or requests were dropped."""
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    open_missing_streams()
    return serve(parse_options(argv, "python -m components.serving.server", __doc__ or ""))


def serve(options: ServerOptions) -> int:
    """Serves until a signal comes, which ends the process; must be called in the main thread.

    Returns:
        The exit status where there is nothing to serve.
    """
    ready, stopping = threading.Event(), threading.Event()
    # For every thread from here on: what is computed in C++ would keep Python from handling a signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_obey_signals, args=(ready, stopping), name="signals", daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    _say("Embedded model server, for development and tests; production is TensorFlow Serving.")
    try:
        options.require_embedded()
        # A session's modules are a third of TensorFlow: Keras, Lite and the rest of its API stay out.
        without_init("tensorflow")
        with _quiet_import(), quick_imports():
            from components.serving.server.server import ModelServer, StartError
        server = ModelServer(options, _say)
    except OptionsError as error:
        _say(str(error), sys.stderr)
        return USAGE
    try:
        server.start()
    except StartError as error:
        _say(str(error), sys.stderr)
        server.stop(grace=0)
        return FAILED
    ready.set()
    _say("Ready")
    stopping.wait()
    _say("Stopping: answering the requests in flight")
    drained = server.stop()
    if not drained:
        _say("Requests were still in flight and have been dropped", sys.stderr)
    return end_process(STOPPED if drained else FAILED)


def _obey_signals(ready: threading.Event, stopping: threading.Event) -> None:
    """The first signal drains, the second does not wait; before it is ready nothing is to be drained."""
    signal.sigwait(_SIGNALS)
    if not ready.is_set():
        end_process(STOPPED)
    stopping.set()
    signal.sigwait(_SIGNALS)
    end_process(FAILED)


def _say(line: str, stream: TextIO | None = None) -> None:
    """Prints a line where that can be done: a full disk or a closed pipe must keep nobody from answers."""
    with suppress(OSError, ValueError):
        print(line, file=stream, flush=True)


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps back what TensorFlow tells about its build while it is imported, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
