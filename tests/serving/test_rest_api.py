"""The REST API as TensorFlow Serving documents it, on a real server with a real model."""

import base64
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_server import decoded, encoded, image, running
from saved_models import expected_class_ids, write_model
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from components.serving.server import http_server, json_inputs, json_outputs
from components.serving.server.errors import ServingError
from components.serving.server.server import ModelServer
from components.serving.server.tensor_protos import MAX_MESSAGE_BYTES

_PIXELS = image()
_B64 = {"b64": base64.b64encode(encoded(_PIXELS)).decode()}
_PREDICT = "/v1/models/pets:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    base = tmp_path_factory.mktemp("models") / "pets"
    write_model(base / "1")
    write_model(base / "2", offset=1)
    files = base.parent
    (files / "models.config").write_text(
        "model_config_list { config { "
        f'name: "pets" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }} '
        'version_labels { key: "stable" value: 1 } } }'
    )
    (files / "monitoring.config").write_text("prometheus_config { enable: true }")
    with running(
        base,
        model_config_file=str(files / "models.config"),
        monitoring_config_file=str(files / "monitoring.config"),
        allow_version_labels_for_unavailable_models=True,
    ) as started:
        yield started


@pytest.fixture
def connection(server: ModelServer) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    yield opened
    opened.close()


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(response.read())


def _mask(value: dict[str, str]) -> np.ndarray:
    return decoded(base64.b64decode(value["b64"]))


def test_rows_are_answered_with_predictions(connection: http.client.HTTPConnection) -> None:
    status, answer = _ask(connection, "POST", _PREDICT, {"instances": [_B64, _B64]})
    assert status == 200
    assert [set(row) for row in answer["predictions"]] == [{"mask_bytes", "class_fraction"}] * 2
    for row in answer["predictions"]:
        np.testing.assert_array_equal(_mask(row["mask_bytes"]), expected_class_ids(_PIXELS, offset=1))
        assert sum(row["class_fraction"]) == pytest.approx(1)


def test_rows_may_name_their_inputs(connection: http.client.HTTPConnection) -> None:
    plain = _ask(connection, "POST", _PREDICT, {"instances": [_B64]})
    assert _ask(connection, "POST", _PREDICT, {"instances": [{"image_bytes": _B64}]}) == plain


def test_columns_are_answered_with_outputs(connection: http.client.HTTPConnection) -> None:
    status, answer = _ask(connection, "POST", _PREDICT, {"inputs": {"image_bytes": [_B64, _B64]}})
    assert status == 200
    assert set(answer["outputs"]) == {"mask_bytes", "class_fraction"}
    assert len(answer["outputs"]["mask_bytes"]) == 2
    assert _ask(connection, "POST", _PREDICT, {"inputs": [_B64, _B64]}) == (status, answer)


def test_a_signature_is_named_and_numbers_are_nested_lists(connection: http.client.HTTPConnection) -> None:
    body = {"signature_name": "serving_pixels", "instances": [_PIXELS.tolist()]}
    _, answer = _ask(connection, "POST", _PREDICT, body)
    assert answer["predictions"][0]["class_ids"] == expected_class_ids(_PIXELS, offset=1).tolist()


def test_the_name_of_a_single_output_is_left_out(connection: http.client.HTTPConnection) -> None:
    import tensorflow as tf

    features = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded(_PIXELS)]))}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    value = [{"b64": base64.b64encode(example).decode()}]
    _, rows = _ask(connection, "POST", _PREDICT, {"signature_name": "evaluate", "instances": value})
    _, columns = _ask(connection, "POST", _PREDICT, {"signature_name": "evaluate", "inputs": value})
    assert list(rows["predictions"][0]) == ["b64"]
    assert columns["outputs"] == rows["predictions"]


@pytest.mark.parametrize("choice", ["versions/1", "labels/stable"])
def test_a_version_is_chosen_by_number_or_label(connection: http.client.HTTPConnection, choice: str) -> None:
    _, answer = _ask(connection, "POST", f"/v1/models/pets/{choice}:predict", {"instances": [_B64]})
    np.testing.assert_array_equal(_mask(answer["predictions"][0]["mask_bytes"]), expected_class_ids(_PIXELS))


def test_status_is_as_documented(connection: http.client.HTTPConnection) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    one, two = {"version": "1", **available}, {"version": "2", **available}
    assert _ask(connection, "GET", "/v1/models/pets") == (200, {"model_version_status": [two, one]})
    assert _ask(connection, "GET", "/v1/models/pets/versions/1") == (200, {"model_version_status": [one]})
    assert _ask(connection, "GET", "/v1/models/pets/labels/stable") == (200, {"model_version_status": [one]})


def test_metadata_is_as_documented(connection: http.client.HTTPConnection) -> None:
    status, answer = _ask(connection, "GET", "/v1/models/pets/metadata")
    assert (status, answer["model_spec"]["version"]) == (200, "2")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signatures["serving_pixels"]["inputs"]["images"]["tensor_shape"]["dim"][0]["size"] == "-1"
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        (
            "POST",
            "/v1/models/cats:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Latest(cats)",
        ),
        ("GET", "/v1/models/cats", None, 404, "Could not find any versions of model cats"),
        ("GET", "/v1/models/pets/versions/9", None, 404, "Could not find version 9 of model pets"),
        ("GET", "/v1/models", None, 400, "Missing model name in request."),
        ("GET", _PREDICT, None, 400, f"Malformed request: GET {_PREDICT}"),
        ("PUT", _PREDICT, {}, 400, f"Malformed request: PUT {_PREDICT}"),
        ("POST", "/v1/models/pets/version/1:predict", {}, 400, "Malformed request"),
        ("POST", f"/v1/models/pets/versions/{2**64}:predict", {}, 400, "Failed to convert version"),
        ("POST", f"/v1/models/pets/versions/{'9' * 5000}:predict", {}, 400, "Failed to convert version"),
        (
            "POST",
            "/v1/models/pets:predict",
            {"signature_name": "__saved_model_init_op", "instances": [1]},
            400,
            "not found in signature def",
        ),
        ("POST", "/v1/models/pets:classify", {"examples": []}, 501, "classify is not implemented"),
        ("POST", "/v1/models/pets:regress", {"examples": []}, 501, "regress is not implemented"),
        ("GET", "/index.html", None, 404, "Not Found"),
        ("POST", _PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        ("POST", _PREDICT, b"instances = [1]", 400, "JSON Parse error: Expecting value at offset: 0"),
        ("POST", _PREDICT, b"\xff\xfe\xfd", 400, "JSON Parse error"),
        ("POST", _PREDICT, b"[" * 200_000, 400, "JSON Parse error: nested too deeply"),
        ("POST", _PREDICT, [1], 400, "Is not object"),
        ("POST", _PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            "POST",
            _PREDICT,
            {"inputs": [_B64], "instances": [_B64]},
            400,
            "only one of 'inputs' or 'instances'",
        ),
        ("POST", _PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        ("POST", _PREDICT, {"instances": _B64}, 400, "Expecting 'instances' to be a list/array"),
        ("POST", _PREDICT, {"instances": [1]}, 400, "JSON Value: 1 is not of expected type: string"),
        ("POST", _PREDICT, {"instances": [None]}, 400, "JSON Value: null is not of expected type: string"),
        ("POST", _PREDICT, {"instances": [{"b64": "§"}]}, 400, "cannot be encoded"),
        ("POST", _PREDICT, {"instances": [{"b64": "a"}]}, 400, "Unable to base64 decode"),
        ("POST", _PREDICT, {"instances": [{"picture": _B64}]}, 400, "must only have keys: image_bytes"),
        ("POST", _PREDICT, {"instances": [{"image_bytes": _B64}, "x"]}, 400, "at item 1 of 'instances' list"),
        ("POST", _PREDICT, {"inputs": {"picture": [_B64]}}, 400, "Missing named input: image_bytes"),
        ("POST", _PREDICT, {"signature_name": 5, "instances": [_B64]}, 400, "must be a string value"),
        (
            "POST",
            _PREDICT,
            {"signature_name": "nope", "instances": [_B64]},
            400,
            'Serving signature name: "nope" not found in signature def',
        ),
        ("POST", _PREDICT, {"instances": ["no picture"]}, 400, "Unknown image file format"),
    ],
)
def test_errors_have_their_status_and_one_line(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, status: int, error: str
) -> None:
    answered, answer = _ask(connection, method, path, body)
    assert answered == status
    assert list(answer) == ["error"] and error in answer["error"] and "\n" not in answer["error"]


def test_a_connection_stays_open_also_after_errors(connection: http.client.HTTPConnection) -> None:
    _ask(connection, "GET", "/v1/models/pets")
    first = connection.sock
    for path in (_PREDICT, "/nowhere", "/v1/models/pets:predict"):
        _ask(connection, "POST", path, {"instances": ["no picture"]})
    assert connection.sock is first
    assert _ask(connection, "POST", _PREDICT, {"instances": [_B64]})[0] == 200


@pytest.mark.parametrize("path", ["pets:classify", f"pets/versions/{10**30}:predict"])
def test_a_refused_body_is_not_taken_for_the_next_request(server: ModelServer, path: str) -> None:
    hidden = b"GET /v1/models/pets HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST /v1/models/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(hidden)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=10) as raw:
        raw.sendall(head.encode() + hidden)
        raw.shutdown(socket.SHUT_WR)
        assert raw.makefile("rb").read().count(b"HTTP/1.1 ") == 1


def test_a_body_that_comes_byte_by_byte_is_given_up(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_REQUEST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=5) as raw:
        raw.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.1):
                raw.sendall(b" ")

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            answer = raw.recv(1000)
        finally:
            stop.set()
            trickling.join()
    assert b" 400 " in answer and b"Connection: close" in answer


def test_a_body_may_be_gzip(connection: http.client.HTTPConnection) -> None:
    body = gzip.compress(json.dumps({"instances": [_B64]}).encode())
    connection.request("POST", _PREDICT, body, {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.status == 200 and response.read()


@pytest.mark.parametrize(("body", "status"), [(b"no gzip", 400), (gzip.compress(b"{}", mtime=0)[:-6], 400)])
def test_a_broken_gzip_is_refused(connection: http.client.HTTPConnection, body: bytes, status: int) -> None:
    connection.request("POST", _PREDICT, body, {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.status == status and b"gzip" in response.read()


def test_a_gzip_that_unpacks_to_more_than_the_limit_is_refused(
    connection: http.client.HTTPConnection,
) -> None:
    bomb = gzip.compress(bytes(MAX_MESSAGE_BYTES + 1), compresslevel=1)
    connection.request("POST", _PREDICT, bomb, {"Content-Encoding": "gzip"})
    assert connection.getresponse().status == 413


def test_a_body_beyond_the_limit_is_refused(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", _PREDICT, bytes(MAX_MESSAGE_BYTES + 1))
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read()) == {"error": f"the request is larger than {MAX_MESSAGE_BYTES} bytes"}


def test_a_body_in_chunks_is_read(connection: http.client.HTTPConnection) -> None:
    body = json.dumps({"instances": [_B64]}).encode()
    connection.request("POST", _PREDICT, iter([body[:50], body[50:]]), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 200 and response.read()
    assert _ask(connection, "GET", "/v1/models/pets")[0] == 200


def test_a_body_that_ends_too_early_does_no_harm(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=10) as raw:
        raw.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        raw.shutdown(socket.SHUT_WR)
        assert b" 400 " in raw.makefile("rb").readline()


def test_metrics_are_those_of_both_apis(connection: http.client.HTTPConnection) -> None:
    _ask(connection, "POST", _PREDICT, {"instances": [_B64]})
    _ask(connection, "POST", "/v1/models/cats:predict", {"instances": [_B64]})
    connection.request("GET", "/monitoring/prometheus/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    assert response.headers["Content-Type"].startswith("text/plain")
    assert ':tensorflow:serving:request_count{model_name="pets",status="OK"} ' in text
    assert 'request_latency_count{model_name="pets",API="predict",entrypoint="REST"} ' in text
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} ' in text
    assert "cats" not in text
    assert 'load_attempt_count{model_path="' in text


def test_a_request_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, rest_api_timeout_in_ms=200) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
        status, answer = _ask(connection, "POST", _PREDICT, {"instances": [_B64]})
        assert status == 504 and "time limit of 200 ms passed while computing" in answer["error"]
        connection.request("GET", "/monitoring/prometheus/metrics")
        # Not asked for: no monitoring config.
        assert connection.getresponse().status == 404


def test_what_computes_on_after_its_timeout_keeps_its_place(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, rest_api_timeout_in_ms=300, rest_api_num_threads=1) as server:
        errors = []
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
            errors.append(_ask(connection, "POST", _PREDICT, {"instances": [_B64]})[1]["error"])
            connection.close()
        assert "passed while computing" in errors[0]
        # Its body has not even been read.
        assert "passed while waiting for other requests" in errors[1]


def test_requests_in_flight_are_answered_before_the_server_is_gone(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    answers = []

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        answers.append(_ask(connection, "POST", _PREDICT, {"instances": [_B64]})[0])

    with running(tmp_path) as server:
        assert server.rest_port
        asking = [threading.Thread(target=ask, args=(server.rest_port,)) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.4)
        assert server.stop(grace=10)
        for thread in asking:
            thread.join(10)
        assert answers == [200, 200, 200]
        with pytest.raises(ConnectionRefusedError):
            ask(server.rest_port)


def _read(value: Any, dtype: int) -> np.ndarray:
    infos = {"x": meta_graph_pb2.TensorInfo(dtype=dtype)}
    return json_inputs.read_inputs({"inputs": value}, infos).tensors["x"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([[1, 2], [3, 4]], types_pb2.DT_UINT8, np.array([[1, 2], [3, 4]], np.uint8)),
        (7, types_pb2.DT_INT64, np.array(7, np.int64)),
        ([1, 2.5], types_pb2.DT_FLOAT, np.array([1, 2.5], np.float32)),
        ([float("nan"), float("inf")], types_pb2.DT_FLOAT, np.array([np.nan, np.inf], np.float32)),
        ([True, False], types_pb2.DT_BOOL, np.array([True, False])),
        (["ä", {"b64": "/w"}], types_pb2.DT_STRING, np.array(["ä".encode(), b"\xff"], object)),
        ([[], []], types_pb2.DT_FLOAT, np.zeros((2, 0), np.float32)),
        (2**64 - 1, types_pb2.DT_UINT64, np.array(2**64 - 1, np.uint64)),
    ],
)
def test_json_becomes_the_tensor_that_the_signature_asks_for(
    value: Any, dtype: int, expected: np.ndarray
) -> None:
    tensor = _read(value, dtype)
    np.testing.assert_array_equal(tensor, expected)
    assert tensor.dtype == expected.dtype


@pytest.mark.parametrize(
    ("value", "dtype", "error"),
    [
        (
            [[1, 2], [3]],
            types_pb2.DT_UINT8,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ([[1], 2], types_pb2.DT_UINT8, "JSON Value: 2 found at incorrect level: 1"),
        ([1, [2]], types_pb2.DT_UINT8, "list of 1 is not of expected type: uint8"),
        ([300], types_pb2.DT_UINT8, "300 does not fit uint8"),
        ([-1], types_pb2.DT_UINT64, "-1 does not fit uint64"),
        ([1.5], types_pb2.DT_INT32, "JSON Value: 1.5 is not of expected type: int32"),
        ([True], types_pb2.DT_INT32, "JSON Value: true is not of expected type: int32"),
        ([1], types_pb2.DT_BOOL, "JSON Value: 1 is not of expected type: bool"),
        ([1e300], types_pb2.DT_FLOAT, "without loss of precision"),
        ([2**25], types_pb2.DT_FLOAT, "without loss of precision"),
        ([10**400], types_pb2.DT_DOUBLE, "without loss of precision"),
        ([1.5], types_pb2.DT_HALF, "Conversion of JSON values to type: half"),
        (["\ud800"], types_pb2.DT_STRING, "cannot be encoded"),
    ],
)
def test_json_that_does_not_fit_is_refused(value: Any, dtype: int, error: str) -> None:
    with pytest.raises(ServingError, match=error):
        _read(value, dtype)


def test_lists_nested_beyond_any_tensor_are_refused() -> None:
    value: Any = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(ServingError, match="nested more than 32 deep"):
        _read(value, types_pb2.DT_UINT8)


def test_floats_are_written_in_their_shortest_form() -> None:
    answer = json_outputs.write_outputs({"x": np.array([0.2, 1, np.nan, -np.inf], np.float32)}, rows=False)
    assert json.dumps(answer) == '{"outputs": [0.2, 1.0, NaN, -Infinity]}'


def test_strings_are_base64_only_under_names_that_end_in_bytes() -> None:
    text = np.array([b"a\xff"], object)
    answer = json_outputs.write_outputs({"mask_bytes": text, "name": text}, rows=False)
    assert answer == {"outputs": {"mask_bytes": [{"b64": "Yf8="}], "name": ["a�"]}}


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({"x": np.array(1)}, "has no shape information"),
        ({"x": np.zeros(0)}, "invalid batch size: 0"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "inconsistent batch sizes: x 2, y 3"),
        ({"x": np.zeros(2, np.float16)}, "Failed to write JSON value"),
    ],
)
def test_outputs_that_are_no_rows_are_refused(outputs: dict[str, np.ndarray], error: str) -> None:
    with pytest.raises(ServingError, match=error):
        json_outputs.write_outputs(outputs, rows=True)
