"""The gRPC API as clients of tensorflow_model_server know it, on a real server with a real model."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running_server import channel_to, decoded, encoded, image, running
from saved_models import expected_class_ids, write_model
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from components.serving.server import grpc_api
from components.serving.server.server import ModelServer

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PIXELS = image()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models") / "pets"
    write_model(base / "1")
    write_model(base / "2", offset=1)
    return base


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ModelServer]:
    config = base.parent / "models.config"
    config.write_text(
        "model_config_list { config { "
        f'name: "pets" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }} '
        'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } } }'
    )
    with running(
        base, model_config_file=str(config), allow_version_labels_for_unavailable_models=True
    ) as started:
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
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="pets", **spec))
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([encoded(_PIXELS)]))
    return request


def _version(number: int) -> dict[str, Any]:
    return {"version": {"value": number}}


def _refusal(call: Any, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refusal:
        call(request, timeout=10)
    assert "\n" not in refusal.value.details()
    return refusal.value


def test_a_picture_is_answered_with_its_mask(stub: Any) -> None:
    response = stub.Predict(_request(), timeout=10)
    (mask,) = response.outputs["mask_bytes"].string_val
    np.testing.assert_array_equal(decoded(mask), expected_class_ids(_PIXELS, offset=1))
    # TensorFlow Serving fills the typed field, and its examples read it.
    assert sum(response.outputs["class_fraction"].float_val) == pytest.approx(1)


def test_the_answer_says_which_version_and_signature_it_was(stub: Any) -> None:
    spec = stub.Predict(_request(), timeout=10).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("pets", 2, "serving_default")


@pytest.mark.parametrize(
    ("spec", "version"),
    [(_version(1), 1), ({"version_label": "stable"}, 1), ({"version_label": "canary"}, 2)],
)
def test_a_version_is_chosen_by_number_or_label(stub: Any, spec: dict[str, Any], version: int) -> None:
    response = stub.Predict(_request(**spec), timeout=10)
    assert response.model_spec.version.value == version
    (mask,) = response.outputs["mask_bytes"].string_val
    np.testing.assert_array_equal(decoded(mask), expected_class_ids(_PIXELS, offset=version - 1))


def test_the_output_filter_picks_outputs(stub: Any) -> None:
    request = _request()
    request.output_filter.append("class_fraction")
    assert list(stub.Predict(request, timeout=10).outputs) == ["class_fraction"]


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
    outputs = stub.Predict(request, timeout=10).outputs
    class_ids = tf.make_ndarray(outputs["class_ids"])
    np.testing.assert_array_equal(class_ids, expected_class_ids(batch, offset=1))
    assert class_ids.dtype == np.uint8 and outputs["confidence"].dtype == types_pb2.DT_FLOAT


@pytest.mark.parametrize(
    ("spec", "code", "details"),
    [
        ({"name": "cats"}, grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(cats)"),
        (
            {"name": "pets", **_version(9)},
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Specific(pets, 9)",
        ),
        (
            {"name": "pets", "version_label": "beta"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "Unrecognized servable version label: beta",
        ),
        (
            {"name": "pets", "signature_name": "nope"},
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "nope" not found',
        ),
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified"),
        (None, grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"),
    ],
)
def test_what_cannot_be_served_is_refused_as_there(
    stub: Any, spec: dict[str, Any] | None, code: grpc.StatusCode, details: str
) -> None:
    request = predict_pb2.PredictRequest(model_spec=spec and model_pb2.ModelSpec(**spec))
    if spec == {}:
        request.model_spec.SetInParent()
    refusal = _refusal(stub.Predict, request)
    assert refusal.code() is code
    assert details in refusal.details()


def _shaped(*sizes: int, **fields: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        pytest.param(
            _shaped(1, 2, 2, 3, dtype=types_pb2.DT_UINT8, tensor_content=b"12345"), id="content too short"
        ),
        pytest.param(
            _shaped(1, dtype=types_pb2.DT_UINT8, int_val=[1, 2, 3]), id="more values than the shape"
        ),
        pytest.param(_shaped(1 << 40, dtype=types_pb2.DT_UINT8, int_val=[1]), id="a terabyte by repetition"),
        pytest.param(
            _shaped(1 << 40, 1 << 40, dtype=types_pb2.DT_UINT8, int_val=[1]), id="a product beyond 64 bits"
        ),
        pytest.param(_shaped(1 << 30, dtype=types_pb2.DT_STRING, string_val=[b"x"]), id="a billion strings"),
        pytest.param(_shaped(-5, dtype=types_pb2.DT_UINT8), id="negative size"),
        pytest.param(_shaped(-(1 << 40), -(1 << 40), dtype=types_pb2.DT_UINT8), id="two negative sizes"),
        pytest.param(_shaped(*[1] * 100, dtype=types_pb2.DT_UINT8, int_val=[1]), id="100 dimensions"),
        pytest.param(
            _shaped(*[1 << 62] * 50_000, dtype=types_pb2.DT_UINT8), id="sizes whose product takes a minute"
        ),
        pytest.param(_shaped(1, dtype=types_pb2.DT_STRING, tensor_content=b"\x01x"), id="strings as content"),
        pytest.param(_shaped(1, dtype=types_pb2.DT_RESOURCE), id="a resource"),
        pytest.param(_shaped(1, dtype=999), id="a type that is none"),
        pytest.param(tensor_pb2.TensorProto(), id="nothing"),
        pytest.param(
            tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, tensor_shape={"unknown_rank": True}),
            id="no rank",
        ),
    ],
)
def test_a_malformed_tensor_is_refused_and_the_next_request_answered(
    stub: Any, proto: tensor_pb2.TensorProto
) -> None:
    request = predict_pb2.PredictRequest(model_spec={"name": "pets"}, inputs={"image_bytes": proto})
    refusal = _refusal(stub.Predict, request)
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "image_bytes" in refusal.details()
    assert stub.Predict(_request(), timeout=10).outputs


def test_wrong_inputs_are_named(stub: Any) -> None:
    request = predict_pb2.PredictRequest(
        model_spec={"name": "pets"}, inputs={"images": tf.make_tensor_proto([b"x"])}
    )
    refusal = _refusal(stub.Predict, request)
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Sent extra: {images}" in refusal.details() and "image_bytes" in refusal.details()


def test_the_reason_arrives_whatever_it_quotes(stub: Any) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "pets"
    request.model_spec.signature_name = "😀" * 3000
    # Trailers of more than 8 KB are refused by the client, some of the time.
    for _ in range(8):
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(request)
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_picture_that_is_none_is_an_invalid_argument(stub: Any) -> None:
    request = _request()
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"text"]))
    assert _refusal(stub.Predict, request).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_beyond_the_message_limit_is_refused(stub: Any) -> None:
    request = _request()
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([bytes(65 * 1024 * 1024)]))
    refusal = _refusal(stub.Predict, request)
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refusal.details()


@pytest.mark.parametrize(
    ("method", "request_class"),
    [
        ("Classify", classification_pb2.ClassificationRequest),
        ("Regress", regression_pb2.RegressionRequest),
        ("MultiInference", inference_pb2.MultiInferenceRequest),
    ],
)
def test_methods_without_a_signature_say_so(stub: Any, method: str, request_class: Any) -> None:
    refusal = _refusal(getattr(stub, method), request_class())
    assert refusal.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "use Predict" in refusal.details()


def test_metadata_tells_the_signatures(stub: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "pets"}, metadata_field=["signature_def"]
    )
    response = stub.GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 2
    assert {"serving_default", "serving_pixels", "evaluate"} <= set(signatures.signature_def)
    assert signatures.signature_def["serving_default"].inputs["image_bytes"].dtype == types_pb2.DT_STRING


@pytest.mark.parametrize("fields", [[], ["labels"]])
def test_metadata_that_there_is_not_is_refused(stub: Any, fields: list[str]) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "pets"}, metadata_field=fields
    )
    refusal = _refusal(stub.GetModelMetadata, request)
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "signature_def" in refusal.details()


def test_status_lists_all_versions_or_the_one_asked_about(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "pets"})
    states = {
        status.version: (status.state, status.status.error_code)
        for status in models.GetModelStatus(request, timeout=10).model_version_status
    }
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert states == {1: (available, 0), 2: (available, 0)}
    request.model_spec.version.value = 1
    (status,) = models.GetModelStatus(request, timeout=10).model_version_status
    assert status.version == 1


def test_status_of_an_unknown_model_is_not_found(models: Any) -> None:
    refusal = _refusal(
        models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "cats"})
    )
    assert refusal.code() is grpc.StatusCode.NOT_FOUND
    assert refusal.details() == "Could not find any versions of model cats"


def test_health_is_told_for_the_server_its_services_and_its_models(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "pets"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status == _SERVING
    refusal = _refusal(health.Check, health_pb2.HealthCheckRequest(service="cats"))
    assert refusal.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services_and_their_messages(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService"),
    ]
    services, file = stub.ServerReflectionInfo(iter(requests), timeout=10)
    names = {service.name for service in services.list_services_response.service}
    assert names == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(serialized)
        for serialized in file.file_descriptor_response.file_descriptor_proto
    ]
    assert "tensorflow_serving/apis/predict.proto" in {descriptor.name for descriptor in files}


def test_a_reload_replaces_the_models_and_health_follows(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    write_model(tmp_path / "cars" / "5")
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(
        name="cars", base_path=str(tmp_path / "cars"), model_platform="tensorflow"
    )
    with running(tmp_path / "pets") as server, channel_to(server) as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        assert models.HandleReloadConfigRequest(reload, timeout=30).status.error_code == 0
        request = predict_pb2.PredictRequest(model_spec={"name": "cars"}, inputs=_request().inputs)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request, timeout=10).model_spec.version.value == 5
        assert _refusal(stub.Predict, _request()).code() is grpc.StatusCode.NOT_FOUND

        def status(service: str) -> int:
            return health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status

        assert (status("cars"), status("pets"), status("")) == (_SERVING, _NOT_SERVING, _SERVING)
        refusal = _refusal(models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())
        assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Only ModelConfigList is currently supported" in refusal.details()


def test_probes_are_answered_while_every_prediction_thread_is_busy(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, grpc_max_threads=1) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        computing = [stub.Predict.future(_request(), timeout=20) for _ in range(2)]
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=0.9).status == _SERVING
        assert not any(call.done() for call in computing)
        assert all(call.result().outputs for call in computing)


def test_neither_watchers_nor_reflection_need_a_prediction_thread(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, grpc_max_threads=1) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        computing = [stub.Predict.future(_request(), timeout=20) for _ in range(2)]
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=0.9)
        assert next(watching).status == _SERVING
        reflecting = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=0.9
        )
        assert next(reflecting).list_services_response.service
        assert not any(call.done() for call in computing)
        assert all(call.result().outputs for call in computing)


def test_predictions_beyond_those_that_may_wait_are_refused_and_probes_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_api, "MAX_WAITING", 1)
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, grpc_max_threads=1) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        computing = [stub.Predict.future(_request(), timeout=20) for _ in range(2)]
        # The calls go out in their order, but from threads of gRPC's.
        time.sleep(0.2)
        refusal = _refusal(stub.Predict, _request())
        assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.details() == "1 predictions are waiting already; try again later"
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=0.5).status == _SERVING
        assert all(call.result().outputs for call in computing)
        assert stub.Predict(_request(), timeout=10).outputs


def test_a_second_reload_is_refused_and_probes_are_answered_meanwhile(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1")
    # Its warm-up takes as long as its requests do.
    write_model(tmp_path / "cars" / "1", seconds=1.0)
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(
        name="cars", base_path=str(tmp_path / "cars"), model_platform="tensorflow"
    )
    with running(tmp_path / "pets", enable_model_warmup=True) as server, channel_to(server) as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        reloads = [models.HandleReloadConfigRequest.future(reload, timeout=30) for _ in range(6)]
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=0.9).status in (_SERVING, _NOT_SERVING)
        codes = [call.code() for call in reloads]
        assert sorted(codes, key=str) == [grpc.StatusCode.ABORTED] * 5 + [grpc.StatusCode.OK]
        assert "another reload is under way" in reloads[codes.index(grpc.StatusCode.ABORTED)].details()
        assert models.HandleReloadConfigRequest(reload, timeout=30).status.error_code == 0


def test_a_request_whose_client_gave_up_is_not_computed(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path, grpc_max_threads=1) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(_request(), timeout=20)
        hopeless = [stub.Predict.future(_request(), timeout=0.3) for _ in range(5)]
        assert {call.code() for call in hopeless} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        first.result()
        # Were the five computed, this would wait five seconds.
        assert stub.Predict(_request(), timeout=3).outputs


def test_requests_in_flight_are_answered_before_the_server_is_gone(tmp_path: Path) -> None:
    write_model(tmp_path / "1", seconds=1.0)
    with running(tmp_path) as server, channel_to(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        changes = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(changes).status == _SERVING
        calls = [stub.Predict.future(_request(), timeout=20) for _ in range(3)]
        stopping = threading.Timer(0.3, server.stop, (10,))
        stopping.start()
        assert next(changes).status == _NOT_SERVING
        assert all(call.result().outputs for call in calls)
        stopping.join()
        assert _refusal(stub.Predict, _request()).code() is grpc.StatusCode.UNAVAILABLE
