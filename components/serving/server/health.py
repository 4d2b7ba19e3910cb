"""gRPC's health service: who may be sent requests now."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from grpc_health.v1 import health, health_pb2

from components.serving.messages import State
from components.serving.server.versions import VersionStatus

_STATUS = health_pb2.HealthCheckResponse
_OVERALL = ""


class _HealthServicer(health.HealthServicer):
    """Ends the streams of its watchers: without an end of its own, each would hold up a drain."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers: set[Callable[[Any], None]] = set()
        self._guard = threading.Lock()

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        with self._guard:
            self._watchers.add(send_response_callback)
        context.add_callback(lambda: self._forget(send_response_callback))
        return super().Watch(request, context, send_response_callback)

    def enter_graceful_shutdown(self) -> None:
        super().enter_graceful_shutdown()
        with self._guard:
            watchers = list(self._watchers)
        for end in watchers:
            end(None)

    def _forget(self, watcher: Callable[[Any], None]) -> None:
        with self._guard:
            self._watchers.discard(watcher)


class ModelHealth:
    """Says SERVING for a model while a version of it is available, and for the services while every model is.

    tensorflow_model_server has no health service; ``""`` and the services' names are what probes ask for by
    convention, and a model's name tells more where several are served.
    """

    def __init__(self, services: Iterable[str]):
        self.servicer = _HealthServicer()
        self._whole = (_OVERALL, *services)
        self._expected: set[str] = set()
        self._available: defaultdict[str, set[int]] = defaultdict(set)
        self._lock = threading.Lock()
        self._publish()

    def expect(self, models: Iterable[str]) -> None:
        """Sets which models are to be served."""
        with self._lock:
            self._expected = set(models)
            self._publish()

    def version_changed(self, model: str, status: VersionStatus) -> None:
        """Takes note of a version's new state."""
        with self._lock:
            if status.state is State.AVAILABLE:
                self._available[model].add(status.version)
            else:
                self._available[model].discard(status.version)
            self._publish()

    def drain(self) -> None:
        """Says NOT_SERVING from now on, whatever happens to the models."""
        self.servicer.enter_graceful_shutdown()

    def _publish(self) -> None:
        for model in self._expected | self._available.keys():
            self.servicer.set(model, _status(bool(self._available[model])))
        ready = bool(self._expected) and all(self._available[model] for model in self._expected)
        for service in self._whole:
            self.servicer.set(service, _status(ready))


def _status(serving: bool) -> int:
    return _STATUS.SERVING if serving else _STATUS.NOT_SERVING
