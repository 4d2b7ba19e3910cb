"""What people see: stages as they happen. Everything else that is printed or logged goes to a file."""

import faulthandler
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_INDENT = "      "


def short_path(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


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
        # File names may hold what an encoding cannot say; a run must not end over that.
        log.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file,
        _terminal(os.dup(saved[1]), sys.stdout.encoding) as terminal,
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
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
            faulthandler.disable()
            logging.captureWarnings(False)
            root.setLevel(level)
            root.removeHandler(handler)


@contextmanager
def _terminal(descriptor: int, encoding: str) -> Iterator[TextIO]:
    stream = os.fdopen(descriptor, "w", buffering=1, encoding=encoding, errors="backslashreplace")
    try:
        yield stream
    finally:
        # What could not be printed because nobody reads any more is still buffered.
        with suppress(BrokenPipeError):
            stream.close()


class Terminal(logging.Handler):
    """Prints a line a stage, and under it what the stage's own code has to say."""

    def __init__(self, stream: TextIO):
        super().__init__(logging.INFO)
        self._stream = stream
        self._line_is_open = False

    @contextmanager
    def showing(self, logger_name: str) -> Iterator[None]:
        """Prints the logger's INFO records and those of its children, indented.

        Their DEBUG records go to the log alone.
        """
        logger = logging.getLogger(logger_name)
        level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        self.line(_INDENT + record.getMessage().replace("\n", f"\n{_INDENT}"))

    def line(self, text: str = "") -> None:
        """Prints a line of its own."""
        self._close_line()
        self._print(text)

    def stage_starts(self, number: int, count: int, name: str) -> None:
        self._close_line()
        self._print(f"[{number}/{count}] {name} …", end="")
        self._line_is_open = True

    def stage_ends(self, seconds: float, cached: bool) -> None:
        took = "cached" if cached else f"{seconds:.1f} s"
        lead = " " if self._line_is_open else _INDENT
        self._print(lead + took)
        self._line_is_open = False

    def _close_line(self) -> None:
        if self._line_is_open:
            self._print("")
            self._line_is_open = False

    def _print(self, text: str, end: str = "\n") -> None:
        # Nobody reads any more (``| head``): no reason to give up hours of training.
        with suppress(BrokenPipeError):
            print(text, end=end, file=self._stream, flush=True)
