"""Explains a failed stage to the person who runs it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.errors import StageError

_STAGE_ERROR = f"{StageError.__module__}.{StageError.__qualname__}"
_BEAM_STEP = re.compile(r"\s*\[while running '[^']*'\]")
_JAVA_CAUSE = "Caused by: "
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r"^ *(\| ?|\+[-+]*( \d+ )?-*)")
_MODULES = re.compile(r"^(\w+\.)+(?=\w+(:|$))")


def explain_failure(error: BaseException) -> str:
    """Returns a StageError's message where one is behind the exception, else the root cause on one line.

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
    return _root_cause(error)


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


def _root_cause(error: BaseException) -> str:
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
