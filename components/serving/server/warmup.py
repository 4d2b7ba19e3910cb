"""Replays the requests that a model brings along, so that no client pays for TensorFlow's first run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.serving.server.errors import ServingError, from_tensorflow, one_line

REQUESTS_FILE: Final = Path("assets.extra", "tf_serving_warmup_requests")
"""TFRecords of PredictionLog, under the SavedModel's directory."""
MAX_RECORDS: Final = 1000
"""Source: ``WarmupConsts::kMaxNumRecords`` of TensorFlow Serving."""

Run = Callable[[str, Mapping[str, np.ndarray], Sequence[str]], object]
"""Signature name, inputs, names of outputs; as `Servable.run`."""

logger = logging.getLogger(__name__)


def replay(model_dir: Path, run: Run) -> int:
    """Runs every recorded Predict request; a model without the file needs no warm-up.

    Returns:
        The number of requests run.

    Raises:
        ServingError: DATA_LOSS or INVALID_ARGUMENT, the file is broken or has more than `MAX_RECORDS`; or
            whatever the model answers to one of the requests. TensorFlow Serving refuses such a model, too.
    """
    path = model_dir / REQUESTS_FILE
    if not path.is_file():
        return 0
    replayed = 0
    for number, record in enumerate(_records(path), start=1):
        if number > MAX_RECORDS:
            message = f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
        log = _parse(record, number, path)
        if log.WhichOneof("log_type") != "predict_log":
            logger.warning("%s: record %d is no Predict request; skipped", path, number)
            continue
        request = log.predict_log.request
        try:
            run(request.model_spec.signature_name, _inputs(request), list(request.output_filter))
        except ServingError as error:
            raise ServingError(error.code, f"{path}, record {number}: {error.message}") from error
        replayed += 1
    return replayed


def _records(path: Path) -> list[bytes]:
    """The file's records; one more than allowed at most."""
    dataset = tf.data.TFRecordDataset(str(path)).take(MAX_RECORDS + 1)
    try:
        return list(dataset.as_numpy_iterator())
    except tf.errors.DataLossError as error:
        message = f"{path}: {one_line(error.message)}. Please verify your warmup data is in TFRecord format."
        raise ServingError(grpc.StatusCode.DATA_LOSS, message) from error
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error


def _parse(record: bytes, number: int, path: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        message = f"Failed to parse warmup record {number} of {path}: it is no PredictionLog"
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message) from error


def _inputs(request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    try:
        return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
    except (TypeError, ValueError) as error:
        message = f"an input is no tensor: {one_line(str(error))}"
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message) from error
