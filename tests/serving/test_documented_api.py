"""The requests that TensorFlow Serving's documentation shows, and whether the answers are the ones it shows.

The pages are those under tensorflow.org/tfx/serving, whose source is tensorflow_serving/g3doc. Besides these,
test_rest_api.py and test_grpc_api.py say in detail what the APIs answer.
"""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import json_format
from running_server import channel_to, running
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.serving.messages import State
from components.serving.server.server import ModelServer

_MODEL = "half_plus_three"
_VERSION = 123
_STATUS = get_model_status_pb2.ModelVersionStatus


class _Documented(tf.Module):
    """The toy model of api_rest.md, and a signature with the three named inputs of its longer example."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_plus_three(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + 3}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="tag"),
            tf.TensorSpec([None, 5], tf.int32, name="signal"),
            tf.TensorSpec([None, 2, 2], tf.float32, name="sensor"),
        ]
    )
    def three_inputs(self, tag: tf.Tensor, signal: tf.Tensor, sensor: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"tag": tf.identity(tag), "signal": tf.identity(signal), "sensor": tf.identity(sensor)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Serves version 123, and tries a version 7 that does not load."""
    base = tmp_path_factory.mktemp("models") / _MODEL
    model = _Documented()
    signatures = {"serving_default": model.half_plus_three, "three_inputs": model.three_inputs}
    tf.saved_model.save(model, str(base / str(_VERSION)), signatures=signatures)
    (base / "7").mkdir()
    config = base.parent / "models.config"
    # serving_config.md, with single quotes and names as it writes them.
    config.write_text(
        f"model_config_list {{ config {{ name: '{_MODEL}' base_path: '{base}' model_platform: 'tensorflow' "
        "model_version_policy { all {} } } }"
    )
    with running(base, model_config_file=str(config)) as started:
        yield started


@pytest.fixture(scope="module")
def channel(server: ModelServer) -> Iterator[grpc.Channel]:
    with channel_to(server) as opened:
        yield opened


def _curl(server: ModelServer, path: str, data: str | None = None) -> tuple[http.client.HTTPResponse, str]:
    """Asks as curl does, which calls what ``-d`` sends a form."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
    connection.request("POST" if data else "GET", f"/v1/models/{path}", data, headers)
    response = connection.getresponse()
    return response, response.read().decode()


def _predict(server: ModelServer, data: str) -> Any:
    response, answer = _curl(server, f"{_MODEL}:predict", data)
    assert response.status == 200, answer
    return json.loads(answer)


# api_rest.md, "Model status API": "a JSON representation of GetModelStatusResponse protobuf".
def test_the_status_over_rest_is_the_message_over_grpc(server: ModelServer, channel: grpc.Channel) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": _MODEL})
    expected = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=10)
    _, answer = _curl(server, _MODEL)
    assert json_format.Parse(answer, get_model_status_pb2.GetModelStatusResponse()) == expected
    assert {status.version for status in expected.model_version_status} == {7, _VERSION}


# get_model_status.proto: the states, and END also for a version that "hit an error".
def test_states_have_the_documented_names_and_an_error_says_what_it_was(server: ModelServer) -> None:
    assert {state.name: state.value for state in State} == dict(_STATUS.State.items())
    _, answer = _curl(server, f"{_MODEL}/versions/7")
    [status] = json.loads(answer)["model_version_status"]
    assert (status["version"], status["state"]) == ("7", "END")
    assert status["status"]["error_code"] == "NOT_FOUND" and status["status"]["error_message"]


# api_rest.md, "Model Metadata API": "a JSON representation of GetModelMetadataResponse protobuf".
def test_the_metadata_over_rest_are_the_message_over_grpc(server: ModelServer, channel: grpc.Channel) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": _MODEL}, metadata_field=["signature_def"]
    )
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    expected = stub.GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    expected.metadata["signature_def"].Unpack(signatures)
    answer = json.loads(_curl(server, f"{_MODEL}/metadata")[1])
    assert json_format.ParseDict(answer["model_spec"], model_pb2.ModelSpec()) == expected.model_spec
    given = json_format.ParseDict(
        answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap()
    )
    assert given == signatures


# api_rest.md, "Example".
def test_the_documented_call_has_the_documented_answer(server: ModelServer) -> None:
    assert _predict(server, '{"instances": [1.0,2.0,5.0]}') == {"predictions": [3.5, 4.0, 5.5]}
    assert _predict(server, '{"inputs": [1.0,2.0,5.0]}') == {"outputs": [3.5, 4.0, 5.5]}


# api_rest.md, "Example": the request to a model that is not there.
def test_the_documented_error_has_the_documented_answer(server: ModelServer) -> None:
    response, answer = _curl(server, "half:predict", '{"instances": [1.0,5.0]}')
    assert (response.version, response.status, response.reason) == (11, 404, "Not Found")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(answer) == {"error": "Servable not found for request: Latest(half)"}


# api_rest.md, "Specifying input tensors in row format", "… in column format" and "Response format".
def test_several_named_tensors_are_rows_of_objects_or_an_object_of_columns(server: ModelServer) -> None:
    rows = [
        {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
        {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    asked = {"signature_name": "three_inputs"}
    assert _predict(server, json.dumps({**asked, "instances": rows})) == {"predictions": rows}
    assert _predict(server, json.dumps({**asked, "inputs": columns})) == {"outputs": columns}


# api_rest.md, "JSON conformance".
def test_numbers_that_json_does_not_know_travel_as_their_tokens(server: ModelServer) -> None:
    data = '{"instances": [1.0, NaN, Infinity, -Infinity]}'
    _, answer = _curl(server, f"{_MODEL}:predict", data)
    assert "".join(answer.split()) == '{"predictions":[3.5,NaN,Infinity,-Infinity]}'


# tensorflow_serving/example/resnet_client_grpc.py, to which the documentation leads, and predict.proto:
# "Effective Model Specification used to process PredictRequest".
def test_the_documented_grpc_client_is_answered_with_the_model_that_was_used(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = _MODEL
    request.model_spec.signature_name = "serving_default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))
    result = stub.Predict(request, 10.0)
    assert list(result.outputs["y"].float_val) == [3.5, 4.0, 5.5]
    assert result.model_spec == model_pb2.ModelSpec(
        name=_MODEL, version={"value": _VERSION}, signature_name="serving_default"
    )
