"""The gRPC side: TensorFlow Serving's PredictionService and ModelService, health and reflection.

Threads: predictions run in a pool of ``grpc_max_threads``; what comes beyond waits its turn, and from
`MAX_WAITING` on is refused with RESOURCE_EXHAUSTED. Health, status and metadata have threads of their own,
so that a probe is answered while every prediction thread is busy. A reload occupies at most one of these,
because a second one at the same time is refused with ABORTED; reflection, whose streams last as long as
clients like, has others.
"""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from components.serving.server import prediction
from components.serving.server.config_files import TlsConfig
from components.serving.server.errors import ServingError
from components.serving.server.health import ModelHealth
from components.serving.server.manager import ModelManager
from components.serving.server.metrics import ServerMetrics
from components.serving.server.model_config import ModelConfig
from components.serving.server.options import LOOPBACK, ServerOptions, channel_arguments
from components.serving.server.tensor_protos import MAX_MESSAGE_BYTES
from components.serving.server.thread_pools import BoundedPool

logger = logging.getLogger(__name__)

SERVICES: Final = (
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
MAX_WAITING: Final = 1024
"""Predictions that may wait for a thread; each holds little more than the window of its HTTP/2 stream."""

_MAX_CALLS: Final = 4 * MAX_WAITING
"""Of all kinds, beyond the predictions that run; gRPC refuses more, whatever they are.

Predictions alone do not get there: they are refused before.
"""
_ADMIN_THREADS: Final = 4
_STREAM_THREADS: Final = 4
_CHANNEL_ARGUMENTS: Final[dict[str, int | str]] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": -1,
    # By default a second server would bind the same port, and take every other connection.
    "grpc.so_reuseport": 0,
}
_API: Final = f"/{SERVICES[0]}/"
_COUNTED: Final = frozenset({"Predict", "Classify", "Regress"})
"""What TensorFlow Serving counts as a request."""

_Behavior = Callable[[Any, grpc.ServicerContext], Any]
_Reload = Callable[[Sequence[ModelConfig]], None]


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager):
        self._manager = manager

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not context.is_active():
            # It waited for a thread until the client gave up: do not compute for nobody.
            raise ServingError(grpc.StatusCode.CANCELLED, "the client is gone")
        return prediction.predict(self._manager, request)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return prediction.get_model_metadata(self._manager, request)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise _unimplemented("Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise _unimplemented("Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise _unimplemented("MultiInference")


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager, reload: _Reload):
        self._manager = manager
        self._reload = reload
        self._reloading = threading.Lock()

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return prediction.get_model_status(self._manager, request)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        # Loading takes its time: were reloads to queue up, no thread would be left for probes.
        if not self._reloading.acquire(blocking=False):
            raise ServingError(
                grpc.StatusCode.ABORTED, "another reload is under way: send this one once that is answered"
            )
        try:
            return prediction.reload_config(self._reload, request)
        finally:
            self._reloading.release()


class _Answering(grpc.ServerInterceptor):
    """Turns errors into statuses, counts predictions, and keeps everything else out of their threads."""

    def __init__(self, manager: ModelManager, metrics: ServerMetrics, predictions: BoundedPool):
        self._manager = manager
        self._metrics = metrics
        self._predictions = predictions
        self._refusals = ThreadPoolExecutor(1, thread_name_prefix="refuse")
        self._admin = ThreadPoolExecutor(_ADMIN_THREADS, thread_name_prefix="admin")
        self._streams = ThreadPoolExecutor(_STREAM_THREADS, thread_name_prefix="stream")

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        codec = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            stream = _run_in(self._streams, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(stream, *codec)
        if handler.unary_stream is not None:
            # Watch leaves its thread at once, and is called back.
            return grpc.unary_stream_rpc_method_handler(_run_in(self._admin, handler.unary_stream), *codec)
        service, _, method = handler_call_details.method.rpartition("/")
        if f"{service}/" != _API or method not in _COUNTED:
            answer = _run_in(self._admin, self._answering(handler.unary_unary, None))
        elif self._predictions.is_full:
            # As a stream, because a thread would wait for a single request to arrive as a whole.
            return grpc.stream_unary_rpc_method_handler(_run_in(self._refusals, _overloaded), *codec)
        else:
            answer = self._answering(handler.unary_unary, method)
        return grpc.unary_unary_rpc_method_handler(answer, *codec)

    def _answering(self, behavior: _Behavior, counted_as: str | None) -> _Behavior:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            started = time.perf_counter()
            response, refusal = None, None
            try:
                response = behavior(request, context)
            except ServingError as error:
                refusal = error
            except Exception as error:
                logger.exception("a request failed")
                refusal = ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
            if counted_as:
                name = request.model_spec.name
                self._metrics.request(
                    name if name in self._manager.names() else "",
                    counted_as,
                    "GRPC",
                    refusal.code if refusal else grpc.StatusCode.OK,
                    time.perf_counter() - started,
                )
            if refusal:
                context.abort(refusal.code, refusal.message)
            return response

        return answer


def build_server(
    manager: ModelManager,
    health: ModelHealth,
    metrics: ServerMetrics,
    options: ServerOptions,
    reload: _Reload,
) -> grpc.Server:
    """Returns a gRPC server with all services; it has no port yet.

    Args:
        manager: answers.
        health: answers gRPC's health service.
        metrics: counts.
        options: number of threads, and the arguments of the channel.
        reload: serves other models; called for HandleReloadConfigRequest.
    """
    threads = options.grpc_max_threads or default_threads()
    predictions = BoundedPool(threads, MAX_WAITING, "predict")
    server = grpc.server(
        predictions,
        interceptors=[_Answering(manager, metrics, predictions)],
        maximum_concurrent_rpcs=threads + _MAX_CALLS,
        # Of two values for an argument gRPC takes the first.
        options=list((_CHANNEL_ARGUMENTS | channel_arguments(options.grpc_channel_arguments)).items()),
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(manager), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(manager, reload), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection((*SERVICES, HEALTH, reflection.SERVICE_NAME), server)
    return server


def bind(server: grpc.Server, port: int, socket_path: str, tls: TlsConfig | None) -> int:
    """Opens the port, and the UNIX socket if one is named; returns the port's number.

    Raises:
        OSError: one of them is taken.
    """
    addresses = [f"{LOOPBACK}:{port}", *([f"unix:{socket_path}"] if socket_path else [])]
    bound = []
    for address in addresses:
        try:
            bound.append(_add_port(server, address, tls))
        except RuntimeError:
            raise OSError(f"gRPC cannot listen on {address}: it is in use, or not allowed") from None
    return bound[0]


def default_threads() -> int:
    """Returns TensorFlow Serving's default: four for each CPU that this process may use."""
    return 4 * len(os.sched_getaffinity(0))


def _run_in(pool: ThreadPoolExecutor, behavior: Callable[..., Any]) -> Callable[..., Any]:
    # Not of the method itself: that belongs to its class, and so to every server of the process.
    @functools.wraps(behavior)
    def run(*args: Any) -> Any:
        return behavior(*args)

    run.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return run


def _overloaded(_: Any, context: grpc.ServicerContext) -> None:
    context.abort(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WAITING} predictions are waiting already; try again later"
    )


def _add_port(server: grpc.Server, address: str, tls: TlsConfig | None) -> int:
    if tls is None:
        return server.add_insecure_port(address)
    credentials = grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_authority,
        require_client_auth=tls.client_authority is not None,
    )
    return server.add_secure_port(address, credentials)


def _unimplemented(method: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} is not implemented: segmentation models have no such signature; use Predict",
    )
