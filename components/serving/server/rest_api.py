"""The REST side: TensorFlow Serving's status, metadata and predictions in row format, over HTTP/1.1.

Source of paths, formats and statuses: tensorflow_serving/model_servers/http_rest_api_util.cc and
http_rest_api_handler.cc, tensorflow_serving/util/json_tensor.cc. Unlike there, a request's size is bounded,
and every error is JSON.
"""

import base64
import json
import logging
import re
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from urllib.parse import unquote

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import dtypes
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from components.model_store.store import version_number
from components.serving.messages import SIGNATURE_DEF
from components.serving.server import grpc_api
from components.serving.server.batching import Tensors
from components.serving.server.errors import ServingError, invalid
from components.serving.server.servable import DEFAULT_SIGNATURE, MAX_MESSAGE_BYTES
from components.serving.server.versions import ServedModel

_MODEL: Final = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+))?"
_PREDICT_PATH: Final = re.compile(_MODEL + ":predict")
_MODEL_PATH: Final = re.compile(_MODEL + "(?P<metadata>/metadata)?")
_ELSEWHERE: Final = re.compile(
    r"/v1/models/[^/:]+(?:/versions/\d+)?(?P<what>/labels/|:classify|:regress)|/monitoring/"
)
_IDLE_SECONDS: Final = 10
"""A connection on which nothing arrives for so long is closed; its thread would wait for ever.

So is one whose client takes less of an answer than a piece in that time.
"""
_PIECE_BYTES: Final = 1 << 16
"""Of an answer: a socket's time limit is that of all that one call sends."""
_REQUEST_SECONDS: Final = 60
"""What has not arrived as a whole by then is cut off, however steadily it trickles in."""
_MAX_REFUSED: Final = 1 << 30
"""What is read of a request that is too large."""
_LONGEST_NUMBER: Final = 18
"""Digits of a length."""
_TOO_LARGE: Final = grpc.StatusCode.OUT_OF_RANGE
_HTTP_STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 413,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_KINDS: Final = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
"""NumPy's kinds of numbers that JSON may give for one that the signature asks for."""

logger = logging.getLogger(__name__)


class RestServer(ThreadingMixIn, TCPServer):
    """Listens for HTTP, one request a connection; ``threads`` of them are read and answered at once."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: ServedModel, threads: int):
        """Opens the port, 0 is any free one, and starts to answer; an OSError where it is taken."""
        super().__init__(address, _Handler)
        self.model = model
        self._threads_of_requests = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._open: set[Future[None]] = set()
        threading.Thread(target=self.serve_forever, args=(0.1,), name="rest_accept", daemon=True).start()

    def stop(self, grace: float) -> bool:
        """Closes the port; returns whether the requests in flight were answered within ``grace`` seconds."""
        self.shutdown()
        TCPServer.server_close(self)
        return not wait(list(self._open), grace).not_done

    def process_request(self, request: Any, client_address: Any) -> None:
        """Has one of the threads answer a connection's request."""
        connection = self._threads_of_requests.submit(self.process_request_thread, request, client_address)
        self._open.add(connection)
        connection.add_done_callback(self._open.discard)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks off is worth a line only to who looks for a fault."""
        logger.debug("the connection of %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # An answer is two writes, headers and body; the second must not wait for the first to be acknowledged.
    disable_nagle_algorithm = True
    server: RestServer

    def setup(self) -> None:
        """Begins to wait for the connection's request."""
        super().setup()
        # The system would let the sender wait until a third of a buffer of megabytes is free.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE_BYTES)
        self._late = threading.Timer(_REQUEST_SECONDS, self._cut_off)
        self._late.daemon = True
        self._late.start()

    def finish(self) -> None:
        """Ends the connection."""
        self._late.cancel()
        super().finish()

    def _cut_off(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def do_GET(self) -> None:
        """Answers a request, whatever its method."""
        try:
            status, content = 200, self._answer()
        except ServingError as error:
            status, content = _HTTP_STATUSES.get(error.code, 500), {"error": error.message}
        except ConnectionError:
            # Whoever asked is gone: there is nobody to answer.
            raise
        except Exception as error:
            logger.exception("a request failed")
            status, content = 500, {"error": f"{type(error).__name__}: {error}"}
        self._respond(status, content)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no HTTP request."""
        self._respond(code, {"error": message or "this is no request"})

    def log_message(self, format: str, *args: Any) -> None:
        """Each request is worth a line only to who looks for a fault."""
        logger.debug(format, *args)

    def _answer(self) -> dict[str, Any]:
        body = self._body()
        if self.command == "POST" and (match := _PREDICT_PATH.fullmatch(self.path)):
            try:
                return self._predict(_model_spec(match), body)
            except RecursionError as error:
                # What the parser still takes may be too deep for those who work with its lists.
                raise invalid(f"JSON Parse error: {error}") from None
        if self.command == "GET" and (match := _MODEL_PATH.fullmatch(self.path)):
            return self._describe(_model_spec(match), bool(match["metadata"]))
        if elsewhere := _ELSEWHERE.match(self.path):
            raise grpc_api.elsewhere(f"{elsewhere['what'] or elsewhere[0]} over REST")
        raise invalid(
            f"Malformed request: {self.command} {self.path[:200]}; there are GET /v1/models/NAME, the same "
            "with /metadata, and POST /v1/models/NAME:predict, each also with /versions/N behind NAME"
        )

    def _body(self) -> bytes:
        """Reads what was sent, also what is refused: closing before would reset the answer away."""
        for header in ("Transfer-Encoding", "Content-Encoding"):
            if header in self.headers:
                raise grpc_api.elsewhere(f"{header} (send the body whole and as it is)")
        length = self.headers.get("Content-Length", "0")
        if not (length.isdecimal() and len(length) <= _LONGEST_NUMBER):
            raise invalid(f"Content-Length {length[:20]!r} is no number")
        if int(length) > MAX_MESSAGE_BYTES:
            with suppress(TimeoutError):
                for _ in range(min(int(length), _MAX_REFUSED) >> 16):
                    self.rfile.read(1 << 16)
            raise ServingError(
                _TOO_LARGE,
                f"the request is larger than {MAX_MESSAGE_BYTES} bytes; TensorFlow Serving takes larger ones "
                "(--backend docker)",
            )
        body = b""
        with suppress(TimeoutError):
            body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise invalid("the request's body ends before its Content-Length")
        return body

    def _describe(self, spec: model_pb2.ModelSpec, with_metadata: bool) -> dict[str, Any]:
        if not with_metadata:
            statuses = self.server.model.statuses(spec)
            return _as_json(get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses))
        metadata = grpc_api.metadata(self.server.model, spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        metadata.metadata[SIGNATURE_DEF].Unpack(signatures)
        return {
            "model_spec": _as_json(metadata.model_spec),
            "metadata": {SIGNATURE_DEF: _as_json(signatures)},
        }

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> dict[str, Any]:
        document = read_document(body)
        signature = document.get("signature_name", DEFAULT_SIGNATURE)
        with self.server.model.lend(spec) as servable:
            definition = servable.signatures.get(signature) if isinstance(signature, str) else None
            if definition is None or not definition.method_name:
                raise invalid(f"Serving signature name: {json.dumps(signature)} not found in signature def")
            return _predictions(servable.run(signature, read_inputs(document, definition.inputs)))

    def _respond(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # One request a connection, so that a connection that idles holds no thread.
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for begin in range(0, len(body), _PIECE_BYTES):
                self.wfile.write(body[begin : begin + _PIECE_BYTES])


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"]:
        number = version_number(match["version"])
        if number is None:
            raise invalid("Malformed request: a version is a number below 2^63")
        spec.version.value = number
    return spec


def _as_json(message: Message) -> dict[str, Any]:
    """A message under the names of its declaration, ``model_spec`` rather than ``modelSpec``."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def read_document(body: bytes) -> dict[str, Any]:
    """Returns a request's JSON object; raises ServingError where it is none."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid("the request is no JSON object")
    return document


def read_inputs(document: Mapping[str, Any], infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> Tensors:
    """Returns what the rows under ``instances`` give each input of a signature; raises ServingError."""
    if "inputs" in document:
        raise grpc_api.elsewhere("the column format, 'inputs' (send rows, 'instances')")
    rows = document.get("instances")
    if not isinstance(rows, list) or not rows:
        raise invalid("'instances' must be a list of one row or more")
    if len(infos) == 1:
        # The name of a single input may be left out.
        [only] = infos
        rows = [row if _is_named(row) else {only: row} for row in rows]
    for number, row in enumerate(rows):
        if not _is_named(row) or row.keys() != infos.keys():
            raise invalid(f"row {number} of 'instances' must be an object with the keys {', '.join(infos)}")
    return {name: _tensor(name, [row[name] for row in rows], info.dtype) for name, info in infos.items()}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() != {"b64"}


def _tensor(name: str, rows: list[Any], data_type: int) -> np.ndarray:
    dtype = dtypes.as_dtype(data_type)
    try:
        if dtype == dtypes.string:
            strings = np.array(_strings(rows), object)
            if all(isinstance(leaf, bytes) for leaf in strings.ravel()):
                return strings
            raise ValueError("its rows differ in shape")
        # As they are: numbers beside one long text would each become as long as that.
        leaves = {type(leaf) for leaf in np.array(rows, object).ravel()}
        if other := leaves - {bool, int, float, list}:
            raise ValueError(f"it holds {', '.join(sorted(kind.__name__ for kind in other))}, no numbers")
        given = np.array(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            values = given.astype(dtype.as_numpy_dtype)
        if given.size and given.dtype.kind not in _KINDS.get(values.dtype.kind, ""):
            raise ValueError(f"it holds {given.dtype.name}, not {dtype.name}")
        same = np.isfinite(values) == np.isfinite(given) if values.dtype.kind == "f" else values == given
        if not np.all(same):
            raise ValueError(f"it holds a number that does not fit {dtype.name}")
        return values
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input '{name}': {error}") from None


def _strings(value: Any) -> Any:
    """The value with bytes for its strings; those that are no text come as ``{"b64": …}``."""
    if isinstance(value, list):
        return [_strings(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        text = value["b64"].encode("ascii")
        # Padding may be left out, as there.
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    raise ValueError(f'{json.dumps(value)[:80]} is neither a string nor {{"b64": …}}')


def _predictions(outputs: Tensors) -> dict[str, Any]:
    """Returns an answer, ready for ``json.dumps``; the name of a single output is left out."""
    sizes = {name: len(values) if values.ndim else 0 for name, values in outputs.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise invalid(f"the outputs are no rows, their sizes are {sizes}; ask over gRPC")
    columns = {name: _json_values(name, values) for name, values in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {
        "predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    }


def _json_values(name: str, values: np.ndarray) -> list[Any]:
    if values.dtype == object:
        # Strings of outputs with such a name are binary.
        as_json = _base64 if name.endswith("_bytes") else lambda value: value.decode(errors="replace")
        strings = np.empty(values.size, object)
        strings[:] = [as_json(value) for value in values.ravel()]
        return strings.reshape(values.shape).tolist()
    if values.dtype == np.float32:
        # Through its shortest decimal form: 0.2 as a double would be 0.20000000298023224.
        return values.astype(str).astype(np.float64).tolist()
    return values.tolist()


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}
