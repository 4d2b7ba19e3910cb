"""Asks a model server over gRPC: address, TLS, message sizes, waiting for it, and what is repeated.

Waiting and repeating are gRPC's own: ``wait_for_ready``, and a retry policy in the service config.
"""

import json
import logging
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from components.serving import messages
from components.serving.failures import ModelUnavailableError, ServingClientError, explain, too_large
from components.serving.messages import PREDICTION_SERVICE, Method, ModelSpec

_ADDRESS = re.compile(r"(dns:///)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_MAX_PORT: Final = 65535
_MAX_MESSAGE_BYTES: Final = 2**31 - 1
"""What protobuf can take."""

_ATTEMPTS: Final = 5
"""gRPC makes no more, whatever its service config says."""
_BACKOFF: Final = 4
"""Each pause is so many times the one before, give or take a fifth."""
_REPEATED_BYTES: Final = 64 * 1024**2
"""Larger requests are not repeated: gRPC keeps a request until its answer begins, by default up to 256 KiB.

It is also what the embedded server takes, so that one which is too large is refused at once.
"""

_RECONNECT: Final = {
    # gRPC would wait up to two minutes between attempts; a restarted server should be noticed at once.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    # How long one attempt to connect may take.
    "grpc.min_reconnect_backoff_ms": 5000,
}

_REASON_SECONDS: Final = 6.0
"""For finding out why there was no answer: more than one attempt to connect may take."""

_AWAY: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """The files of an encrypted connection, PEM."""

    ca: Path
    """Certificates of the authorities that may have signed the server's."""
    certificate: Path | None = None
    """The client's own certificate, where the server asks for one."""
    key: Path | None = None
    """The private key of `certificate`."""
    server_name: str | None = None
    """The name in the server's certificate, where it is reached under another, as through a tunnel."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            ValueError: a file that cannot be read, is no PEM, or a certificate without its own key.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate and its key go together: give both or neither")
        # gRPC would only say "Failed to create security handshaker"; OpenSSL says what is wrong.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"CA file {self.ca}: {_reason(error)}") from None
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(self.ca.read_bytes())
        try:
            # Without a password given, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"client certificate {self.certificate} with key {self.key}: {_reason(error)}"
            ) from None
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )


class Connection:
    """Calls of one server's methods; safe to share between threads.

    Asking for a mask twice does no harm, so a request waits for a server that cannot be reached, and is
    repeated where it is stopping or overloaded. gRPC does not tell such a server from one that is slow: each
    may take ``timeout`` and ``patience`` together.
    """

    def __init__(
        self, address: str, *, timeout: float, patience: float, tls: Tls | None, max_message_bytes: int
    ):
        """Prepares the channel; the arguments are `SegmentationClient`'s."""
        self.address = address
        self._timeout = timeout
        self._patience = patience
        self._max_message_bytes = max_message_bytes
        self._channel = _open_channel(address, tls, max_message_bytes, patience)
        self._stubs: dict[Method, grpc.UnaryUnaryMultiCallable] = {}
        self._has_greeted = False
        self._is_away = False

    def close(self) -> None:
        """Closes the channel; requests under way fail."""
        self._channel.close()

    def call(self, method: Method, request: Any, model: ModelSpec) -> Any:
        """Asks until there is an answer, a refusal, or no time left.

        Args:
            method: what is called.
            request: the method's request message.
            model: the model that the request is about, for error messages.

        Raises:
            ModelUnavailableError: no request about this model would be answered.
            ServingClientError: this one is not.
        """
        if (size := request.ByteSize()) > self._max_message_bytes:
            # gRPC says the same, but only after it has repeated the request.
            raise too_large("request", size, self._max_message_bytes)
        end = time.monotonic() + self._timeout + self._patience
        if not self._has_greeted:
            self._greet(model)
        left = max(0.0, end - time.monotonic())
        try:
            return self._stub(method)(request, timeout=left, wait_for_ready=self._patience > 0)
        except grpc.RpcError as error:
            raise self._explained(error, model) from None

    def _greet(self, model: ModelSpec) -> None:
        """Waits for the server before the first request, and says why: gRPC would wait in silence."""
        failure = self._failure_to_connect(model, self._timeout)
        if failure:
            if not failure.transient or not self._patience:
                raise failure
            self._is_away = True
            _logger.warning("%s; trying again for up to %g s", failure, self._patience)
            try:
                self._status(model, self._patience, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                    raise failure from None
        self._has_greeted = True
        if self._patience:
            self._channel.subscribe(self._note_connectivity)

    def _note_connectivity(self, connectivity: grpc.ChannelConnectivity) -> None:
        if connectivity is _AWAY and not self._is_away:
            _logger.warning("lost %s; trying again for up to %g s", self.address, self._patience)
        if connectivity in (_AWAY, grpc.ChannelConnectivity.READY):
            self._is_away = connectivity is _AWAY

    def _failure_to_connect(self, model: ModelSpec, seconds: float) -> ServingClientError | None:
        """Says why the server cannot be reached; a call that neither waits nor is repeated tells."""
        try:
            self._status(model, seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return explain(error, self.address, model, seconds)
        return None

    def _status(self, model: ModelSpec, timeout: float, wait_for_ready: bool = False) -> Any:
        return self._stub(messages.GET_MODEL_STATUS)(
            messages.status_request(model), timeout=timeout, wait_for_ready=wait_for_ready
        )

    def _explained(self, error: grpc.RpcError, model: ModelSpec) -> ServingClientError:
        waited = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._patience > 0
        # Either the server was away or it was slow.
        if waited and (away := self._failure_to_connect(model, min(self._timeout, _REASON_SECONDS))):
            return away
        failure = explain(error, self.address, model, self._timeout + self._patience)
        if failure.code is grpc.StatusCode.NOT_FOUND:
            return ModelUnavailableError(failure.code, f"{failure}; {self._versions(model)}")
        return failure

    def _versions(self, model: ModelSpec) -> str:
        """What the server does have of the model."""
        try:
            response = self._status(ModelSpec(model.name), self._timeout)
        except grpc.RpcError:
            return "it knows no model of that name"
        return "its versions: " + ", ".join(
            f"{status.version} {status.state.name}" + (f" ({status.error})" if status.error else "")
            for status in messages.read_status_response(response)
        )

    def _stub(self, method: Method) -> grpc.UnaryUnaryMultiCallable:
        # Made when first needed: each method's descriptors take some milliseconds to read.
        if method not in self._stubs:
            self._stubs[method] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request_class.SerializeToString,
                response_deserializer=method.response_class.FromString,
            )
        return self._stubs[method]


def _open_channel(address: str, tls: Tls | None, max_message_bytes: int, patience: float) -> grpc.Channel:
    """Opens a channel; the connections themselves are made when the first request goes out.

    Where the host's name has several addresses, requests go to all of them in turn. Predictions that a server
    cannot answer for the moment are repeated, four times in about ``patience`` seconds; 0 for never.

    Args:
        address: HOST:PORT or dns:///HOST:PORT, which mean the same; IPv6 hosts stand in brackets.
        tls: the files of an encrypted connection; None for plain text.
        max_message_bytes: the largest request and the largest answer.
        patience: seconds.

    Raises:
        ValueError: an impossible address, message size or TLS file.
    """
    options: dict[str, int | str] = {
        **_RECONNECT,
        "grpc.service_config": _service_config(patience),
        "grpc.enable_retries": int(patience > 0),
        "grpc.per_rpc_retry_buffer_size": _REPEATED_BYTES,
        "grpc.max_send_message_length": max_message_bytes,
        "grpc.max_receive_message_length": max_message_bytes,
        # A new client starts anew, whatever an older one of this process is waiting for.
        "grpc.use_local_subchannel_pool": 1,
    }
    check_address(address)
    if not 0 < max_message_bytes <= _MAX_MESSAGE_BYTES:
        raise ValueError(f"max_message_bytes is {max_message_bytes}, not 1 … {_MAX_MESSAGE_BYTES}")
    if tls is None:
        return grpc.insecure_channel(address, options=list(options.items()))
    if tls.server_name is not None:
        options["grpc.ssl_target_name_override"] = tls.server_name
    return grpc.secure_channel(address, tls.credentials(), options=list(options.items()))


def check_address(address: str) -> None:
    """Raises a ValueError for what does not read HOST:PORT."""
    match = _ADDRESS.fullmatch(address)
    if not match or not 0 < int(match["port"]) <= _MAX_PORT:
        raise ValueError(f"{address!r} is no server address; give HOST:PORT, such as localhost:8500")


def _service_config(patience: float) -> str:
    # A name may stand for several servers; gRPC's own choice would be the first that works, for good.
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if patience > 0:
        first = patience / sum(_BACKOFF**pause for pause in range(_ATTEMPTS - 1))
        retries = {
            "maxAttempts": _ATTEMPTS,
            "initialBackoff": f"{max(first, 0.001):.3f}s",
            "maxBackoff": f"{max(patience, 0.001):.3f}s",
            "backoffMultiplier": _BACKOFF,
            # Away or stopping, overloaded, and what a server that stops has not finished.
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED", "ABORTED"],
        }
        config["methodConfig"] = [{"name": [{"service": PREDICTION_SERVICE}], "retryPolicy": retries}]
    return json.dumps(config)


def _reason(error: OSError) -> str:
    # An SSLError's own text ends in OpenSSL's source line.
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM file").replace("_", " ").lower()
    return error.strerror or str(error)
