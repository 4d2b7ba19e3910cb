"""Requests that a served model must refuse and survive."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np

from components.serving.messages import ModelSpec, predict_request

_BAD_INPUT: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT})
# TensorFlow Serving says FAILED_PRECONDITION: to it, the signature is a matter of the model's state.
_NO_SUCH_SIGNATURE: Final = _BAD_INPUT | {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
_GIF: Final = b"GIF8"


@dataclass(frozen=True)
class HostileRequest:
    """A PredictRequest, and the gRPC codes one of which it must be refused with."""

    what: str
    message: Any
    codes: frozenset[grpc.StatusCode]


def hostile_requests(model: ModelSpec, image: bytes) -> Iterator[HostileRequest]:
    """Yields the requests; some are made of a real image."""

    def default(what: str, **inputs: np.ndarray) -> HostileRequest:
        return HostileRequest(what, predict_request(model, "serving_default", inputs), _BAD_INPUT)

    yield default("an image of 0 bytes", image_bytes=_strings(b""))
    yield default("a text for an image", image_bytes=_strings(b"Is this an image?"))
    if not image.startswith(_GIF):
        # Of a GIF that breaks off TensorFlow shows what there is.
        yield default("the first half of an image", image_bytes=_strings(image[: len(image) // 2]))
    yield default(
        "a PNG that claims 60000 x 60000 pixels", image_bytes=_strings(_claiming_png(60_000, 60_000))
    )
    yield default("a good image and a bad one", image_bytes=_strings(image, b"Is this an image?"))
    yield default("numbers for an image", image_bytes=np.zeros(1, np.float32))
    yield default("an input that the model does not have", image_bytes=_strings(image), hint=_strings(b"cat"))
    yield HostileRequest(
        "a signature that the model does not have",
        predict_request(model, "no_such_signature", {"image_bytes": _strings(image)}),
        _NO_SUCH_SIGNATURE,
    )


def _strings(*values: bytes) -> np.ndarray:
    return np.array(values, object)


def _claiming_png(width: int, height: int) -> bytes:
    """A PNG of some sixty bytes with the header of an image of this size, RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
