"""The error that every part of the server raises, and TensorFlow's errors put into its form."""

import re
from typing import TYPE_CHECKING, Final

import grpc

from components.errors import printable

if TYPE_CHECKING:
    from tensorflow.python.framework.errors import OpError

_MAX_BYTES: Final = 1024
"""Of a message in UTF-8, as in TensorFlow Serving (grpc_status_util.cc).

A gRPC status travels in the trailers, which clients limit to 8 KB by default, and a byte beyond ASCII takes
three there.
"""
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

# What TensorFlow wraps around a cause, line by line; behind _END there are only Python stacks of the graph's
# construction and repetitions.
_WRAPPING = re.compile(r"\s*\[\[.*?\]\]|\{\{.*?\}\}\s*|^\s*\(0\) [A-Z_]+: ")
_NOISE = re.compile(r"Graph execution error:|\d+ root error\(s\) found\.|0 successful operations\.|Hint: .*|")
_END = re.compile(r"\(1\) |Original stack trace for |Detected at node |\d+ derived errors ignored\.")


class ServingError(Exception):
    """A request or a model that cannot be served.

    Attributes:
        code: the status that clients see.
        message: one line: what is wrong, where, and what would be right. What it quotes of a request may be
            anything: control characters are escaped, and the end of a long message is left out.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        # Cut before it is looked through: a request may quote itself with millions of characters.
        shown = printable(message[: _MAX_BYTES + 1])
        if len(encoded := shown.encode()) > _MAX_BYTES:
            shown = encoded[: _MAX_BYTES - len(" …".encode())].decode(errors="ignore") + " …"
        super().__init__(shown)
        self.code = code
        self.message = shown


def invalid(message: str) -> ServingError:
    """Returns what most mistakes in a request are: INVALID_ARGUMENT."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def from_tensorflow(error: "OpError") -> ServingError:
    """Returns the same error under the same code; TensorFlow's codes are gRPC's."""
    return ServingError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), one_line(error.message))


def one_line(message: str) -> str:
    """The cause in TensorFlow's message: no graph nodes, no stacks."""
    kept = []
    for line in message.splitlines():
        text = _WRAPPING.sub("", line).strip()
        if _END.match(text):
            break
        if not _NOISE.fullmatch(text):
            kept.append(text)
    return " ".join(kept) or "TensorFlow gives no reason"
