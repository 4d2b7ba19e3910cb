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


@dataclass(frozen=True)
class HostileRequest:
    """A PredictRequest, and the gRPC codes one of which it must be refused with."""

    what: str
    message: Any
    codes: frozenset[grpc.StatusCode]


def hostile_requests(model: ModelSpec, image: bytes, max_batch_size: int) -> Iterator[HostileRequest]:
    """Yields the requests.

    Args:
        model: whom they are for.
        image: a real one, which some are made of.
        max_batch_size: the most images that the model takes at once.
    """

    def default(what: str, **inputs: np.ndarray) -> HostileRequest:
        return HostileRequest(what, predict_request(model, "serving_default", inputs), _BAD_INPUT)

    yield default("an image of 0 bytes", image_bytes=_strings(b""))
    yield default("a text for an image", image_bytes=_strings(b"Is this an image?"))
    yield default("a megabyte of noise", image_bytes=_strings(np.random.default_rng(0).bytes(10**6)))
    # The header and the first pixels are good. Not half of a real image: behind its picture a file may have
    # as much again, such as a film.
    rows = b"".join(b"\0" + np.random.default_rng(row).bytes(3 * 64) for row in range(64))
    yield default("a PNG that breaks off", image_bytes=_strings(rgb_png(64, 64, rows)[:6000]))
    yield default(
        "a PNG that claims 60000 x 60000 pixels", image_bytes=_strings(rgb_png(60_000, 60_000, b""))
    )
    # Good ones, so that there is nothing but their number to refuse.
    yield default(
        f"{max_batch_size + 1} images at once",
        image_bytes=_strings(*[rgb_png(1, 1, bytes(4))] * (max_batch_size + 1)),
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


def rgb_png(width: int, height: int, rows: bytes) -> bytes:
    """Returns an RGB PNG with a header of this size and any rows; each row begins with its filter, 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
