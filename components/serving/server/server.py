"""The embedded model server: models, ports, and the order in which they come and go."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import grpc

from components.serving.messages import State
from components.serving.server import grpc_api
from components.serving.server.batching_parameters import BatchingParameters, parse_batching_parameters_file
from components.serving.server.config_files import read_monitoring_config, read_ssl_config
from components.serving.server.errors import ServingError
from components.serving.server.health import ModelHealth
from components.serving.server.http_server import HttpServer
from components.serving.server.manager import ModelManager
from components.serving.server.metrics import ServerMetrics
from components.serving.server.model_config import ModelConfig, parse_model_config_file
from components.serving.server.options import LOOPBACK, ServerOptions, check_base_path
from components.serving.server.rest_api import RestApi
from components.serving.server.versions import VersionStatus

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 30.0
"""How long requests in flight may take once the server is to stop; Kubernetes kills a pod after as long."""
_LOOK_SECONDS: Final = 0.1
_CANCEL_SECONDS: Final = 1.0
"""How much later than the end of the grace period gRPC would cancel by itself: it says of calls that it has
cancelled, too, that they are done, and by then it must have been asked."""


class StartError(Exception):
    """The server cannot serve; the message is one line that says why."""


class ModelServer:
    """A model server of TensorFlow Serving's API, for development and tests.

    Attributes:
        port: the gRPC API's port once the server has started.
        rest_port: the REST API's; None where it is off.
    """

    port: int
    rest_port: int | None = None

    def __init__(self, options: ServerOptions, announce: Callable[[str], None] = print):
        """Reads what the options name; nothing is loaded or opened yet.

        Args:
            options: the flags.
            announce: told in one line each what people want to know.

        Raises:
            OptionsError, ServingError: a file cannot be read, or a base path can never hold a version.
        """
        self._options = options
        self._announce = announce
        self._tls = read_ssl_config(options.ssl_config_file) if options.ssl_config_file else None
        self._metrics_path = (
            read_monitoring_config(options.monitoring_config_file) if options.monitoring_config_file else None
        )
        self._configs = _models(options)
        self._base_paths = {config.name: config.base_path for config in self._configs}
        self._metrics = ServerMetrics()
        self._health = ModelHealth(grpc_api.SERVICES)
        self._health.expect(self._base_paths)
        self._manager = ModelManager(
            self._configs,
            poll_seconds=options.file_system_poll_wait_seconds,
            batching=_batching(options),
            warmup=options.enable_model_warmup,
            allow_unassigned_labels=options.allow_version_labels_for_unavailable_models,
            on_state_change=self._version_changed,
        )
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._reloading = threading.Lock()
        self._grpc: grpc.Server | None = None
        self._rest: HttpServer | None = None
        self._rest_api: RestApi | None = None

    def start(self) -> None:
        """Loads the models and then opens the ports, as tensorflow_model_server does.

        A model without a version is waited for, without an end; who asks meanwhile finds no open port.

        Raises:
            StartError: a port is taken, or a model has versions of which none can be loaded.
        """
        options = self._options
        try:
            with self._starting:
                for port in (options.port, options.rest_api_port):
                    _require_free(port)
                self._manager.start()
                self._wait_for_models()
                self._open_ports()
        except (OSError, ServingError) as error:
            raise StartError(error.message if isinstance(error, ServingError) else str(error)) from error
        if options.model_config_file and options.model_config_file_poll_wait_seconds:
            threading.Thread(target=self._keep_reading_config, name="model_config_file", daemon=True).start()

    def stop(self, grace: float = DRAIN_SECONDS) -> bool:
        """Says NOT_SERVING, takes no more requests, finishes those in flight and unloads the models.

        Returns:
            Whether every request was answered within ``grace`` seconds.
        """
        end = time.monotonic() + grace
        self._stopping.set()
        self._health.drain()
        with self._starting:
            # Whoever waits for a model in `start` has given up by now.
            closed = self._grpc.stop(_left(end) + _CANCEL_SECONDS) if self._grpc else None
        answered = self._rest is None or self._rest.stop(_left(end))
        if self._grpc and closed and not closed.wait(_left(end)):
            answered = False
            self._grpc.stop(grace=None)
        if self._rest_api:
            self._rest_api.close()
        unloading = threading.Thread(target=self._manager.stop, name="unload", daemon=True)
        unloading.start()
        # A load that takes longer than that is nobody's request.
        unloading.join(max(1.0, _left(end)))
        return answered

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models instead of what is served now.

        Raises:
            ServingError: as `ModelManager.reload` does.
        """
        with self._reloading:
            self._base_paths = {**self._base_paths, **{config.name: config.base_path for config in configs}}
            try:
                self._manager.reload(configs)
            finally:
                self._health.expect(self._manager.names())

    def _wait_for_models(self) -> None:
        waiting = set(self._base_paths)
        announced = False
        while waiting := {name for name in waiting if not self._is_available(name)}:
            if not announced:
                for name in sorted(waiting):
                    self._announce(f"Waiting for a version of {name} under {self._base_paths[name]}")
                announced = True
            if not self._options.file_system_poll_wait_seconds:
                name = min(waiting)
                raise StartError(f"{name} has no version under {self._base_paths[name]}")
            if self._stopping.wait(_LOOK_SECONDS):
                return

    def _is_available(self, name: str) -> bool:
        try:
            statuses = self._manager.status(name)
        except ServingError:
            return False
        if any(status.state is State.AVAILABLE for status in statuses):
            return True
        failed = [status for status in statuses if status.state is State.END and status.message]
        if len(failed) == len(statuses):
            raise StartError(f"{name} version {failed[0].version} cannot be served: {failed[0].message}")
        return False

    def _open_ports(self) -> None:
        if self._stopping.is_set():
            return
        options = self._options
        self._grpc = grpc_api.build_server(self._manager, self._health, self._metrics, options, self.reload)
        self.port = grpc_api.bind(self._grpc, options.port, options.grpc_socket_path, self._tls)
        if options.rest_api_port is not None:
            self._rest_api = RestApi(
                self._manager,
                self._metrics,
                threads=options.rest_api_num_threads or grpc_api.default_threads(),
                timeout_seconds=options.rest_api_timeout_in_ms / 1000,
                metrics_path=self._metrics_path,
            )
            self._rest = HttpServer(LOOPBACK, options.rest_api_port, self._rest_api)
            self.rest_port = self._rest.port
            self._rest.start()
        self._grpc.start()
        secured = " (TLS)" if self._tls else ""
        self._announce(f"gRPC API at {LOOPBACK}:{self.port}{secured}")
        if self.rest_port:
            self._announce(f"REST API at http://{LOOPBACK}:{self.rest_port}/v1/models")
        if self.rest_port and self._metrics_path:
            self._announce(f"Metrics at http://{LOOPBACK}:{self.rest_port}{self._metrics_path}")

    def _version_changed(self, name: str, status: VersionStatus) -> None:
        self._metrics.version_changed(self._base_paths[name] / str(status.version), status)
        self._health.version_changed(name, status)
        if status.state is State.AVAILABLE:
            self._announce(f"Loaded {name} version {status.version}")
        elif status.state is State.END:
            what = f"cannot be served: {status.message}" if status.message else "unloaded"
            self._announce(f"{name} version {status.version} {what}")

    def _keep_reading_config(self) -> None:
        path = Path(self._options.model_config_file)
        current, told = self._configs, ""
        while not self._stopping.wait(self._options.model_config_file_poll_wait_seconds):
            try:
                configs = parse_model_config_file(path)
                if configs != current:
                    self.reload(configs)
                    current = configs
                told = ""
            except Exception as error:
                # Whatever it is, the models loaded still answer, and the file may be put right.
                if str(error) != told:
                    expected = isinstance(error, ServingError)
                    logger.error("%s is not taken over: %s", path, error, exc_info=not expected)
                    told = str(error)


def _models(options: ServerOptions) -> list[ModelConfig]:
    if options.model_config_file:
        return parse_model_config_file(Path(options.model_config_file))
    check_base_path(options.model_base_path)
    return [ModelConfig(options.model_name, Path(options.model_base_path).absolute())]


def _batching(options: ServerOptions) -> BatchingParameters | None:
    if not options.enable_batching:
        return None
    if not options.batching_parameters_file:
        parameters = BatchingParameters()
        logger.warning(
            "--enable_batching without --batching_parameters_file merges up to %d images, and a model refuses"
            ' more than the max_batch_size under "limits" in its assets.extra/labels.json; give a file',
            parameters.max_batch_size,
        )
        return parameters
    return parse_batching_parameters_file(Path(options.batching_parameters_file))


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())


def _require_free(port: int | None) -> None:
    """Finds out early what would otherwise show once the models are loaded, and in gRPC's own words."""
    if port:
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError as error:
            raise StartError(f"port {port} cannot be opened: {error.strerror}") from None
