"""The versions of a model: found on disk, and what to do next with each; nothing here loads anything."""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import grpc

from components.serving.messages import State

_VERSION = re.compile(r"-?[0-9]+")
_MAX_INT64 = 2**63 - 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionStatus:
    """Where a version stands; ``code`` and ``message`` say why its load failed, OK and empty otherwise."""

    version: int
    state: State
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""


class Step(Enum):
    """What can be done with a version."""

    LOAD = "load"
    UNLOAD = "unload"


def find_versions(base_path: Path) -> dict[int, Path]:
    """Returns the directories under ``base_path`` whose names are 64-bit integers, as TensorFlow Serving
    reads them: leading zeros count for nothing, anything else in a name makes it no version.

    Raises:
        FileNotFoundError, NotADirectoryError: ``base_path`` is not there.
    """
    found: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        number = _number(path.name)
        if number is None or not path.is_dir():
            continue
        if number in found:
            logger.warning("%s and %s are the same version; the first is ignored", found[number], path)
        found[number] = path
    return found


def next_step(states: Mapping[int, State], wanted: Collection[int]) -> tuple[Step, int] | None:
    """Returns what brings the versions one step nearer to ``wanted`` while some version always answers.

    Source: ``AvailabilityPreservingPolicy`` of TensorFlow Serving. A version no longer wanted goes as soon
    as a wanted one serves, or none is wanted at all, or another unwanted one stays; only then the highest
    wanted version that has not been tried is loaded.
    """
    serving = {version for version, state in states.items() if state is State.AVAILABLE}
    surplus = serving.difference(wanted)
    if surplus and (not wanted or len(surplus) > 1 or serving.intersection(wanted)):
        return Step.UNLOAD, min(surplus)
    waiting = [version for version in wanted if states.get(version) is State.START]
    return (Step.LOAD, max(waiting)) if waiting else None


def _number(name: str) -> int | None:
    if not _VERSION.fullmatch(name) or abs(number := int(name)) > _MAX_INT64:
        return None
    return number
