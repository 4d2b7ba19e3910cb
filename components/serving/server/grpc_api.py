"""The gRPC side: TensorFlow Serving's PredictionService and ModelService, health and reflection.

Threads: predictions run in a pool of ``grpc_max_threads``; what comes beyond waits its turn, and from
`MAX_WAITING` on is refused with RESOURCE_EXHAUSTED. Health, status, metadata and reloads have threads of
their own, so that a probe is answered while every prediction thread is busy.
"""

import logging
import os
import time
from collections.abc import Callable
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
from components.serving.server.options import ServerOptions
from components.serving.server.tensor_protos import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
"""The embedded server is for this machine; nothing in its API asks who is calling."""
SERVICES: Final = (
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
MAX_WAITING: Final = 1024
"""Calls that may wait for a thread; each holds little more than the window of its HTTP/2 stream."""

_ADMIN_THREADS: Final = 4
_CHANNEL_ARGUMENTS: Final[dict[str, int | str]] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": -1,
    # By default a second server would bind the same port, and take every other connection.
    "grpc.so_reuseport": 0,
}
_MAX_DETAILS: Final = 1024
"""As in TensorFlow Serving (grpc_status_util.cc): what is longer might not fit a client's header limit."""
_API: Final = f"/{SERVICES[0]}/"
_COUNTED: Final = frozenset({"Predict", "Classify", "Regress"})
"""What TensorFlow Serving counts as a request."""

_Behavior = Callable[[Any, grpc.ServicerContext], Any]


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
    def __init__(self, manager: ModelManager, reload: Callable[[Any], Any]):
        self._manager = manager
        self._reload = reload

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return prediction.get_model_status(self._manager, request)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._reload(request)


class _Answering(grpc.ServerInterceptor):
    """Turns errors into statuses, counts predictions, and keeps everything else out of their threads."""

    def __init__(self, manager: ModelManager, metrics: ServerMetrics, admin: ThreadPoolExecutor):
        self._manager = manager
        self._metrics = metrics
        self._admin = admin

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        service, _, method = handler_call_details.method.rpartition("/")
        counted = f"{service}/" == _API and method in _COUNTED
        behavior = self._answering(handler.unary_unary, method if counted else None)
        if not counted:
            behavior.experimental_thread_pool = self._admin  # type: ignore[attr-defined]
        return grpc.unary_unary_rpc_method_handler(
            behavior, handler.request_deserializer, handler.response_serializer
        )

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
                context.abort(refusal.code, refusal.message[:_MAX_DETAILS])
            return response

        return answer


def build_server(
    manager: ModelManager,
    health: ModelHealth,
    metrics: ServerMetrics,
    options: ServerOptions,
    reload: Callable[[Any], Any],
) -> grpc.Server:
    """Returns a gRPC server with all services; it has no port yet.

    Args:
        manager: answers.
        health: answers gRPC's health service.
        metrics: counts.
        options: number of threads, and the arguments of the channel.
        reload: answers HandleReloadConfigRequest.
    """
    threads = options.grpc_max_threads or default_threads()
    admin = ThreadPoolExecutor(_ADMIN_THREADS, thread_name_prefix="admin")
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="predict"),
        interceptors=[_Answering(manager, metrics, admin)],
        maximum_concurrent_rpcs=threads + MAX_WAITING,
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
    addresses = [f"{HOST}:{port}", *([f"unix:{socket_path}"] if socket_path else [])]
    bound = []
    for address in addresses:
        try:
            bound.append(_add_port(server, address, tls))
        except RuntimeError:
            raise OSError(f"gRPC cannot listen on {address}: it is in use, or not allowed") from None
    return bound[0]


def channel_arguments(text: str) -> dict[str, int | str]:
    """Parses ``--grpc_channel_arguments``, ``key=value,key=value``; whole numbers are passed as such."""
    pairs = (argument.partition("=") for argument in text.split(",") if argument)
    return {key: _number_or_text(value) for key, _, value in pairs}


def default_threads() -> int:
    """Returns TensorFlow Serving's default: four for each CPU that this process may use."""
    return 4 * len(os.sched_getaffinity(0))


def _add_port(server: grpc.Server, address: str, tls: TlsConfig | None) -> int:
    if tls is None:
        return server.add_insecure_port(address)
    credentials = grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_authority,
        require_client_auth=tls.client_authority is not None,
    )
    return server.add_secure_port(address, credentials)


def _number_or_text(value: str) -> int | str:
    try:
        return int(value)
    except ValueError:
        return value


def _unimplemented(method: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} is not implemented: segmentation models have no such signature; use Predict",
    )
