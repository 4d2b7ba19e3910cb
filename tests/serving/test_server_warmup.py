"""Warm-up requests: replayed at load, and a reason to refuse the model when they are broken."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from saved_models import write_model
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from components.serving.server.errors import ServingError
from components.serving.server.warmup import MAX_RECORDS, REQUESTS_FILE, replay


class Recorder:
    """Takes requests in place of a model."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, np.ndarray], list[str]]] = []

    def run(self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> None:
        self.requests.append((signature, dict(inputs), list(outputs)))


def predict_log(signature: str = "serving_default") -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"image"]))
    request.output_filter.append("mask_bytes")
    return log


def write_records(model_dir: Path, records: Sequence[bytes]) -> None:
    path = model_dir / REQUESTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def refusal(model_dir: Path, code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        replay(model_dir, Recorder().run)
    assert caught.value.code is code
    assert str(model_dir / REQUESTS_FILE) in caught.value.message
    return caught.value.message


def test_an_exported_models_requests_are_run_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    assert replay(write_model(tmp_path / "1"), recorder.run) == 2
    assert [signature for signature, _, _ in recorder.requests] == ["serving_default", "serving_pixels"]
    assert recorder.requests[1][1]["images"].dtype == np.uint8


def test_the_output_filter_counts(tmp_path: Path) -> None:
    write_records(tmp_path, [predict_log().SerializeToString()])
    recorder = Recorder()
    replay(tmp_path, recorder.run)
    ((_, inputs, outputs),) = recorder.requests
    assert inputs["image_bytes"].tolist() == [b"image"]
    assert outputs == ["mask_bytes"]


def test_a_model_without_requests_needs_none(tmp_path: Path) -> None:
    assert replay(tmp_path, Recorder().run) == 0


def test_requests_other_than_predict_are_passed_over(tmp_path: Path) -> None:
    request = classification_pb2.ClassificationRequest()
    log = prediction_log_pb2.PredictionLog(
        classify_log=prediction_log_pb2.ClassifyLog(request=request)
    ).SerializeToString()
    write_records(tmp_path, [log, predict_log().SerializeToString()])
    assert replay(tmp_path, Recorder().run) == 1


def test_a_file_that_is_no_tfrecord_is_lost_data(tmp_path: Path) -> None:
    write_records(tmp_path, [])
    (tmp_path / REQUESTS_FILE).write_bytes(b"these are no records at all")
    assert "TFRecord format" in refusal(tmp_path, grpc.StatusCode.DATA_LOSS)


def test_a_record_that_is_no_prediction_log_is_told_by_number(tmp_path: Path) -> None:
    write_records(tmp_path, [predict_log().SerializeToString(), b"\xff\xff\xff"])
    assert "record 2" in refusal(tmp_path, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("excess", [0, 1])
def test_more_records_than_the_maximum_are_refused(tmp_path: Path, excess: int) -> None:
    write_records(tmp_path, [predict_log().SerializeToString()] * (MAX_RECORDS + excess))
    if excess:
        assert "exceeds the maximum (1000)" in refusal(tmp_path, grpc.StatusCode.INVALID_ARGUMENT)
    else:
        assert replay(tmp_path, Recorder().run) == MAX_RECORDS


def test_a_request_that_fails_fails_the_warm_up_with_its_code(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, "no such signature")

    write_records(tmp_path, [predict_log().SerializeToString()])
    with pytest.raises(ServingError, match="record 1: no such signature") as caught:
        replay(tmp_path, fail)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
