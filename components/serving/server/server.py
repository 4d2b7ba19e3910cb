"""The server: one model, its ports, and the order in which they come and go."""

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from components.model_store import signing
from components.serving.messages import MODEL_SERVICE, PREDICTION_SERVICE
from components.serving.server import grpc_api
from components.serving.server.errors import ServingError
from components.serving.server.options import LOOPBACK, OptionsError, ServerOptions, check_base_path
from components.serving.server.rest_api import RestServer
from components.serving.server.servable import Servable
from components.serving.server.versions import ServedModel

DRAIN_SECONDS: Final = 30.0
"""How long requests in flight may take once the server is to stop; Kubernetes kills a pod after as long."""
_LOOK_SECONDS: Final = 0.1
_LATER_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server cannot serve; the message is one line that says why."""


class ModelServer:
    """Serves the newest version of a model on this machine.

    Attributes:
        port: the gRPC API's port once the server has started.
        rest_port: the REST API's; None where it is off.
    """

    port: int
    rest_port: int | None = None

    def __init__(self, options: ServerOptions, announce: Callable[[str], None] = print):
        """Prepares a server; nothing is loaded or opened yet.

        Args:
            options: the flags.
            announce: told in one line each what people want to know.

        Raises:
            OptionsError: the base path can never hold a version, or a flag is none of this server's.
        """
        options.require_embedded()
        check_base_path(options.model_base_path)
        self._options = options
        self._announce = announce
        batching, warmup = options.enable_batching, options.enable_model_warmup
        load: Callable[[int, Path], Servable]
        load = functools.partial(Servable, options.model_name, batching=batching, warmup=warmup)
        if options.verify_key:
            try:
                signing.check_public_key(options.verify_key)
            except signing.SigningError as error:
                raise OptionsError(f"--verify_key: {error}") from None
            load = functools.partial(_verify_and_load, load, options.verify_key)
        base_path = Path(options.model_base_path).absolute()
        self._model = ServedModel(options.model_name, base_path, load, announce)
        self._grpc, self._health = grpc_api.build_server(self._model, options)
        self._say_health()
        self._rest: RestServer | None = None
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._keep_polling, name="poll", daemon=True)

    def start(self) -> None:
        """Loads the model and then opens the ports, as tensorflow_model_server does.

        A model without a version is waited for, without an end; who asks meanwhile finds no open port.

        Raises:
            StartError: a port is taken, or the newest version cannot be loaded.
        """
        for port in (self._options.port, self._options.rest_api_port):
            # Before the model is loaded, and in other words than gRPC's.
            _require_free(port)
        self._poll()
        if not self._model.is_available and not self._model.failure:
            self._announce(
                f"Waiting for a version of {self._model.name} under {self._options.model_base_path}"
            )
        if self._options.file_system_poll_wait_seconds:
            self._poller.start()
        while not self._model.is_available:
            if failure := self._model.failure:
                raise StartError(failure)
            if not self._options.file_system_poll_wait_seconds:
                raise StartError(f"{self._model.name} has no version under {self._options.model_base_path}")
            if self._stopping.wait(_LOOK_SECONDS):
                return
        self._open_ports()

    def stop(self, grace: float = DRAIN_SECONDS) -> bool:
        """Says NOT_SERVING, takes no more requests, finishes those in flight and unloads the model.

        A model that still computes after ``grace`` seconds, for a client that has gone, stays in memory: the
        process is to end.

        Returns:
            Whether every request was answered within ``grace`` seconds.
        """
        end = time.monotonic() + grace
        self._stopping.set()
        # gRPC says of calls that it has cancelled at the end, too, that they are done: by then it is asked.
        closed = self._grpc.stop(grace + _LATER_SECONDS)
        self._health.enter_graceful_shutdown()
        answered = self._rest is None or self._rest.stop(grace)
        if not closed.wait(max(0.0, end - time.monotonic())):
            answered = False
            self._grpc.stop(grace=None)
        if self._poller.is_alive():
            # A load that takes longer than that is nobody's request.
            self._poller.join(_LATER_SECONDS)
        if answered and not self._poller.is_alive():
            # gRPC calls a request done whose client has given up, and its model computes on.
            self._model.close(max(0.0, end - time.monotonic()))
        return answered

    def _open_ports(self) -> None:
        options = self._options
        try:
            self.port = self._grpc.add_insecure_port(f"{LOOPBACK}:{options.port}")
            if options.rest_api_port is not None:
                address = LOOPBACK, options.rest_api_port
                self._rest = RestServer(address, self._model, grpc_api.default_threads())
        except (OSError, RuntimeError) as error:
            raise StartError(f"a port cannot be opened: {error}") from error
        self._grpc.start()
        self._announce(f"gRPC API at {LOOPBACK}:{self.port}")
        if self._rest:
            self.rest_port = int(self._rest.server_address[1])
            self._announce(f"REST API at http://{LOOPBACK}:{self.rest_port}/v1/models/{options.model_name}")

    def _keep_polling(self) -> None:
        while not self._stopping.wait(self._options.file_system_poll_wait_seconds):
            try:
                self._poll()
            except Exception:
                # Whatever it is, the version loaded still answers, and the next poll may succeed.
                logger.exception("looking for versions failed")

    def _poll(self) -> None:
        was_available = self._model.is_available
        self._model.poll()
        if self._model.is_available != was_available:
            self._say_health()

    def _say_health(self) -> None:
        """For the server, as probes ask by convention, for its services and for the model."""
        status = health_pb2.HealthCheckResponse
        serving = status.SERVING if self._model.is_available else status.NOT_SERVING
        for service in ("", PREDICTION_SERVICE, MODEL_SERVICE, self._model.name):
            self._health.set(service, serving)


def _verify_and_load(load: Callable[[int, Path], Servable], key: str, number: int, path: Path) -> Servable:
    """Checks and loads the same files: who may write there can change them in between.

    `follower.Follower` checks a copy instead.
    """
    try:
        signing.verify(path, key)
    except signing.SigningError as error:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
    return load(number, path)


def _require_free(port: int | None) -> None:
    if port:
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError as error:
            raise StartError(f"port {port} cannot be opened: {error.strerror}") from None
