"""What a failed stage says to the person who runs it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.errors import StageError

_STAGE_ERROR = f"{StageError.__module__}.{StageError.__qualname__}"
_BEAM_STEP = re.compile(r"\s*\[while running '[^']*'\]")
_LAST_EXCEPTION = re.compile(r"^(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Exit))(?:: (?P<text>.*))?$")


def explain_failure(error: BaseException) -> str:
    """Returns a StageError's message where one is behind the exception, else the root cause on one line.

    Beam raises the exceptions of its workers anew, with the original as text: that text is read too.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, StageError):
            return _BEAM_STEP.sub("", str(link))
    for link in chain:
        _, marker, text = str(link).rpartition(f"{_STAGE_ERROR}: ")
        if marker:
            return _BEAM_STEP.sub("", text.split("\n\n")[0]).strip()
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
    lines = [line.strip() for line in _BEAM_STEP.sub("", str(error)).splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        for line in reversed(lines):
            if match := _LAST_EXCEPTION.match(line):
                name = match["type"].rpartition(".")[2]
                return f"{name}: {match['text']}" if match["text"] else name
    name = type(error).__name__
    return f"{name}: {lines[0]}" if lines else name
