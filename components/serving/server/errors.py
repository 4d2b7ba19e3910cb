"""The error that every part of the server raises, and TensorFlow's errors put into its form."""

import re
from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    import tensorflow as tf

_MAX_LENGTH: Final = 1000
"""A gRPC status travels in the trailers, which clients limit to 8 KB by default."""

# What TensorFlow wraps around a cause, line by line; behind _END there are only Python stacks of the graph's
# construction and repetitions.
_NODE = re.compile(r"\s*\[\[.*?\]\]|\{\{.*?\}\}\s*")
_NOISE = re.compile(r"Graph execution error:|\d+ root error\(s\) found\.|0 successful operations\.|Hint: .*")
_NUMBERED = re.compile(r"\(0\) [A-Z_]+: ")
_END = re.compile(r"\(1\) |Original stack trace for |Detected at node |\d+ derived errors ignored\.")


class ServingError(Exception):
    """A request, a model or a configuration that cannot be served.

    Attributes:
        code: the status that clients see.
        message: one line: what is wrong, where, and what would be right.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


def from_tensorflow(error: "tf.errors.OpError") -> ServingError:
    """Returns the same error under the same code; TensorFlow's codes are gRPC's."""
    return ServingError(status_code(error.error_code), one_line(error.message))


def status_code(number: int) -> grpc.StatusCode:
    """Returns the gRPC code of that number, UNKNOWN for a number that is none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def one_line(message: str) -> str:
    """The cause in TensorFlow's message: no graph nodes, no stacks, no longer than a status may be."""
    kept = []
    for line in message.splitlines():
        text = _NUMBERED.sub("", _NODE.sub("", line)).strip()
        if _END.match(text):
            break
        if text and not _NOISE.fullmatch(text):
            kept.append(text)
    cause = " ".join(kept) or "TensorFlow gives no reason"
    return cause if len(cause) <= _MAX_LENGTH else f"{cause[:_MAX_LENGTH]} …"


_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
