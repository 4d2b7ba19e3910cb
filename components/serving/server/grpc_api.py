"""The gRPC side: TensorFlow Serving's PredictionService and ModelService, and gRPC's health service.

Predictions run in ``grpc_max_threads`` threads, in which `MAX_WAITING` calls may wait; gRPC refuses more with
RESOURCE_EXHAUSTED, whatever they ask. What probes ask has threads of its own, so that up to there it is
answered while all others are busy.
"""

import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from components.serving.messages import SIGNATURE_DEF
from components.serving.server.errors import ServingError, invalid
from components.serving.server.options import ServerOptions
from components.serving.server.servable import MAX_MESSAGE_BYTES
from components.serving.server.versions import ServedModel

MAX_WAITING: Final = 1024
"""Calls that may wait for a thread; each holds little more than the window of its HTTP/2 stream."""

_PROBES: Final = ThreadPoolExecutor(4, thread_name_prefix="probe")
_Method = Callable[[Any, Any, grpc.ServicerContext], Any]

logger = logging.getLogger(__name__)


def _answering(method: _Method) -> _Method:
    """Turns errors into statuses."""

    @functools.wraps(method)
    def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except ServingError as error:
            refusal = error
        except Exception as error:
            logger.exception("a request failed")
            refusal = ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        context.abort(refusal.code, refusal.message)
        raise AssertionError("abort raises")

    return answer


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model: ServedModel):
        self._model = model

    @_answering
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not context.is_active():
            # It waited for a thread until the client gave up: do not compute for nobody.
            raise ServingError(grpc.StatusCode.CANCELLED, "the client is gone")
        with self._model.lend(request.model_spec) as servable:
            return servable.predict(request)

    @_answering
    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        if set(request.metadata_field) != {SIGNATURE_DEF}:
            raise invalid(f"metadata_field must be {SIGNATURE_DEF}, not {list(request.metadata_field)}")
        return metadata(self._model, request.model_spec)

    @_answering
    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise elsewhere("Classify, Regress and MultiInference")

    Regress = MultiInference = Classify


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model: ServedModel):
        self._model = model

    @_answering
    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        statuses = self._model.statuses(request.model_spec)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)

    @_answering
    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise elsewhere("a reload")


class _Health(health.HealthServicer):
    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        return super().Check(request, context)

    def enter_graceful_shutdown(self) -> None:
        """Ends the streams of those who watch, too: each would hold up a drain."""
        super().enter_graceful_shutdown()
        with self._lock:
            for watchers in self._send_response_callbacks.values():
                for send in watchers:
                    send(None)


_probed: tuple[Any, ...] = (_Prediction.GetModelMetadata, _Models.GetModelStatus, _Health.Check)
for _method in _probed:
    _method.experimental_thread_pool = _PROBES


def metadata(model: ServedModel, spec: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Tells the signatures of the version that a ModelSpec asks for; raises as `ServedModel.lend`."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    with model.lend(spec) as servable:
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def build_server(model: ServedModel, options: ServerOptions) -> tuple[grpc.Server, health.HealthServicer]:
    """Returns a gRPC server with all services, which has no port yet, and what says whether it is healthy."""
    # A traceback for whatever bytes come as a request would let anybody fill the log.
    logging.getLogger("grpc._common").setLevel(logging.CRITICAL)
    threads = options.grpc_max_threads or default_threads()
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="predict"),
        maximum_concurrent_rpcs=threads + MAX_WAITING,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
            # By default a second server would bind the same port, and take every other connection.
            ("grpc.so_reuseport", 0),
        ],
    )
    servicer = _Health()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(model), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(model), server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server, servicer


def default_threads() -> int:
    """Returns TensorFlow Serving's default: four for each CPU that this process may use."""
    return 4 * len(os.sched_getaffinity(0))


def elsewhere(what: str) -> ServingError:
    """Returns the error for what TensorFlow Serving does and the embedded server does not."""
    return ServingError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"the embedded server does not take {what}; TensorFlow Serving does (--backend docker)",
    )
