"""Metrics under TensorFlow Serving's names, in its text format."""

from pathlib import Path

import grpc

from components.serving.messages import State
from components.serving.server.metrics import ServerMetrics
from components.serving.server.versions import VersionStatus


def test_requests_are_counted_by_model_and_status() -> None:
    metrics = ServerMetrics()
    metrics.request("pets", "Predict", "GRPC", grpc.StatusCode.OK, 0.001)
    metrics.request("pets", "Predict", "GRPC", grpc.StatusCode.INVALID_ARGUMENT, 0.001)
    text = metrics.exposition()
    assert ':tensorflow:serving:request_count{model_name="pets",status="OK"} 1\n' in text
    assert ':tensorflow:serving:request_count{model_name="pets",status="INVALID_ARGUMENT"} 1\n' in text
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text


def test_only_answers_have_a_latency_and_it_is_in_microseconds() -> None:
    metrics = ServerMetrics()
    metrics.request("pets", "Predict", "GRPC", grpc.StatusCode.OK, 0.002)
    metrics.request("pets", "Predict", "GRPC", grpc.StatusCode.INTERNAL, 0.002)
    labels = 'model_name="pets",API="Predict",entrypoint="GRPC"'
    text = metrics.exposition()
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1\n" in text
    assert f":tensorflow:serving:request_latency_sum{{{labels}}} 2000\n" in text


def test_latency_buckets_are_those_that_dashboards_name() -> None:
    metrics = ServerMetrics()
    metrics.request("pets", "Predict", "GRPC", grpc.StatusCode.OK, 0.5)
    text = metrics.exposition()
    assert 'le="10"} 0\n' in text and 'le="708235"} 1\n' in text and 'le="+Inf"} 1\n' in text
    assert text.count("request_latency_bucket{") == 34


def test_loads_are_counted_by_path() -> None:
    metrics, path = ServerMetrics(), Path("/models/pets/1")
    metrics.version_changed(path, VersionStatus(1, State.LOADING))
    metrics.version_changed(path, VersionStatus(1, State.AVAILABLE))
    metrics.version_changed(path, VersionStatus(1, State.UNLOADING))
    metrics.version_changed(path, VersionStatus(1, State.END))
    broken = Path("/models/pets/2")
    metrics.version_changed(broken, VersionStatus(2, State.LOADING))
    metrics.version_changed(broken, VersionStatus(2, State.END, grpc.StatusCode.INTERNAL, "broken"))
    text = metrics.exposition()
    count = ":tensorflow:cc:saved_model:load_attempt_count"
    assert f'{count}{{model_path="/models/pets/1",status="success"}} 1\n' in text
    assert f'{count}{{model_path="/models/pets/2",status="fail"}} 1\n' in text
    assert text.count(f"{count}{{") == 2
    assert ':tensorflow:cc:saved_model:load_latency{model_path="/models/pets/1"} ' in text
    assert ':tensorflow:cc:saved_model:load_latency{model_path="/models/pets/2"} ' not in text


def test_label_values_are_escaped() -> None:
    metrics = ServerMetrics()
    metrics.request('a"b\\c\nd', "Predict", "GRPC", grpc.StatusCode.OK, 0.001)
    assert r'model_name="a\"b\\c\nd"' in metrics.exposition()


def test_two_servers_in_a_process_count_for_themselves() -> None:
    one, other = ServerMetrics(), ServerMetrics()
    one.request("pets", "Predict", "GRPC", grpc.StatusCode.OK, 0.001)
    assert "pets" not in other.exposition()


def test_memory_of_the_process_is_reported() -> None:
    text = ServerMetrics().exposition()
    (line,) = [line for line in text.splitlines() if line.startswith("process_resident_memory_bytes")]
    assert float(line.split()[-1]) > 1e6
