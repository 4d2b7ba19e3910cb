"""Explains a failed stage to the person who runs it."""

import argparse
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.errors import StageError

_STAGE_ERROR = f"{StageError.__module__}.{StageError.__qualname__}"
_BEAM_STEP = re.compile(r"\s*\[while running '[^']*'\]")
_JAVA_CAUSE = "Caused by: "
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r"^ *(\| ?|\+[-+]*( \d+ )?-*)")
_MODULES = re.compile(r"^(\w+\.)+(?=\w+(:|$))")
_GRAPH = re.compile(r"\{\{\w+ .*?\}\} ?| *\[Op:\w+\].*")
"""Where in a graph TensorFlow was, around what went wrong there."""
_QUERY = re.compile(r"^.*Error when executing query: (.*?)\s*query: .*$", re.DOTALL)
"""What ML Metadata says of SQLite's refusal, between all it wanted to write."""
_LIMITS = {
    r"No space left on device|Disk quota exceeded|disk is full": (
        "a disk is full: make room; free now: {free}"
    ),
    r"Read-only file system|readonly database": "make it writable, or choose another place",
    r"Too many open files": "raise the limit of open files, such as ulimit -n 65536",
    r"MemoryError|annot allocate memory|failed to map segment|bad_alloc|OOM when|can't start new thread": (
        "memory is at its end, or what one process may have of it (ulimit -v): fewer beam.workers or a "
        "smaller training.batch_size take less"
    ),
}
"""What the machine has no more of, by words of a message: not the pipeline's fault, and what helps."""

_DATA_LOSS = re.compile(
    r"DataLoss|corrupted record|truncated record|Not a valid TFRecord|while decompressing data"
)
"""How TensorFlow, Beam and zlib say that a record's bytes are not those that were written."""


@contextmanager
def exits_are_failures() -> Iterator[None]:
    """Makes a failure of what would end the process, and go past whoever sums up and reports.

    Beam's parser ends it so over an option that it refuses, when a stage is at work.

    Raises:
        StageError: in the place of SystemExit.
    """
    try:
        yield
    except SystemExit as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename == argparse.__file__:
            raise StageError("Beam refuses beam.options; the log has its words") from error
        raise StageError(
            f"it asked for the end of the process, with status {error.code}; the log says where"
        ) from error


def explain_failure(error: BaseException, places: Iterable[Path] = ()) -> str:
    """Returns a StageError's message where one is behind the exception, else the root cause on one line.

    Where the machine is at a limit, the line ends with what helps; where a disk is full, with what is left of
    those that ``places`` are on and of the one for temporary files.

    Beam raises the exceptions of its workers anew, with the original as text, and a job service such as
    Flink's puts words of its own before that: such text is read too.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, StageError):
            return _BEAM_STEP.sub("", str(link))
    for link in chain:
        _, marker, text = str(link).rpartition(f"{_STAGE_ERROR}: ")
        if marker:
            return _BEAM_STEP.sub("", re.split(r"\n\n|\n\tat ", text)[0]).strip()
    while error.__cause__ is not None:
        error = error.__cause__
    cause = without_graph(_root_cause(error))
    for words, remedy in _LIMITS.items():
        if re.search(words, cause):
            return f"{cause}; {remedy.format(free=_free(places))}"
    return cause


def _free(places: Iterable[Path]) -> str:
    """Says what is left of each disk that the places are on, by the first place there."""
    disks: dict[int, Path] = {}
    for place in (*places, Path(tempfile.gettempdir())):
        if place.exists():
            disks.setdefault(place.stat().st_dev, place)
    return ", ".join(f"{shutil.disk_usage(place).free / 1e6:,.0f} MB in {place}" for place in disks.values())


def is_data_loss(error: BaseException) -> bool:
    """Tells whether a record is behind the exception whose bytes are not those that were written.

    Of Beam's workers there may be the text alone.
    """
    return any(_DATA_LOSS.search(f"{type(link).__name__}: {link}") for link in _chain(error))


def rejected_files(error: BaseException) -> tuple[Mapping[str, Any], ...]:
    """Returns the input files that a StageError behind the exception came from; empty without any."""
    stage_errors = [link for link in _chain(error) if isinstance(link, StageError)]
    return stage_errors[0].rejected_files if stage_errors else ()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields the exception and all that it arose from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def without_graph(message: str) -> str:
    """Returns the first line of TensorFlow's message as far as it is for people."""
    return _GRAPH.sub("", message.partition("\n")[0])


def _root_cause(error: BaseException) -> str:
    if isinstance(error, shutil.Error):
        # Of all files of a folder, a line each.
        [_, _, why], *_ = error.args[0]
        return str(why)
    if refused := _QUERY.match(str(error)):
        return f"{type(error).__name__}: {refused[1]}"
    # An exception group draws its members' tracebacks in a frame of its own.
    lines = [_FRAME.sub("", line.rstrip()) for line in _BEAM_STEP.sub("", str(error)).splitlines()]
    lines = [line for line in lines if line.strip()]
    last = max((number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)), default=len(lines))
    # The frames are indented; the first line that is not is the exception.
    raised = next((line for line in lines[last + 1 :] if not line[0].isspace()), None)
    if raised is not None:
        return _MODULES.sub("", raised)
    causes = [line.removeprefix(_JAVA_CAUSE) for line in lines if line.startswith(_JAVA_CAUSE)]
    name = type(error).__name__
    return f"{name}: {[*lines[:1], *causes][-1].strip()}" if lines else name
