"""The client's errors: each failure between client and server as one line that says what to do."""

import re

import grpc

from components.serving.messages import ModelSpec

_LONGEST = 300
# TensorFlow names the graph's nodes in its messages: {{function_node …}} and [[{{node …}}]].
_GRAPH_NODES = re.compile(r"\[\[.*?\]\]|\{\{.*?\}\}", re.DOTALL)
# tf.debugging.Assert prints its arguments so, with quotes escaped; the end may have been cut off.
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]?$")
_SIZES = re.compile(r"(CLIENT|SERVER): Received message larger than max \((\d+) vs\. (\d+)\)")
_END_OF_ALL = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)

# gRPC tells one failed connection from another by text alone; these texts are grpcio 1.85's.
_HOPELESS_CONNECTIONS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by the CA given",
    "Hostname Verification Check failed": "its certificate is for another host name (tls server_name?)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS; leave the CA out",
    "Expected SETTINGS frame": "it does not speak gRPC: is this the REST port? gRPC has its own, often 8500",
}
_FAILED_CONNECTIONS = {
    "Connection refused": "it refuses connections: is the server running, and is this its gRPC port?",
    "Domain name not found": "there is no host of that name",
    "Socket closed": "it closes the connection: does it want TLS, or a client certificate?",
    "timed out before receiving SETTINGS": "it accepts connections but says nothing: is it a gRPC port?",
}


class ServingClientError(Exception):
    """A request without an answer; the message is one line."""

    def __init__(self, code: grpc.StatusCode, message: str, *, transient: bool = False):
        super().__init__(message)
        self.code = code
        self.transient = transient
        """Whether the same request may well be answered a moment later."""


class ModelUnavailableError(ServingClientError):
    """No request whatsoever would be answered: no server, no such model, or no permission."""


def explain(error: grpc.RpcError, address: str, model: ModelSpec, seconds: float) -> ServingClientError:
    """Returns what a failed call to ``address`` means, for which there were so many seconds."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNAVAILABLE:
        return _unavailable(details, address)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        said = f"{address} did not answer within {seconds:g} s (timeout and patience)"
        return ServingClientError(code, said)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(details, address)
    if code == grpc.StatusCode.NOT_FOUND:
        return ModelUnavailableError(code, f"{address} does not serve {model}")
    if code == grpc.StatusCode.UNIMPLEMENTED:
        message = f"{address} speaks gRPC, but not TensorFlow Serving's API: {one_line(details)}"
        return ModelUnavailableError(code, message)
    unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and "servable version label" in details
    kind = ModelUnavailableError if code in _END_OF_ALL or unknown_label else ServingClientError
    # A server that stops may cancel what it has not finished.
    transient = code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED)
    return kind(code, f"{code.name}: {one_line(details)}", transient=transient)


def too_large(what: str, size: int, limit: int) -> ServingClientError:
    """Returns the error for a ``request`` or an ``answer`` beyond the client's own limit; sizes in bytes."""
    return ServingClientError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the {what} has {size:,} bytes, and the client's limit is {limit:,}: raise max_message_bytes",
    )


def one_line(details: str) -> str:
    """Returns a server's message on one line, without what TensorFlow wraps it in, and not endless."""
    text = " ".join(_GRAPH_NODES.sub(" ", details).split())
    text = _ASSERTION.sub(_asserted, text) or "no reason given"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _asserted(match: re.Match[str]) -> str:
    return " ".join(match[1].replace("] [", " ").replace('\\"', '"').split())


def _unavailable(details: str, address: str) -> ServingClientError:
    code = grpc.StatusCode.UNAVAILABLE
    for text, meaning in _HOPELESS_CONNECTIONS.items():
        if text in details:
            return ModelUnavailableError(code, f"cannot talk to {address}: {meaning}")
    for text, meaning in _FAILED_CONNECTIONS.items():
        if text in details:
            return ModelUnavailableError(code, f"cannot reach {address}: {meaning}", transient=True)
    return ModelUnavailableError(code, f"{address} is unavailable: {one_line(details)}", transient=True)


def _exhausted(details: str, address: str) -> ServingClientError:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    if (sizes := _SIZES.search(details)) is None:
        # A full queue: it empties.
        return ServingClientError(code, f"{address} is overloaded: {one_line(details)}", transient=True)
    side, size, limit = sizes[1], int(sizes[2]), int(sizes[3])
    if side == "CLIENT":
        return too_large("answer", size, limit)
    return ServingClientError(
        code,
        f"the request has {size:,} bytes, and the server takes {limit:,}: send fewer or smaller images, or "
        "raise its limit",
    )
