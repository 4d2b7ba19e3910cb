"""The model that is served: its newest version, until a newer one is loaded and warm."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from components.model_store.store import identity, version_number
from components.serving.server.errors import ServingError, invalid, one_line
from components.serving.server.servable import Servable

logger = logging.getLogger(__name__)
Status = get_model_status_pb2.ModelVersionStatus


class ServedModel:
    """A model's versions; `poll` is called by one thread at a time, everything else by any.

    A version whose load fails is not tried again before its directory has been away or anything in it has
    changed. TensorFlow Serving's ``max_num_load_retries=0`` but for copies made in place, which a poll may
    see half done: what is published by rename is complete when it appears.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[int, Path], Servable],
        announce: Callable[[str], None],
    ):
        """Prepares a model; nothing is loaded yet.

        Args:
            name: the model's name.
            base_path: the directory that holds its versions, ``<base_path>/<number>``.
            load: makes a version ready for requests, warm-up included.
            announce: told in a line of its own of each version that comes, goes, or cannot be served.
        """
        self.name = name
        self._base_path = base_path
        self._load = load
        self._announce = announce
        self._changed = threading.Condition()
        self._current: Servable | None = None
        self._uses: dict[Servable, int] = {}
        """Requests in flight of the current version, and of one that is to be unloaded."""
        self._statuses: dict[int, get_model_status_pb2.ModelVersionStatus] = {}
        """Of every version that there ever was."""
        self._failed: dict[int, tuple[int, int] | None] = {}
        """By number, with `store.identity`; None of one that went while it was tried."""
        self._warned = ""

    @property
    def is_available(self) -> bool:
        """Whether a version answers requests."""
        return self._current is not None

    @property
    def failure(self) -> str:
        """Why the version that should answer does not; empty where it does, or there is none."""
        with self._changed:
            number = None if self.is_available else max(self._failed, default=None)
            if number is None:
                return ""
            why = self._statuses[number].status.error_message
        return f"{self.name} version {number} cannot be served: {why}"

    def poll(self) -> None:
        """Looks at the base path, and serves the newest version there instead of what is served now."""
        try:
            found = find_versions(self._base_path)
        except OSError as error:
            # Perhaps a mount that comes back: what is loaded stays.
            self._warn(f"cannot read base path {self._base_path}: {error.strerror}")
            return
        self._warn(
            "" if found else f"no version under {self._base_path}; versions are directories named by integers"
        )
        self._failed = {number: which for number, which in self._failed.items() if number in found}
        newest = max(found, default=None)
        if newest is None:
            self._serve(None)
        elif not (self._current and self._current.version == newest):
            which = _identity(found[newest])
            if newest not in self._failed or self._failed[newest] != which:
                self._load_and_serve(newest, found[newest], which)

    def close(self, seconds: float) -> None:
        """Unloads the version that is served, once its requests are answered; `poll` must not run.

        Args:
            seconds: how long that may take; where a request still computes then, it stays in memory.
        """
        self._serve(None, seconds)

    @contextmanager
    def lend(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Lends the version that a request asks for; while it is lent it is not unloaded.

        Raises:
            ServingError: NOT_FOUND, it is not there; INVALID_ARGUMENT, it is asked for by a label.
        """
        wanted = self._wanted(spec)
        with self._changed:
            servable = self._current
            if spec.name != self.name or servable is None or wanted not in (None, servable.version):
                which = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
            self._uses[servable] += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._uses[servable] -= 1
                self._changed.notify_all()

    def statuses(self, spec: model_pb2.ModelSpec) -> list[get_model_status_pb2.ModelVersionStatus]:
        """Returns where the versions stand, also those that have ended, the highest first; or only one.

        Raises:
            ServingError: NOT_FOUND, there is and was no such version.
        """
        wanted = self._wanted(spec)
        with self._changed:
            known = sorted(self._statuses.items(), reverse=True) if spec.name == self.name else []
        statuses = [status for number, status in known if wanted in (None, number)]
        if not statuses:
            what = "any versions" if wanted is None else f"version {wanted}"
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find {what} of model {spec.name}")
        return statuses

    def _wanted(self, spec: model_pb2.ModelSpec) -> int | None:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.version_label:
            # TensorFlow Serving's words where no label was given to a version.
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return spec.version.value if spec.HasField("version") else None

    def _load_and_serve(self, number: int, path: Path, which: tuple[int, int] | None) -> None:
        with self._changed:
            self._failed.pop(number, None)
            self._set(number, Status.LOADING)
        try:
            servable = self._load(number, path)
        except Exception as error:
            # A model is a program: whatever it does to the loader, the other version goes on answering.
            logger.debug("loading %s version %d", self.name, number, exc_info=True)
            if not isinstance(error, ServingError):
                cause = f"{type(error).__name__}: {one_line(str(error))}"
                error = ServingError(grpc.StatusCode.UNKNOWN, cause)
            with self._changed:
                # In this order: who learns that it has failed asks why.
                self._set(number, Status.END, error)
                self._failed[number] = which
            self._announce(f"{self.name} version {number} cannot be served: {error.message}")
        else:
            self._serve(servable)

    def _serve(self, servable: Servable | None, seconds: float | None = None) -> None:
        """Has a version answer from now on, and unloads the one before after its last request."""
        with self._changed:
            old, self._current = self._current, servable
            if servable:
                self._uses[servable] = 0
                self._set(servable.version, Status.AVAILABLE)
            if old:
                self._set(old.version, Status.UNLOADING)
        try:
            if servable:
                self._announce(f"Loaded {self.name} version {servable.version}")
        finally:
            # Whoever is told may fail: what nobody asks any more must not stay in memory for that.
            if old:
                self._unload(old, seconds)

    def _unload(self, old: Servable, seconds: float | None) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._uses[old], seconds):
                return
            del self._uses[old]
        old.close()
        self._set(old.version, Status.END)
        self._announce(f"{self.name} version {old.version} unloaded")

    def _set(self, number: int, state: int, error: ServingError | None = None) -> None:
        status = Status(version=number, state=state)
        # Also where there is no error, as TensorFlow Serving has it.
        status.status.error_code = error.code.value[0] if error else grpc.StatusCode.OK.value[0]
        status.status.error_message = error.message if error else ""
        with self._changed:
            self._statuses[number] = status

    def _warn(self, message: str) -> None:
        """Logs what may last for hours once, not with every poll."""
        if message and message != self._warned:
            logger.warning("%s: %s", self.name, message)
        self._warned = message


def _identity(version: Path) -> tuple[int, int] | None:
    try:
        return identity(version)
    except OSError:
        return None


def find_versions(base_path: Path) -> dict[int, Path]:
    """Returns the directories under ``base_path`` whose names are numbers, by number.

    Leading zeros count for nothing; anything else in a name makes it no version.

    Raises:
        OSError: ``base_path`` cannot be read.
    """
    return {
        number: path
        for path in sorted(base_path.iterdir())
        if (number := version_number(path.name)) is not None and path.is_dir()
    }
