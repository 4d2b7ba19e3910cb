"""A gRPC channel to a model server: address, TLS, message sizes, and what is repeated."""

import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from components.serving.messages import PREDICTION_SERVICE

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


def check_address(address: str) -> str:
    """Returns the address if it reads HOST:PORT or dns:///HOST:PORT, which mean the same.

    Raises:
        ValueError: it does not; IPv6 hosts stand in brackets.
    """
    match = _ADDRESS.fullmatch(address)
    if not match or not 0 < int(match["port"]) <= _MAX_PORT:
        raise ValueError(f"{address!r} is no server address; give HOST:PORT, such as localhost:8500")
    return address


def open_channel(address: str, tls: Tls | None, max_message_bytes: int, patience: float) -> grpc.Channel:
    """Opens a channel; the connections themselves are made when the first request goes out.

    Where the host's name has several addresses, requests go to all of them in turn. Predictions that a server
    cannot answer for the moment are repeated, four times in about ``patience`` seconds; 0 for never.

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
