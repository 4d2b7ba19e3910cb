"""Loads, serves and unloads the versions of models so that some version of each always answers."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from components.serving.server import model_config
from components.serving.server.batching import BatchingParameters, BatchScheduler
from components.serving.server.errors import ServingError
from components.serving.server.model_config import ModelConfig
from components.serving.server.servable import Servable
from components.serving.server.served_model import ServedModel, StateListener, servable_not_found
from components.serving.server.versions import VersionStatus, find_versions
from components.serving.server.warmup import replay

logger = logging.getLogger(__name__)


class ModelManager:
    """All models of a server; safe to use from any thread.

    What happens to versions happens one at a time, in the thread that polls. A version whose load fails is
    not tried again before its directory has been away, TensorFlow Serving's ``max_num_load_retries=0``: what
    is published by rename is complete when it appears.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        *,
        poll_seconds: float,
        batching: BatchingParameters | None,
        warmup: bool,
        allow_unassigned_labels: bool = False,
        on_state_change: StateListener | None = None,
    ):
        """Makes a manager that serves nothing yet.

        Args:
            configs: the models.
            poll_seconds: how often base paths are looked at; 0 is once, at the start, and below 0 never.
            batching: how requests are merged; None runs each by itself.
            warmup: whether a version answers its warm-up requests before it is available.
            allow_unassigned_labels: whether a label that names no version yet may be given to one that is
                not available, TensorFlow Serving's ``--allow_version_labels_for_unavailable_models``.
            on_state_change: told of every new state, in the polling thread.

        Raises:
            ServingError: INVALID_ARGUMENT, the models cannot be served together.
        """
        model_config.check(configs)
        self._configs = list(configs)
        self._poll_seconds = poll_seconds
        self._warmup = warmup
        self._allow_unassigned_labels = allow_unassigned_labels
        self._on_state_change = on_state_change
        self._scheduler = None if batching is None else BatchScheduler(batching)
        # One at a time changes the configuration and versions; nobody else waits for this lock.
        self._managing = threading.Lock()
        self._models: dict[str, ServedModel] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._warnings: dict[str, str] = {}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    def start(self) -> None:
        """Loads what is there, and starts to look for changes.

        Raises:
            ServingError: FAILED_PRECONDITION, a label cannot be given yet.
        """
        with self._managing:
            self._labels = self._assigned_labels(self._configs)
        if self._poll_seconds < 0:
            return
        self._poll()
        if self._poll_seconds > 0:
            self._poller = threading.Thread(target=self._keep_polling, name="model_manager", daemon=True)
            self._poller.start()

    def stop(self) -> None:
        """Takes no more requests, waits for those in flight, and unloads everything."""
        self._stopping.set()
        if self._poller is not None:
            self._poller.join()
        with self._managing:
            for model in self._models.values():
                model.unload_all()
        if self._scheduler is not None:
            self._scheduler.stop()

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models from now on; those not listed are unloaded. Returns when all of it is done.

        Raises:
            ServingError: INVALID_ARGUMENT or FAILED_PRECONDITION, the models cannot be served together or a
                label cannot be given, and nothing has changed; UNKNOWN, a new model has no version that
                loads, and everything else has changed.
        """
        model_config.check(configs)
        with self._managing:
            labels = self._assigned_labels(configs)
            known = set(self.names())
            self._configs, self._labels = list(configs), labels
            for name in known.difference(self.names()):
                if name in self._models:
                    self._models[name].bring_to({}, self._stopping)
            for config in configs:
                self._manage(config)
            self._require_available([config.name for config in configs if config.name not in known])

    def names(self) -> list[str]:
        """Returns the names of the models configured."""
        return [config.name for config in self._configs]

    @contextmanager
    def acquire(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """Lends a version, the highest available one by default; while it is lent it is not unloaded.

        Raises:
            ServingError: NOT_FOUND, no such version is available; INVALID_ARGUMENT, there is no such label;
                UNAVAILABLE, the server is stopping.
        """
        if self._stopping.is_set():
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down")
        number = self._resolve(name, version, label)
        model = self._models.get(name)
        if model is None:
            raise servable_not_found(name, number)
        with model.acquire(number) as servable:
            yield servable

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """Returns the states of all versions, or of one, the highest first; also of those that have ended.

        Raises:
            ServingError: NOT_FOUND, there is and was no such version; INVALID_ARGUMENT, no such label.
        """
        number = self._resolve(name, version, label)
        model = self._models.get(name)
        statuses = [] if model is None else model.statuses()
        if number is not None:
            statuses = [status for status in statuses if status.version == number]
        if not statuses:
            what = "any versions" if number is None else f"version {number}"
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find {what} of model {name}")
        return statuses

    def _resolve(self, name: str, version: int | None, label: str | None) -> int | None:
        if label is None:
            return version
        try:
            return self._labels[name][label]
        except KeyError:
            message = f"Unrecognized servable version label: {label}"
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message) from None

    def _assigned_labels(self, configs: Sequence[ModelConfig]) -> dict[str, dict[str, int]]:
        """The labels of ``configs``, if each may be given now; rules as in TensorFlow Serving."""
        for config in configs:
            model = self._models.get(config.name)
            available = [] if model is None else model.available()
            assigned = self._labels.get(config.name, {})
            for label, number in config.labels.items():
                may_wait = self._allow_unassigned_labels and assigned.get(label, number) == number
                if number not in available and not may_wait:
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {config.name}, which is not "
                        f'currently available for inference; the label is "{label}"',
                    )
        return {config.name: dict(config.labels) for config in configs}

    def _require_available(self, names: Sequence[str]) -> None:
        reasons = []
        for name in names:
            model = self._models.get(name)
            if model is None or not model.available():
                errors = [status.message for status in model.statuses() if status.message] if model else []
                reasons.append(f"{{{name} due to error: {errors[0] if errors else 'it has no versions'}}}")
        if reasons:
            message = f"{len(reasons)} model(s) did not become available: {', '.join(reasons)}"
            raise ServingError(grpc.StatusCode.UNKNOWN, message)

    def _keep_polling(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self._poll()
            except Exception:
                # Whatever it is, the models loaded still answer, and the next poll may succeed.
                logger.exception("looking for versions failed")

    def _poll(self) -> None:
        with self._managing:
            for config in self._configs:
                self._manage(config)

    def _manage(self, config: ModelConfig) -> None:
        """Looks at the model's base path and serves what the policy picks."""
        try:
            found = find_versions(config.base_path)
        except OSError as error:
            # Perhaps a mount that comes back: what is loaded stays.
            self._warn(config.name, f"cannot read base path {config.base_path}: {error.strerror}")
            return
        wanted = config.policy.select(found)
        if not wanted:
            self._warn(
                config.name,
                f"no version to serve under {config.base_path}; versions are directories named by integers",
            )
        else:
            self._warnings.pop(config.name, None)
        model = self._models.get(config.name)
        if model is None:
            model = ServedModel(config.name, self._load, self._on_state_change)
            self._models[config.name] = model
        model.bring_to({number: found[number] for number in wanted}, self._stopping)

    def _load(self, name: str, number: int, path: Path) -> Servable:
        servable = Servable(name, number, path, self._scheduler)
        if self._warmup:
            try:
                replay(path, servable.run)
            except BaseException:
                servable.close()
                raise
        return servable

    def _warn(self, name: str, message: str) -> None:
        """Logs what may last for hours once, not with every poll."""
        if self._warnings.get(name) != message:
            self._warnings[name] = message
            logger.warning("%s: %s", name, message)
