"""What the server counts, under the names that TensorFlow Serving gives the same things.

Source of names, labels and buckets: tensorflow_serving/servables/tensorflow/util.cc and
tensorflow/cc/saved_model/loader.cc; of the format: tensorflow_serving/util/prometheus_exporter.cc.
"""

import threading
import time
from pathlib import Path
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.samples import Sample

from components.serving.messages import State
from components.serving.server.versions import VersionStatus

_LATENCY_BUCKETS: Final = tuple(10 * 1.8**power for power in range(33))
"""Microseconds, 10 µs to some 25 minutes."""
_NOT_THERE: Final = "_created"
_COUNTER_SUFFIX: Final = "_total"


class ServerMetrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ("model_name", "status"),
            registry=self._registry,
        )
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of requests that were answered, in microseconds.",
            ("model_name", "API", "entrypoint"),
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._load_attempts = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "How often a SavedModel was loaded, or could not be.",
            ("model_path", "status"),
            registry=self._registry,
        )
        self._load_latency = Counter(
            ":tensorflow:cc:saved_model:load_latency",
            "Time that loading SavedModels took, in microseconds.",
            ("model_path",),
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._loading: dict[str, float] = {}
        self._lock = threading.Lock()

    def request(self, model: str, api: str, entrypoint: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a request of the prediction API.

        Args:
            model: name of a model that is served. Names as clients send them have no bound, and each would
                be kept for good.
            api: ``Predict`` over gRPC, ``predict`` over REST, as there.
            entrypoint: ``GRPC`` or ``REST``.
            code: what was answered; only an answer without error has a latency, as there.
            seconds: how long it took.
        """
        self._requests.labels(model, code.name).inc()
        if code is grpc.StatusCode.OK:
            self._request_latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def version_changed(self, path: Path, status: VersionStatus) -> None:
        """Counts loads; ``path`` is the version's directory."""
        key, now = str(path), time.monotonic()
        with self._lock:
            if status.state is State.LOADING:
                self._loading[key] = now
                return
            started = self._loading.pop(key, None)
        if started is None:
            return
        if status.state is State.AVAILABLE:
            self._load_attempts.labels(key, "success").inc()
            self._load_latency.labels(key).inc((now - started) * 1e6)
        else:
            self._load_attempts.labels(key, "fail").inc()

    def exposition(self) -> str:
        """Returns all metrics in Prometheus's text format, written as TensorFlow Serving writes it.

        That leaves out help and times of creation, and TensorFlow's counters carry no ``_total``.
        """
        lines = []
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if not sample.name.endswith(_NOT_THERE)]
            suffix = _COUNTER_SUFFIX if metric.type == "counter" else ""
            lines.append(f"# TYPE {_name(metric.name + suffix)} {metric.type}")
            lines += [_line(sample) for sample in samples]
        return "\n".join(lines) + "\n"


def _line(sample: Sample) -> str:
    labels = ",".join(f'{label}="{_escaped(label, value)}"' for label, value in sample.labels.items())
    return f"{_name(sample.name)}{{{labels}}} {sample.value:.16g}"


def _name(name: str) -> str:
    """The names that are TensorFlow's begin with a colon; its counters have no suffix."""
    return name.removesuffix(_COUNTER_SUFFIX) if name.startswith(":") else name


def _escaped(label: str, value: str) -> str:
    if label == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
