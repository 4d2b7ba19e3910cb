"""What can go wrong between a client and a model server, each as one line that says what to do."""

import re
from dataclasses import dataclass

import grpc

from components.serving.messages import ModelSpec

_LONGEST = 300
# TensorFlow names the graph's nodes in its messages: {{function_node …}} and [[{{node …}}]].
_GRAPH_NODES = re.compile(r"\[\[.*?\]\]|\{\{.*?\}\}", re.DOTALL)
# tf.debugging.Assert prints its arguments so, with quotes escaped; the end may have been cut off.
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]?$")
_SIZES = re.compile(r"(CLIENT|SERVER): (Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")
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


@dataclass(frozen=True)
class Call:
    """The circumstances of a request, for its error message."""

    address: str
    model: ModelSpec
    timeout: float
    """Seconds."""
    answered_before: bool
    """Whether this model has answered this client; then a server without it is one that restarts."""


def explain(error: grpc.RpcError, call: Call) -> ServingClientError:
    """Returns what a failed call means."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNAVAILABLE:
        return _unavailable(details, call)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServingClientError(code, f"{call.address} did not answer within {call.timeout:g} s (timeout)")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(details, call)
    if code == grpc.StatusCode.NOT_FOUND:
        message = f"{call.address} does not serve {call.model}"
        return ModelUnavailableError(code, message, transient=call.answered_before)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        message = f"{call.address} speaks gRPC, but not TensorFlow Serving's API: {one_line(details)}"
        return ModelUnavailableError(code, message)
    unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and "servable version label" in details
    kind = ModelUnavailableError if code in _END_OF_ALL or unknown_label else ServingClientError
    # A server that stops may cancel what it has not finished.
    transient = code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED)
    return kind(code, f"{code.name}: {one_line(details)}", transient=transient)


def one_line(details: str) -> str:
    """Returns a server's message on one line, without what TensorFlow wraps it in, and not endless."""
    text = " ".join(_GRAPH_NODES.sub(" ", details).split())
    text = _ASSERTION.sub(_asserted, text) or "no reason given"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _asserted(match: re.Match[str]) -> str:
    return " ".join(match[1].replace("] [", " ").replace('\\"', '"').split())


def _unavailable(details: str, call: Call) -> ServingClientError:
    code = grpc.StatusCode.UNAVAILABLE
    for text, meaning in _HOPELESS_CONNECTIONS.items():
        if text in details:
            return ModelUnavailableError(code, f"cannot talk to {call.address}: {meaning}")
    if call.answered_before and any(text in details for text in _FAILED_CONNECTIONS):
        return ModelUnavailableError(code, f"lost {call.address}, which did answer before", transient=True)
    for text, meaning in _FAILED_CONNECTIONS.items():
        if text in details:
            return ModelUnavailableError(code, f"cannot reach {call.address}: {meaning}", transient=True)
    return ModelUnavailableError(code, f"{call.address} is unavailable: {one_line(details)}", transient=True)


def _exhausted(details: str, call: Call) -> ServingClientError:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    sizes = _SIZES.search(details)
    if sizes is None:
        # A full queue: it empties.
        return ServingClientError(code, f"{call.address} is overloaded: {one_line(details)}", transient=True)
    side, direction, size, limit = sizes.groups()
    what = "answer" if side == "CLIENT" and direction == "Received" else "request"
    if side == "CLIENT":
        remedy = f"the client's limit is {int(limit):,}: raise max_message_bytes"
    else:
        remedy = f"the server takes {int(limit):,}: send fewer or smaller images, or raise its limit"
    return ServingClientError(code, f"the {what} has {int(size):,} bytes, and {remedy}")
