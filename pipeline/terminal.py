"""Keeps the terminal for what people read: everything else that is printed or logged goes to a file."""

import atexit
import faulthandler
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


def short_path(path: Path) -> str:
    """The path as one would type it here, where no command takes it for an option."""
    try:
        here = Path.cwd()
    except OSError:
        # It was removed while the command ran.
        return str(path)
    short = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return f"./{short}" if short.startswith("-") else short


def show(text: str) -> None:
    """Prints to stdout. That it cannot be written any more is no reason for a command to fail.

    Nobody is told where nobody reads any more (``| head``), only of what else it is, such as a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        leave_stdout()
        if not isinstance(error, BrokenPipeError):
            complain(f"standard output cannot be written: {error.strerror}")


def complain(text: object) -> None:
    """Prints to stderr. Where that cannot be written either (``> log 2>&1``), the exit status has to do."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        # Not yet: what is said later may be heard again.
        atexit.unregister(_settle_stderr)
        atexit.register(_settle_stderr)


def settle_stdout() -> None:
    """Has Python find nothing to write to stdout as it ends that cannot be written: it would end with 120."""
    _settle(sys.stdout)


def leave_stdout() -> None:
    """Sends what else is printed to nobody: of a broken pipe Python would complain once more as it ends."""
    _leave(sys.stdout)


def _settle_stderr() -> None:
    _settle(sys.stderr)


def _settle(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        _leave(stream)


def _leave(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def output_diverted(log: Path) -> Iterator[TextIO]:
    """Sends what this process, its libraries and its children print to a log; yields the terminal.

    Works on file descriptors, because C++ does not ask ``sys.stderr`` where to write.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    root = logging.getLogger()
    level = root.level
    with (
        # File names may hold what an encoding cannot say, and disks are full; a run must not end over either.
        PatientStream(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), "utf-8") as file,
        PatientStream(os.dup(saved[1]), sys.stdout.encoding) as terminal,
    ):
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        # A crash in native code leaves at least the Python stack behind.
        faulthandler.enable(file)
        for descriptor in saved:
            os.dup2(file.fileno(), descriptor)
        streams = sys.stdout, sys.stderr
        # What is imported meanwhile may keep it for longer: it is left to itself, and not closed.
        sys.stdout = sys.stderr = PatientStream(os.dup(file.fileno()), "utf-8")
        try:
            yield terminal
        finally:
            sys.stdout, sys.stderr = streams
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
            faulthandler.disable()
            logging.captureWarnings(False)
            root.setLevel(level)
            root.removeHandler(handler)


class PatientStream(io.TextIOWrapper):
    """Drops what nobody can read any more (``| head``, a closed terminal, a full disk behind ``>``).

    None of these is a reason to give up hours of training. Encodes what it can, and spells out the rest.
    """

    def __init__(self, descriptor: int, encoding: str):
        # Patience has to be up here: were it in the raw file, an interrupt on the way out of its Python
        # method would leave the text in the buffer, to be written once more.
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w"))
        super().__init__(buffer, encoding=encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()

    def close(self) -> None:
        with suppress(OSError):
            super().close()
