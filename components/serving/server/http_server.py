"""The listener under the REST API: HTTP/1.1 with connections that stay open, and an end that drains."""

import io
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Response

logger = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 60
"""A connection on which nothing arrives for so long is closed; its thread would wait for ever."""
_REQUEST_SECONDS: Final = 60
"""How long a request may take to arrive; one that comes byte by byte would occupy its place for ever."""
_LINGER_SECONDS: Final = 2
_CHUNK: Final = 1 << 16
_LINGER_CHUNKS: Final = 1 << 12
"""At most 256 MiB of a body that was refused."""


class HttpServer:
    """Serves a WSGI application, a thread a connection."""

    def __init__(self, host: str, port: int, app: Any):
        """Opens the port; 0 takes any free one.

        Args:
            host: address to listen on.
            port: its port.
            app: a WSGI application that reads a request's body as a whole, or answers with
                ``Connection: close``.

        Raises:
            OSError: the port is taken.
        """
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise OSError(f"the REST API cannot listen on {host}:{port}: {error.strerror}") from None
        with listener:
            self._server = _Server(host, port, app, _Handler, fd=listener.fileno())
        self.port: int = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def start(self) -> None:
        """Starts to answer."""
        self._thread.start()

    def stop(self, grace: float) -> bool:
        """Closes the port, and waits up to ``grace`` seconds for the requests in flight.

        Returns:
            Whether all of them are answered.
        """
        self._server.draining = True
        self._server.shutdown()
        self._thread.join()
        return self._server.wait_until_idle(grace)


class _Server(ThreadedWSGIServer):
    draining = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._in_flight = 0
        self._changed = threading.Condition()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        with self._changed:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, seconds)


class _Incoming(socket.SocketIO):
    """What a client sends, up to a deadline."""

    deadline = math.inf
    """Seconds of `time.monotonic`."""

    def __init__(self, connection: socket.socket):
        super().__init__(connection, "r")
        self._connection = connection

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        self._connection.settimeout(min(max(left, 0.001), _IDLE_SECONDS))
        try:
            return super().readinto(buffer)
        finally:
            self._connection.settimeout(_IDLE_SECONDS)


class _Handler(WSGIRequestHandler):
    """Werkzeug's handler closes every connection, because it does not know whether the body was read."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # An answer is two writes, headers and body; the second must not wait for the first to be acknowledged.
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def parse_request(self) -> bool:
        # Its first line is there; how long a connection is idle before is another matter.
        self._incoming.deadline = time.monotonic() + _REQUEST_SECONDS
        return super().parse_request()

    def run_wsgi(self) -> None:
        with self.server.in_flight():
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.environ = self.make_environ()
            response = Response.from_app(self.server.app, self.environ, buffered=True)
            if self.server.draining:
                response.headers["Connection"] = "close"
            self.send_response(response.status_code)
            for name, value in response.headers:
                # The base class takes note of "Connection: close".
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.get_data())
            self._incoming.deadline = math.inf
        if self.close_connection:
            self._linger()

    def _linger(self) -> None:
        """Takes in what the client is still sending: closing at once would reset the answer away."""
        self.connection.settimeout(_LINGER_SECONDS)
        try:
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(_LINGER_CHUNKS):
                if not self.connection.recv(_CHUNK):
                    return
        except OSError:
            return

    def log(self, type: str, message: str, *args: Any) -> None:
        logger.debug(message, *args)
