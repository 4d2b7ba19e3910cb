"""The versions of one model: loaded, lent to requests, and unloaded once nobody uses them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from components.serving.messages import State
from components.serving.server.errors import ServingError, one_line
from components.serving.server.servable import Servable
from components.serving.server.versions import Step, VersionStatus, next_step

Load = Callable[[str, int, Path], Servable]
"""Model name, version, directory."""
StateListener = Callable[[str, VersionStatus], None]

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Version:
    path: Path
    status: VersionStatus
    servable: Servable | None = None
    """Set while AVAILABLE and UNLOADING."""
    requests: int = 0
    """In flight."""


class ServedModel:
    """One model's versions.

    Versions are changed by one thread at a time, which the caller sees to; everything else is for any thread.
    A version that has ended is remembered with its last status.
    """

    def __init__(self, name: str, load: Load, on_state_change: StateListener | None):
        """Makes a model without versions.

        Args:
            name: the model's name.
            load: makes a version ready for requests, warm-up included.
            on_state_change: told of every new state, by the thread that changes versions.
        """
        self.name = name
        self._load_servable = load
        self._on_state_change = on_state_change
        self._changed = threading.Condition()
        self._versions: dict[int, _Version] = {}
        self._failed: set[int] = set()
        """Not tried again while they are wanted."""

    def bring_to(self, wanted: Mapping[int, Path], stopping: threading.Event) -> None:
        """Loads and unloads until ``wanted`` is served, as far as it can be, or ``stopping`` is set.

        A number that is to be served from another directory is another version: the old one goes first.
        """
        self._failed.intersection_update(wanted)
        for number, path in wanted.items():
            version = self._versions.get(number)
            if version is not None and version.path != path:
                self._failed.discard(number)
                if version.status.state is State.AVAILABLE:
                    self._unload(number)
            if version is None or (version.status.state is State.END and number not in self._failed):
                with self._changed:
                    self._versions[number] = _Version(path, VersionStatus(number, State.START))
                self._report(number)
        while not stopping.is_set():
            step = next_step({status.version: status.state for status in self.statuses()}, wanted)
            if step is None:
                return
            action, number = step
            if action is Step.LOAD:
                self._load(number)
            else:
                self._unload(number)

    def unload_all(self) -> None:
        """Unloads every version, each after its requests in flight."""
        for number in self.available():
            self._unload(number)

    def available(self) -> list[int]:
        """Returns the versions that answer requests, ascending."""
        return sorted(status.version for status in self.statuses() if status.state is State.AVAILABLE)

    def statuses(self) -> list[VersionStatus]:
        """Returns where every version stands, also those that have ended, the highest first."""
        with self._changed:
            return [self._versions[number].status for number in sorted(self._versions, reverse=True)]

    @contextmanager
    def acquire(self, number: int | None) -> Iterator[Servable]:
        """Lends a version, None is the highest available one; while it is lent it is not unloaded.

        Raises:
            ServingError: NOT_FOUND, the version is not available.
        """
        with self._changed:
            version = self._lendable(number)
            servable = version.servable
            version.requests += 1
        assert servable is not None
        try:
            yield servable
        finally:
            with self._changed:
                version.requests -= 1
                if not version.requests:
                    self._changed.notify_all()

    def _lendable(self, number: int | None) -> _Version:
        available = {
            number: version
            for number, version in self._versions.items()
            if version.status.state is State.AVAILABLE
        }
        if number is None and available:
            return available[max(available)]
        if number is None or number not in available:
            raise servable_not_found(self.name, number)
        return available[number]

    def _load(self, number: int) -> None:
        version = self._versions[number]
        self._set(number, State.LOADING)
        start = time.monotonic()
        try:
            version.servable = self._load_servable(self.name, number, version.path)
        except ServingError as error:
            self._fail(number, error)
        except Exception as error:
            # A model is a program: whatever it does to the loader, the other versions go on answering.
            logger.debug("loading %s version %d", self.name, number, exc_info=True)
            cause = f"{type(error).__name__}: {one_line(str(error))}"
            self._fail(number, ServingError(grpc.StatusCode.UNKNOWN, cause))
        else:
            seconds = time.monotonic() - start
            self._set(number, State.AVAILABLE)
            logger.info("loaded %s version %d in %.1f s", self.name, number, seconds)

    def _fail(self, number: int, error: ServingError) -> None:
        self._failed.add(number)
        self._set(number, State.END, error.code, error.message)
        logger.error(
            "%s version %d does not load: %s (%s)", self.name, number, error.message, error.code.name
        )

    def _unload(self, number: int) -> None:
        version = self._versions[number]
        self._set(number, State.UNLOADING)
        with self._changed:
            self._changed.wait_for(lambda: not version.requests)
        if version.servable is not None:
            version.servable.close()
            version.servable = None
        self._set(number, State.END)
        logger.info("unloaded %s version %d", self.name, number)

    def _set(
        self, number: int, state: State, code: grpc.StatusCode = grpc.StatusCode.OK, message: str = ""
    ) -> None:
        with self._changed:
            self._versions[number].status = VersionStatus(number, state, code, message)
        self._report(number)

    def _report(self, number: int) -> None:
        if self._on_state_change is not None:
            self._on_state_change(self.name, self._versions[number].status)


def servable_not_found(name: str, number: int | None) -> ServingError:
    """TensorFlow Serving's words for a version, None being the latest, that does not answer requests."""
    request = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request}")
