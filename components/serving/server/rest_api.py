"""The REST side: TensorFlow Serving's paths, formats and statuses, as a WSGI application.

Source: tensorflow_serving/model_servers/http_rest_api_util.cc, http_rest_api_handler.cc and http_server.cc.
Unlike there, a request's size is bounded, and every error is JSON.
"""

import json
import logging
import re
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from components.serving.messages import SIGNATURE_DEF
from components.serving.server import json_inputs, json_outputs, prediction
from components.serving.server.errors import ServingError, invalid
from components.serving.server.manager import ModelManager
from components.serving.server.metrics import ServerMetrics
from components.serving.server.servable import DEFAULT_SIGNATURE
from components.serving.server.tensor_protos import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

_VERSION: Final = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION_PATH: Final = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_MODEL_PATH: Final = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<metadata>metadata))?", re.IGNORECASE
)
_API_PREFIX: Final = "/v1/"
_MAX_INT64: Final = 2**63 - 1
_MAX_DIGITS: Final = 19
_GZIP: Final = 16 + zlib.MAX_WBITS

_HTTP_STATUSES: Final = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


class RestApi:
    """Answers the REST API.

    At most ``threads`` requests are read and computed at once; the others wait for one of those places, and
    waiting and computing together end after ``timeout_seconds`` with 504. What TensorFlow computes cannot be
    called back then: it goes on in its place until it is done, and its result is dropped.
    """

    def __init__(
        self,
        manager: ModelManager,
        metrics: ServerMetrics,
        *,
        threads: int,
        timeout_seconds: float,
        metrics_path: str | None,
    ):
        self._manager = manager
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._timeout_seconds = timeout_seconds
        self._places = threading.BoundedSemaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        request = _Request(environ)
        try:
            response = self._answer(request)
        except ServingError as error:
            response = _error(_HTTP_STATUSES.get(error.code, 500), error.message)
        except RequestEntityTooLarge:
            response = _error(413, f"the request is larger than {MAX_MESSAGE_BYTES} bytes")
        except ClientDisconnected:
            response = _error(400, "the request's body ends before its Content-Length, or comes too slowly")
        except Exception as error:
            logger.exception("a request failed")
            response = _error(500, f"{type(error).__name__}: {error}")
        if not request.body_is_read:
            # What follows on this connection is no request.
            response.headers["Connection"] = "close"
        return response(environ, start_response)

    def close(self) -> None:
        """Lets the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: "_Request") -> Response:
        # As it came: names are decoded after the path has been taken apart, and a query matches nothing.
        path = request.environ["RAW_URI"]
        if request.method == "POST" and (match := _PREDICTION_PATH.fullmatch(path)):
            return self._predict(request, _model_spec(match), match["method"].lower())
        # Not wanted, but it stands before the connection's next request.
        request.read_body()
        if path == self._metrics_path:
            return Response(self._metrics.exposition(), content_type="text/plain")
        if request.method == "GET" and (match := _MODEL_PATH.fullmatch(path)):
            return self._describe(match)
        if not path.lower().startswith(_API_PREFIX):
            return _error(404, f"Not Found: {path}")
        raise invalid(f"Malformed request: {request.method} {path}")

    def _describe(self, match: re.Match[str]) -> Response:
        if not match["name"]:
            raise invalid("Missing model name in request.")
        if not match["metadata"]:
            status = prediction.get_model_status(
                self._manager, get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(match))
            )
            return _json(json_format.MessageToDict(status, always_print_fields_with_no_presence=True))
        metadata = prediction.get_model_metadata(
            self._manager,
            get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=_model_spec(match), metadata_field=[SIGNATURE_DEF]
            ),
        )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        metadata.metadata[SIGNATURE_DEF].Unpack(signatures)
        return _json(
            {
                "model_spec": _as_declared(metadata.model_spec),
                "metadata": {SIGNATURE_DEF: _as_declared(signatures)},
            }
        )

    def _predict(self, request: "_Request", spec: model_pb2.ModelSpec, method: str) -> Response:
        with self._counted(spec.name, method):
            if method != "predict":
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"{method} is not implemented: segmentation models have no such signature; use predict",
                )
            deadline = time.monotonic() + self._timeout_seconds
            if not self._places.acquire(timeout=self._timeout_seconds):
                raise self._too_late("waiting for other requests")
            try:
                computing = self._pool.submit(self._compute, spec, request.read_body())
            except BaseException:
                self._places.release()
                raise
            # Not when the answer is given: what computes on after a timeout keeps its thread.
            computing.add_done_callback(lambda _: self._places.release())
            try:
                return computing.result(max(0, deadline - time.monotonic()))
            except FutureTimeoutError:
                raise self._too_late("computing") from None

    def _compute(self, spec: model_pb2.ModelSpec, body: bytes) -> Response:
        document = json_inputs.parse_request(body)
        signature = json_inputs.signature_name(document) or DEFAULT_SIGNATURE
        with prediction.acquire(self._manager, spec) as servable:
            # Without its method, one is for the loader alone, such as that which initialises the model.
            runnable = sorted(name for name, found in servable.signatures.items() if found.method_name)
            if signature not in runnable:
                known = ", ".join(runnable)
                raise invalid(
                    f'Serving signature name: "{signature}" not found in signature def. Signatures: {known}.'
                )
            inputs = json_inputs.read_inputs(document, servable.signatures[signature].inputs)
            outputs = servable.run(signature, inputs.tensors)
        return _json(json_outputs.write_outputs(outputs, inputs.rows))

    def _too_late(self, doing: str) -> ServingError:
        return ServingError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"the time limit of {self._timeout_seconds * 1000:.0f} ms passed while {doing} "
            f"(--rest_api_timeout_in_ms)",
        )

    @contextmanager
    def _counted(self, model: str, method: str) -> Iterator[None]:
        started, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            yield
        except ServingError as error:
            code = error.code
            raise
        except HTTPException:
            code = grpc.StatusCode.INVALID_ARGUMENT
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            raise
        finally:
            known = model if model in self._manager.names() else ""
            self._metrics.request(known, method, "REST", code, time.perf_counter() - started)


class _Request(Request):
    """A request that knows whether its body still stands on the connection."""

    max_content_length = MAX_MESSAGE_BYTES
    body_is_read = False

    def read_body(self) -> bytes:
        """The body, unpacked; RequestEntityTooLarge where either form is too large."""
        body = self.get_data(cache=False)
        self.body_is_read = True
        if "gzip" not in self.headers.get("Content-Encoding", ""):
            return body
        unpacker = zlib.decompressobj(_GZIP)
        try:
            unpacked = unpacker.decompress(body, MAX_MESSAGE_BYTES)
        except zlib.error:
            raise invalid("the request's body is no gzip, although its Content-Encoding says so") from None
        if unpacker.unconsumed_tail:
            raise RequestEntityTooLarge
        if not unpacker.eof:
            raise invalid("the request's gzip body is cut off")
        return unpacked


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"]:
        if len(match["version"]) > _MAX_DIGITS or int(match["version"]) > _MAX_INT64:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(match["version"])
    if match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _as_declared(message: Message) -> Any:
    """A message under the names of its declaration, ``model_spec`` rather than ``modelSpec``."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)
