"""A model server as a process of its own: started, waited for, stopped, whatever happens."""

import dataclasses
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc

from components.serving import messages
from components.serving.backends import Backend, choose
from components.serving.server.options import LOOPBACK, ServerOptions

_LOOK_SECONDS: Final = 0.1
_CALL_SECONDS: Final = 5
_TAIL_LINES: Final = 20
_KEEPER: Final = """
read -r _
kill -s TERM -- "-$1"
tries=0
while kill -s 0 -- "-$1" && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$1"
"""
"""A shell's: waits for the end of who started it, by its end of a pipe, and ends a group of processes."""


class ServerProcessError(Exception):
    """The server did not come up; where it ran, the message ends with the last lines of its log."""


class ServerProcess:
    """Runs a model server while a ``with`` block lasts, or between `start` and `stop`.

    The process leads a group of its own, so that Ctrl-C reaches whoever holds it, who stops it. Whatever
    serves ends within five seconds of the process that started it, however that ends; but for a container
    (`Backend.DOCKER`), which is the Docker daemon's child and may outlive its client.

    Attributes:
        grpc_port: port of the gRPC API at 127.0.0.1.
        rest_port: port of the REST API; None where it is off.
        log: what the server prints.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        backend: Backend = Backend.EMBEDDED,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        start_seconds: float = 120,
        stop_seconds: float = 40,
    ):
        """Prepares a server; nothing runs yet.

        Args:
            options: its flags; a port that is 0 is replaced by a free one.
            backend: which program.
            log: a file that its output is appended to; without it a temporary one, which `stop` removes.
            env: variables that its environment has besides, or instead of, this process's.
            start_seconds: how long it may take until the model is available.
            stop_seconds: how long it may take to drain before it is killed.

        Raises:
            BackendError: there is no such program here.
        """
        free, free_rest = _free_ports(2)
        self._options = dataclasses.replace(
            options,
            port=options.port or free,
            rest_api_port=free_rest if options.rest_api_port == 0 else options.rest_api_port,
        )
        self._launch = choose(backend, self._options)
        self._env = dict(env or {})
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._log_is_temporary = log is None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self.grpc_port: int = self._options.port
        self.rest_port: int | None = self._options.rest_api_port
        self.log = log or _temporary_log()

    @property
    def target(self) -> str:
        """The gRPC API's address, ``host:port``."""
        return f"{LOOPBACK}:{self.grpc_port}"

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        return self._running().poll()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the process and waits until its model is available.

        Raises:
            ServerProcessError: it cannot be run, it ended, or the time is up; it does not run then.
        """
        try:
            self._process = self._run()
            self._keeper = _keep(self._process.pid)
            self._wait_until_available()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int | None:
        """Asks the server to end, kills it if it does not, and returns its exit status; None if none ran."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            # While it has not been waited for, its number is its own, and that of its group.
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(self._stop_seconds)
        if self._keeper is not None:
            # Before its pipe ends: the group's number may be another one's by now.
            self._keeper.kill()
            self._keeper.communicate()
            self._keeper = None
        if self._log_is_temporary:
            self.log.unlink(missing_ok=True)
        return None if self._process is None else self._process.returncode

    def log_tail(self) -> str:
        """Returns the last lines of the log."""
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, _TAIL_LINES)).strip()

    def _run(self) -> subprocess.Popen[bytes]:
        try:
            with self.log.open("ab") as log:
                return subprocess.Popen(
                    self._launch.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._env},
                    start_new_session=True,
                )
        except OSError as error:
            raise ServerProcessError(f"the model server cannot be run: {error}") from error

    def _wait_until_available(self) -> None:
        end = time.monotonic() + self._start_seconds
        # Until the port is open, gRPC would look for it at longer and longer intervals.
        options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]
        with grpc.insecure_channel(self.target, options) as channel:
            while True:
                if (status := self._running().poll()) is not None:
                    raise self._error(f"the model server ended with status {status}")
                if _is_available(channel, self._options.model_name):
                    return
                if time.monotonic() > end:
                    raise self._error(f"the model server was not ready after {self._start_seconds:g} s")
                time.sleep(_LOOK_SECONDS)

    def _error(self, what: str) -> ServerProcessError:
        return ServerProcessError(f"{what}; the end of its log:\n{self.log_tail()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process


def _keep(group: int) -> subprocess.Popen[bytes]:
    """Starts what ends a group of processes when this process is gone, be it by a signal that nobody sees."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "sh", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _is_available(channel: grpc.Channel, model: str) -> bool:
    method = messages.GET_MODEL_STATUS
    call = channel.unary_unary(
        method.path,
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=method.response_class.FromString,
    )
    try:
        response = call(messages.status_request(messages.ModelSpec(model)), timeout=_CALL_SECONDS)
    except grpc.RpcError:
        return False
    versions = messages.read_status_response(response)
    return any(version.state is messages.State.AVAILABLE for version in versions)


def _temporary_log() -> Path:
    descriptor, path = tempfile.mkstemp(prefix="model_server", suffix=".log")
    os.close(descriptor)
    return Path(path)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; held together while they are sought, so that they differ."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
