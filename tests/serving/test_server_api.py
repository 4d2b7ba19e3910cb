"""The embedded server as clients of TensorFlow Serving know it, asked with tensorflow-serving-api alone.

The expectations are TensorFlow Serving's: the pages under tensorflow.org/tfx/serving, whose source is
tensorflow_serving/g3doc, its protocol buffers, predict_util.cc and http_rest_api_handler.cc.
"""

import base64
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import png_bytes
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import channel_to, decoded, image, running
from saved_models import expected_class_ids, write_model
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import until

from components.serving.server import grpc_api, rest_api
from components.serving.server.servable import MAX_MESSAGE_BYTES, Servable
from components.serving.server.server import ModelServer

_SECONDS = 20
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PIXELS = image()
_B64 = {"b64": base64.b64encode(png_bytes(_PIXELS)).decode()}
_PREDICT = "/v1/models/pets:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Serves version 2; a newer one, 3, does not load."""
    base = tmp_path_factory.mktemp("models") / "pets"
    write_model(base / "2", offset=1)
    with running(base, file_system_poll_wait_seconds=0.05) as started:
        (base / "3").mkdir()
        until(lambda: len(_ask(started, "GET", "/v1/models/pets")[1]["model_version_status"]) == 2)
        yield started


@pytest.fixture(scope="module")
def channel(server: ModelServer) -> Iterator[grpc.Channel]:
    with channel_to(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def _request(**spec: Any) -> predict_pb2.PredictRequest:
    inputs = {"image_bytes": tf.make_tensor_proto([png_bytes(_PIXELS)])}
    return predict_pb2.PredictRequest(model_spec={"name": "pets", **spec}, inputs=inputs)


def _refusal(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refusal:
        call(request, timeout=_SECONDS)
    assert "\n" not in refusal.value.details()
    return refusal.value.code().name, refusal.value.details()


def _ask(server: ModelServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=_SECONDS)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body)
    connection.request(method, path, content, headers)
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(response.read())


def _healthy(channel: grpc.Channel, service: str = "") -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=0.9).status


# ---- gRPC


def test_a_picture_is_answered_with_its_mask_and_with_the_model_that_was_used(stub: Any) -> None:
    for spec in ({}, {"version": {"value": 2}}, {"signature_name": "serving_default"}):
        response = stub.Predict(_request(**spec), timeout=_SECONDS)
        (mask,) = response.outputs["mask_bytes"].string_val
        np.testing.assert_array_equal(decoded(mask), expected_class_ids(_PIXELS, offset=1))
        # TensorFlow Serving fills the typed field, and its examples read it.
        assert sum(response.outputs["class_fraction"].float_val) == pytest.approx(1)
        assert response.model_spec == model_pb2.ModelSpec(
            name="pets", version={"value": 2}, signature_name="serving_default"
        )


def test_the_output_filter_picks_outputs(stub: Any) -> None:
    request = _request()
    request.output_filter.append("class_fraction")
    assert list(stub.Predict(request, timeout=_SECONDS).outputs) == ["class_fraction"]
    request.output_filter.append("mask")
    code, details = _refusal(stub.Predict, request)
    assert code == "INVALID_ARGUMENT"
    assert "not found in signature: mask. Outputs expected to be in the set {class_fraction," in details


@pytest.mark.parametrize("as_content", [True, False])
def test_pixels_are_taken_as_content_and_as_values(stub: Any, as_content: bool) -> None:
    batch = np.stack([_PIXELS, image(seed=1)])
    proto = tf.make_tensor_proto(batch)
    if not as_content:
        proto.ClearField("tensor_content")
        proto.int_val.extend(batch.ravel().tolist())
    request = predict_pb2.PredictRequest(
        model_spec={"name": "pets", "signature_name": "serving_pixels"}, inputs={"images": proto}
    )
    outputs = stub.Predict(request, timeout=_SECONDS).outputs
    class_ids = tf.make_ndarray(outputs["class_ids"])
    np.testing.assert_array_equal(class_ids, expected_class_ids(batch, offset=1))
    assert class_ids.dtype == np.uint8 and outputs["confidence"].dtype == types_pb2.DT_FLOAT


@pytest.mark.parametrize(
    ("spec", "code", "details"),
    [
        ({"name": "cats"}, "NOT_FOUND", "Servable not found for request: Latest(cats)"),
        ({"version": {"value": 9}}, "NOT_FOUND", "Servable not found for request: Specific(pets, 9)"),
        ({"version_label": "beta"}, "INVALID_ARGUMENT", "Unrecognized servable version label: beta"),
        ({"signature_name": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found'),
        # What initialises the model is listed, and nobody can run it.
        ({"signature_name": "__saved_model_init_op"}, "FAILED_PRECONDITION", "Signatures: evaluate, "),
        ({"name": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified"),
        # Trailers of more than 8 KB would be refused by the client.
        ({"signature_name": "😀" * 3000}, "FAILED_PRECONDITION", "…"),
    ],
)
def test_what_cannot_be_served_is_refused_as_there(
    stub: Any, spec: dict[str, Any], code: str, details: str
) -> None:
    refused_with, said = _refusal(stub.Predict, _request(**spec))
    assert refused_with == code and details in said


def _tensor(*sizes: int, **fields: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


_UINT8, _STRING = types_pb2.DT_UINT8, types_pb2.DT_STRING
_HOSTILE = {
    "content too short": _tensor(1, 2, 2, 3, dtype=_UINT8, tensor_content=b"12345"),
    "more values than the shape": _tensor(1, dtype=_UINT8, int_val=[1, 2, 3]),
    "more strings than the shape": _tensor(1, dtype=_STRING, string_val=[b"x", b"y"]),
    "a terabyte by repetition": _tensor(1 << 40, dtype=_UINT8, int_val=[1]),
    "a product beyond 64 bits": _tensor(1 << 40, 1 << 40, dtype=_UINT8, int_val=[1]),
    "a billion strings": _tensor(1 << 30, dtype=_STRING, string_val=[b"x"]),
    "a trillion empty strings": _tensor(1 << 40, dtype=_STRING, string_val=[b""]),
    "a trillion strings that are not there": _tensor(1 << 40, dtype=_STRING),
    "a megabyte a thousand times": _tensor(1000, dtype=_STRING, string_val=[bytes(1 << 20)]),
    "negative size": _tensor(-5, dtype=_UINT8),
    "a size to be inferred": _tensor(-1, dtype=_STRING, string_val=[b"x"]),
    "two negative sizes": _tensor(-(1 << 40), -(1 << 40), dtype=_UINT8),
    "100 dimensions": _tensor(*[1] * 100, dtype=_UINT8, int_val=[1]),
    "sizes whose product takes a minute": _tensor(*[1 << 62] * 50_000, dtype=_UINT8),
    "strings as content": _tensor(1, dtype=_STRING, tensor_content=b"\x01x"),
    "a resource": _tensor(1, dtype=types_pb2.DT_RESOURCE),
    "a type that is none": _tensor(1, dtype=999),
    "nothing": tensor_pb2.TensorProto(),
    "no rank": tensor_pb2.TensorProto(dtype=_UINT8, tensor_shape={"unknown_rank": True}),
    "another type": tf.make_tensor_proto([1.5]),
    "another shape": tf.make_tensor_proto(b"x"),
    "a text": tf.make_tensor_proto([b"text"]),
    "half a picture": tf.make_tensor_proto([png_bytes(image(30, 30))[:60]]),
}


@pytest.mark.parametrize("what", _HOSTILE)
def test_a_hostile_tensor_is_refused_and_the_next_request_answered(stub: Any, what: str) -> None:
    inputs = {"image_bytes": _HOSTILE[what]}
    request = predict_pb2.PredictRequest(model_spec={"name": "pets"}, inputs=inputs)
    code, details = _refusal(stub.Predict, request)
    assert code == "INVALID_ARGUMENT" and len(details) > 5 and "[[" not in details
    assert stub.Predict(_request(), timeout=_SECONDS).outputs


def test_wrong_inputs_are_told_with_what_is_right(stub: Any) -> None:
    inputs = {"images": tf.make_tensor_proto([b"x"])}
    request = predict_pb2.PredictRequest(model_spec={"name": "pets"}, inputs=inputs)
    details = 'signature "serving_default" takes {image_bytes: string [?]}, not {images}'
    assert _refusal(stub.Predict, request) == ("INVALID_ARGUMENT", details)
    request = predict_pb2.PredictRequest(
        model_spec={"name": "pets", "signature_name": "serving_pixels"},
        inputs={"images": tf.make_tensor_proto(np.zeros((1, 2, 2, 4), np.uint8))},
    )
    assert "takes uint8 [?, ?, ?, 3]" in _refusal(stub.Predict, request)[1]


def test_bytes_that_tensorflow_quotes_are_an_invalid_argument(stub: Any) -> None:
    request = predict_pb2.PredictRequest(
        model_spec={"name": "pets", "signature_name": "evaluate"},
        inputs={"examples": tf.make_tensor_proto([b"\xff\xff no Example"])},
    )
    code, details = _refusal(stub.Predict, request)
    assert code == "INVALID_ARGUMENT" and "Example" in details and r"\xff" in details


def test_a_request_beyond_the_message_limit_is_refused(stub: Any) -> None:
    request = _request()
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([bytes(MAX_MESSAGE_BYTES + 1)]))
    code, details = _refusal(stub.Predict, request)
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in details


def test_what_is_tensorflow_servings_alone_says_so(stub: Any, models: Any) -> None:
    for call, request in (
        (stub.Classify, classification_pb2.ClassificationRequest()),
        (models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ):
        code, details = _refusal(call, request)
        assert code == "UNIMPLEMENTED" and "--backend docker" in details


def test_metadata_tells_the_signatures_over_grpc_and_over_rest(server: ModelServer, stub: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "pets"}, metadata_field=["signature_def"]
    )
    response = stub.GetModelMetadata(request, timeout=_SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 2
    assert {"serving_default", "serving_pixels", "evaluate"} <= set(signatures.signature_def)
    assert signatures.signature_def["serving_default"].inputs["image_bytes"].dtype == _STRING
    # api_rest.md, "Model Metadata API": "a JSON representation of GetModelMetadataResponse protobuf".
    status, answer = _ask(server, "GET", "/v1/models/pets/metadata")
    assert (status, answer["model_spec"]["version"]) == (200, "2")
    given = answer["metadata"]["signature_def"]
    assert json_format.ParseDict(given, get_model_metadata_pb2.SignatureDefMap()) == signatures
    assert given["signature_def"]["serving_default"]["method_name"] == "tensorflow/serving/predict"
    request.metadata_field[:] = ["labels"]
    assert "signature_def" in _refusal(stub.GetModelMetadata, request)[1]


def test_status_tells_all_versions_or_the_one_asked_about_over_grpc_and_over_rest(
    server: ModelServer, models: Any
) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "pets"})
    response = models.GetModelStatus(request, timeout=_SECONDS)
    status = get_model_status_pb2.ModelVersionStatus
    failed, serving = response.model_version_status
    assert (serving.version, serving.state, serving.status.error_code) == (2, status.AVAILABLE, 0)
    # get_model_status.proto: END also for a version that "hit an error".
    assert (failed.version, failed.state) == (3, status.END)
    assert failed.status.error_code == grpc.StatusCode.NOT_FOUND.value[0] and failed.status.error_message
    # api_rest.md, "Model status API": "a JSON representation of GetModelStatusResponse protobuf".
    answered, answer = _ask(server, "GET", "/v1/models/pets")
    assert answered == 200
    assert json_format.ParseDict(answer, get_model_status_pb2.GetModelStatusResponse()) == response
    one = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert _ask(server, "GET", "/v1/models/pets/versions/2")[1] == {"model_version_status": [one]}
    request.model_spec.name = "cats"
    details = "Could not find any versions of model cats"
    assert _refusal(models.GetModelStatus, request) == ("NOT_FOUND", details)
    assert _ask(server, "GET", "/v1/models/cats") == (404, {"error": details})


def test_health_is_told_for_the_server_its_services_and_its_model(channel: grpc.Channel) -> None:
    for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "pets"):
        assert _healthy(channel, service) == _SERVING
    request = health_pb2.HealthCheckRequest(service="cats")
    assert _refusal(health_pb2_grpc.HealthStub(channel).Check, request)[0] == "NOT_FOUND"


def test_threads_and_what_waits_for_them_are_bounded_and_probes_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_api, "MAX_WAITING", 3)
    computed = []
    predict = Servable.predict

    def counted(servable: Servable, request: Any) -> Any:
        computed.append(request)
        return predict(servable, request)

    monkeypatch.setattr(Servable, "predict", counted)
    write_model(tmp_path / "1", seconds=2.0)
    with running(tmp_path, grpc_max_threads=1) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        computing = stub.Predict.future(_request(), timeout=_SECONDS)
        # Calls need not arrive in the order in which they are made.
        until(lambda: len(computed) == 1)
        # Their client gives up before they get a thread: they are not computed.
        hopeless = [stub.Predict.future(_request(), timeout=0.8) for _ in range(2)]
        time.sleep(0.2)
        assert _healthy(channel) == _SERVING and not computing.done()
        last = stub.Predict.future(_request(), timeout=_SECONDS)
        time.sleep(0.2)
        for call, asked in (
            (stub.Predict, _request()),
            (health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest()),
        ):
            assert _refusal(call, asked)[0] == "RESOURCE_EXHAUSTED"
        assert {call.code() for call in hopeless} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert computing.result().outputs and last.result().outputs
    assert len(computed) == 2


def test_requests_in_flight_are_answered_before_the_server_is_gone(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        changes = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        assert next(changes).status == _SERVING
        calls = [stub.Predict.future(_request(), timeout=_SECONDS) for _ in range(3)]
        rest: list[tuple[int, Any]] = []
        asking = threading.Thread(
            target=lambda: rest.append(_ask(server, "POST", _PREDICT, {"instances": [_B64]}))
        )
        asking.start()
        time.sleep(0.3)
        started = time.monotonic()
        stopping = threading.Thread(target=lambda: rest.append((int(server.stop(grace=10)), None)))
        stopping.start()
        assert next(changes).status == _NOT_SERVING
        assert all(call.result().outputs for call in calls)
        asking.join()
        stopping.join()
        # All were answered, and who watches the health holds nothing up.
        # Which of the two threads notes its end first is the system's choice.
        assert sorted(status for status, _ in rest) == [1, 200] and time.monotonic() - started < 8
        assert _refusal(stub.Predict, _request())[0] == "UNAVAILABLE"


# ---- REST


def test_rows_are_answered_with_predictions(server: ModelServer) -> None:
    status, answer = _ask(server, "POST", _PREDICT, {"instances": [_B64, _B64]})
    assert status == 200
    assert [set(row) for row in answer["predictions"]] == [{"mask_bytes", "class_fraction"}] * 2
    for row in answer["predictions"]:
        mask = decoded(base64.b64decode(row["mask_bytes"]["b64"]))
        np.testing.assert_array_equal(mask, expected_class_ids(_PIXELS, offset=1))
        assert sum(row["class_fraction"]) == pytest.approx(1)
    named = {"instances": [{"image_bytes": _B64}] * 2, "signature_name": "serving_default"}
    assert _ask(server, "POST", "/v1/models/pets/versions/2:predict", named) == (200, answer)


def test_numbers_are_nested_lists_and_the_name_of_a_single_output_is_left_out(server: ModelServer) -> None:
    body = {"signature_name": "serving_pixels", "instances": [_PIXELS.tolist()]}
    _, answer = _ask(server, "POST", _PREDICT, body)
    assert answer["predictions"][0]["class_ids"] == expected_class_ids(_PIXELS, offset=1).tolist()
    features = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png_bytes(_PIXELS)]))}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    rows = [{"b64": base64.b64encode(example).decode()}]
    _, answer = _ask(server, "POST", _PREDICT, {"signature_name": "evaluate", "instances": rows})
    assert list(answer["predictions"][0]) == ["b64"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/v1/models/cats:predict", {"instances": [1]}, 404, "not found for request: Latest(cats)"),
        ("GET", "/v1/models/pets/versions/9", None, 404, "Could not find version 9 of model pets"),
        ("GET", "/v1/models", None, 400, "Malformed request"),
        ("GET", _PREDICT, None, 400, f"Malformed request: GET {_PREDICT}"),
        ("PUT", _PREDICT, {}, 400, f"Malformed request: PUT {_PREDICT}"),
        ("POST", "/v1/models/pets/labels/stable:predict", {}, 501, "take /labels/ over REST; TensorFlow"),
        ("POST", "/v1/models/pets/versions/2:classify", {}, 501, "(--backend docker)"),
        ("POST", "/v1/models/pets:regress", {}, 501, "(--backend docker)"),
        ("GET", "/monitoring/prometheus/metrics", None, 501, "take /monitoring/ over REST; TensorFlow"),
        ("POST", f"/v1/models/pets/versions/{'9' * 5000}:predict", {}, 400, "Malformed request"),
        ("POST", f"/v1/models/pets/versions/{2**63}:predict", {}, 400, "Malformed request"),
        ("GET", f"/v1/models/pets/versions/{2**63 - 2}", None, 404, f"version {2**63 - 2} of model pets"),
        ("GET", "/index.html", None, 400, "Malformed request"),
        ("POST", _PREDICT, b"", 400, "JSON Parse error"),
        ("POST", _PREDICT, b"instances = [1]", 400, "JSON Parse error"),
        ("POST", _PREDICT, b"\xff\xfe\xfd", 400, "JSON Parse error"),
        ("POST", _PREDICT, b"[" * 200_000, 400, "JSON Parse error"),
        # Few enough for the parser, too many for what comes behind it.
        (
            "POST",
            _PREDICT,
            b'{"instances": %b}' % (b"[" * 700 + b"]" * 700),
            400,
            "JSON Parse error: maximum",
        ),
        ("POST", _PREDICT, [1], 400, "no JSON object"),
        ("POST", _PREDICT, {}, 400, "'instances' must be a list of one row or more"),
        ("POST", _PREDICT, {"instances": []}, 400, "'instances' must be a list of one row or more"),
        ("POST", _PREDICT, {"inputs": [_B64]}, 501, "(send rows, 'instances'); TensorFlow Serving does (--b"),
        ("POST", _PREDICT, {"instances": [1]}, 400, "input 'image_bytes': 1 is neither a string nor"),
        ("POST", _PREDICT, {"instances": [["x"], ["y", "z"]]}, 400, "its rows differ in shape"),
        ("POST", _PREDICT, {"instances": [{"b64": "§"}]}, 400, "input 'image_bytes': "),
        ("POST", _PREDICT, {"instances": [{"b64": "a"}]}, 400, "input 'image_bytes': "),
        ("POST", _PREDICT, {"instances": [_B64, {"picture": _B64}]}, 400, "row 1 of 'instances'"),
        ("POST", _PREDICT, {"signature_name": 5, "instances": [_B64]}, 400, "5 not found"),
        ("POST", _PREDICT, {"signature_name": "no", "instances": [_B64]}, 400, '"no" not found'),
        ("POST", _PREDICT, {"instances": ["no picture"]}, 400, "Unknown image file format"),
        (
            "POST",
            _PREDICT,
            b'{"instances": ' + b"[" * 700 + b"1" + b"]" * 700 + b"}",
            400,
            "maximum recursion",
        ),
    ],
)
def test_errors_have_their_status_and_one_line(
    server: ModelServer, method: str, path: str, body: Any, status: int, error: str
) -> None:
    answered, answer = _ask(server, method, path, body)
    assert answered == status
    assert list(answer) == ["error"] and error in answer["error"] and "\n" not in answer["error"]


def test_a_body_that_is_too_large_compressed_cut_off_or_no_request_is_refused(server: ModelServer) -> None:
    status, answer = _ask(server, "POST", _PREDICT, bytes(MAX_MESSAGE_BYTES + 1))
    assert status == 413 and f"larger than {MAX_MESSAGE_BYTES} bytes; " in answer["error"]
    for header in ({"Content-Encoding": "gzip"}, {"Transfer-Encoding": "chunked"}):
        status, answer = _ask(server, "POST", _PREDICT, b"x", **header)
        assert status == 501 and "(--backend docker)" in answer["error"]
    for sent, code in (
        (b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{", b" 400 "),
        (b"POST /v1/models/pets:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b" 400 "),
        (b"nonsense\r\n\r\n", b"Bad request syntax"),
    ):
        with socket.create_connection(("127.0.0.1", server.rest_port or 0), timeout=_SECONDS) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            assert code in raw.makefile("rb").read()


@pytest.mark.parametrize(
    ("rows", "dtype", "expected"),
    [
        ([[1, 2], [3, 255]], np.uint8, [[1, 2], [3, 255]]),
        ([2**64 - 1], np.uint64, [2**64 - 1]),
        ([1, 2.5], np.float32, [1, 2.5]),
        ([[], []], np.int32, np.zeros((2, 0))),
        ([True, False], np.bool_, [True, False]),
        ([float("nan"), float("inf")], np.float32, [np.nan, np.inf]),
    ],
)
def test_json_becomes_the_tensor_that_the_signature_asks_for(rows: Any, dtype: Any, expected: Any) -> None:
    tensor = rest_api._tensor("x", rows, tf.as_dtype(dtype).as_datatype_enum)
    np.testing.assert_array_equal(tensor, np.array(expected, dtype))
    assert tensor.dtype == dtype


@pytest.mark.parametrize(
    ("rows", "dtype", "error"),
    [
        ([[1, 2], [3]], np.uint8, "inhomogeneous shape"),
        ([300], np.uint8, "a number that does not fit uint8"),
        ([-1], np.uint64, "a number that does not fit uint64"),
        ([1.5], np.int32, "it holds float64, not int32"),
        ([True], np.int32, "it holds bool, not int32"),
        ([1], np.bool_, "it holds int64, not bool"),
        (["1"], np.int32, "it holds str"),
        (["x" * 10**8, *["y"] * 10**4], np.uint8, "it holds str, no numbers"),
        ([1e300], np.float32, "a number that does not fit float32"),
        ([10**400], np.float64, "input 'x': "),
        ([None], np.float32, "input 'x': "),
    ],
)
def test_json_that_does_not_fit_is_refused(rows: Any, dtype: Any, error: str) -> None:
    with pytest.raises(Exception, match=error) as refusal:
        rest_api._tensor("x", rows, tf.as_dtype(dtype).as_datatype_enum)
    assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_floats_are_written_in_their_shortest_form_and_strings_in_base64_only_for_bytes() -> None:
    outputs = {
        "x_bytes": np.array([b"a\xff"], object),
        "x": np.array([b"a\xff"], object),
        "y": np.array([0.2], np.float32),
    }
    row = {"x_bytes": {"b64": "Yf8="}, "x": "a�", "y": 0.2}
    assert rest_api._predictions(outputs) == {"predictions": [row]}
    with pytest.raises(Exception, match=r"no rows, their sizes are {'x': 2, 'y': 3}"):
        rest_api._predictions({"x": np.zeros(2), "y": np.zeros(3)})


def test_every_type_comes_back_in_the_field_that_tensorflow_serving_fills(tmp_path: Path) -> None:
    kinds = {
        "int_val": (np.uint8, np.int8, np.uint16, np.int16, np.int32),
        "bool_val": (np.bool_,), "half_val": (np.float16,), "float_val": (np.float32,),
        "double_val": (np.float64,), "int64_val": (np.int64,), "uint32_val": (np.uint32,),
        "uint64_val": (np.uint64,),
    }  # fmt: skip
    numbers = [kind for of_field in kinds.values() for kind in of_field]
    sent = {np.dtype(kind).name: np.array([[0, 1], [1, 0]], kind) for kind in numbers}
    sent["string"] = np.array([[b"a", b""], [b"\xff", b"b"]], object)
    module = tf.Module()
    specs = [tf.TensorSpec([None, 2], tf.as_dtype(values.dtype), name) for name, values in sent.items()]
    module.echo = tf.function(
        lambda *given: {f"{spec.name}_out": tf.identity(x) for spec, x in zip(specs, given, strict=True)}
    ).get_concrete_function(*specs)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.echo})
    servable = Servable("echo", 1, tmp_path / "1", batching=False, warmup=True)
    inputs = {name: tf.make_tensor_proto(values) for name, values in sent.items()}
    answer = servable.predict(predict_pb2.PredictRequest(inputs=inputs))
    servable.close()
    for name, values in sent.items():
        np.testing.assert_array_equal(tf.make_ndarray(answer.outputs[f"{name}_out"]), values)
    for field, of_field in {**kinds, "string_val": (np.object_,)}.items():
        for kind in of_field:
            name = "string" if kind is np.object_ else np.dtype(kind).name
            assert len(getattr(answer.outputs[f"{name}_out"], field)) == 4


def test_a_body_that_comes_byte_by_byte_is_given_up(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_api, "_REQUEST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=_SECONDS) as raw:
        raw.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(0.1):
                raw.sendall(b" ")

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            answer = raw.recv(1000)
        finally:
            over.set()
            trickling.join()
    assert b" 400 " in answer


def test_an_answer_may_take_longer_than_a_connection_may_idle(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A piece takes a fiftieth of that, and all together take longer.
    monkeypatch.setattr(rest_api._Handler, "timeout", 1.0)
    monkeypatch.setattr(rest_api._Handler, "_answer", lambda self: {"predictions": ["x" * 9_000_000]})
    received = 0
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        raw.settimeout(_SECONDS)
        raw.connect(("127.0.0.1", server.rest_port or 0))
        raw.sendall(b"GET /v1/models/pets HTTP/1.1\r\n\r\n")
        while part := raw.recv(1 << 18, socket.MSG_WAITALL):
            received += len(part)
            time.sleep(0.02)
    assert received > 9_000_000


def test_no_client_can_fill_the_log(
    server: ModelServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that breaks off or stalls nor one that sends no message."""
    head = f"POST {_PREDICT} HTTP/1.1\r\nContent-Length: 1000\r\n\r\n".encode()
    with monkeypatch.context() as quick:
        quick.setattr(rest_api._Handler, "timeout", 0.2)
        for length in (1000, MAX_MESSAGE_BYTES + 1):
            with socket.create_connection(("127.0.0.1", server.rest_port or 0), _SECONDS) as raw:
                raw.sendall(head.replace(b"1000", str(length).encode()) + b"x")
                answer = raw.makefile("rb").read()
            assert (b" 400 " if length == 1000 else b" 413 ") in answer
    with socket.create_connection(("127.0.0.1", server.rest_port or 0), _SECONDS) as raw:
        # Closed so, the connection is reset.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sendall(head + b"x")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError, match="INTERNAL"):
            predict(b"\xff" * 100, timeout=_SECONDS)
    # Answered by a thread that comes after the others.
    assert _ask(server, "GET", "/v1/models/pets")[0] == 200
    end = time.monotonic() + 0.5
    while not caplog.records and time.monotonic() < end:
        time.sleep(0.02)
    assert [record.getMessage() for record in caplog.records] == []
