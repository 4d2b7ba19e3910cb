"""A model server in the test's own process: TensorFlow Serving's gRPC methods, a threshold for a model."""

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import png_bytes
from PIL import Image, UnidentifiedImageError

from components.serving import messages
from components.serving.client import SegmentationClient
from components.serving.messages import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    Method,
    from_tensor_proto,
    message_class,
    to_tensor_proto,
)

NAMES = ("background", "cat", "dög")
COLORS = ((0, 0, 0), (250, 120, 0), (0, 120, 250))
RAW_VALUES = ((0,), (9,), (255,))
NUM_CLASSES = len(NAMES)


def class_ids_of(image: np.ndarray) -> np.ndarray:
    """The model: red above 170 is class 2, above 85 class 1; uint8 [..., 3] to uint8 [...]."""
    return (image[..., 0] // 86).astype(np.uint8)


def expected_class_ids(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return class_ids_of(np.array(image.convert("RGB")))


def _first_of(encoded: bytes, bands: int) -> bytes:
    with Image.open(io.BytesIO(encoded)) as image:
        stack = np.array(image)
    if stack.ndim != 2 or len(stack) % bands:
        raise OSError("no bands")
    return png_bytes(stack[: len(stack) // bands])


@dataclass
class FakeServer:
    """Serves versions of one model; what it should do wrong is set while it runs."""

    name: str = "pets"
    versions: Sequence[int] = (3,)
    has_labels: bool = True
    raw_values: Sequence[Sequence[int]] = RAW_VALUES
    """Empty as of models that earlier code exported."""
    bands: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """By version: those that it reads, one below the other in a gray PNG, the first for red."""
    shy_versions: Sequence[int] = ()
    """Gone when they are asked for their classes."""
    labels_failures: dict[int, list[tuple[grpc.StatusCode, str]]] = field(default_factory=dict)
    """By version: answered instead of its classes to the next who ask for them."""
    labels_requests: int = 0
    """How often classes were asked for."""
    num_classes: int = NUM_CLASSES
    labels: dict[str, int] = field(default_factory=dict)
    credentials: grpc.ServerCredentials | None = None
    max_receive_bytes: int = -1
    max_images: int = 1000
    """The model's own limit of a request."""
    seconds: float = 0.0
    """How long an answer takes."""
    status_seconds: float = 0.0
    """How long that on its versions takes."""
    failures: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    """Answered to the next predictions instead."""
    port: int = 0
    requests: list[int] = field(default_factory=list)
    """How many images each prediction asked for."""
    seconds_left: list[float] = field(default_factory=list)
    """For how long the client of each was still waiting when it came."""
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _leaving: threading.Event = field(default_factory=threading.Event)
    _server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        """Starts it, on the port that it had if it ran before."""
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", self.max_receive_bytes)]
        self._server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
        self._leaving.clear()
        self._server.add_generic_rpc_handlers(
            (
                _handlers({PREDICT: self._predict, GET_MODEL_METADATA: self._metadata}),
                _handlers({GET_MODEL_STATUS: self._status}),
            )
        )
        address = f"localhost:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        self._server.start()

    def stop(self, grace: float | None = None) -> None:
        """Stops it, by default in the middle of whatever it does."""
        if self._server is not None:
            self._leaving.set()
            self._server.stop(grace).wait()
            self._server = None

    def _predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        spec = request.model_spec
        version = self._version(spec, context)
        if spec.signature_name == "labels":
            self.labels_requests += 1
            if failures := self.labels_failures.get(version):
                context.abort(*failures.pop(0))
            if version in self.shy_versions:
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
            return self._labels_answer(version)
        with self._counted(request):
            self.seconds_left.append(context.time_remaining())
            self._leaving.wait(self.seconds)
            with self._lock:
                failure = self.failures.pop(0) if self.failures else None
            if failure is not None:
                context.abort(*failure)
            if spec.signature_name == "serving_pixels":
                class_ids = class_ids_of(from_tensor_proto(request.inputs["images"]))
                confidence = np.full(class_ids.shape, 0.75, np.float16)
                return _answer(version, class_ids=class_ids, confidence=confidence)
            return self._masks(request, version, context)

    def _masks(self, request: Any, version: int, context: grpc.ServicerContext) -> Any:
        masks, fractions = [], []
        count = request.inputs["image_bytes"].tensor_shape.dim[0].size
        if count > self.max_images:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "{{function_node __inference_1}} assertion failed: "
                f"[{count} images at once; 1 to {self.max_images} are accepted]\n\t [[{{{{node Assert}}}}]]",
            )
        for encoded in from_tensor_proto(request.inputs["image_bytes"]):
            try:
                if bands := self.bands.get(version):
                    encoded = _first_of(encoded, len(bands))
                class_ids = expected_class_ids(encoded)
            except (UnidentifiedImageError, OSError):
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "{{function_node __inference_1}} Unknown image file format. One of JPEG, PNG, GIF, BMP "
                    "required.\n\t [[{{node DecodeImage}}]]",
                )
            masks.append(png_bytes(class_ids))
            counts = np.bincount(class_ids.ravel(), minlength=self.num_classes)
            fractions.append(counts / class_ids.size)
        return _answer(
            version,
            mask_bytes=np.array(masks, object),
            class_fraction=np.array(fractions, np.float32),
        )

    def _labels_answer(self, version: int) -> Any:
        names = np.array([[name.encode() for name in NAMES]], object)
        raw_values = {"raw_values": np.array([self.raw_values], np.int32)} if self.raw_values else {}
        bands = {"bands": np.array([self.bands[version]], np.int32)} if version in self.bands else {}
        return _answer(version, names=names, colors=np.array([COLORS], np.uint8), **raw_values, **bands)

    def _metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = GET_MODEL_METADATA.response_class()
        response.model_spec.version.value = self._version(request.model_spec, context)
        signatures: Any = message_class(GET_MODEL_METADATA.module, "SignatureDefMap")()
        fraction = signatures.signature_def["serving_default"].outputs["class_fraction"]
        fraction.dtype = 1
        for size in (-1, self.num_classes):
            fraction.tensor_shape.dim.add(size=size)
        if self.has_labels:
            signatures.signature_def["labels"].inputs["ignored"].dtype = 7
        response.metadata[messages.SIGNATURE_DEF].Pack(signatures)
        return response

    def _status(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._leaving.wait(self.status_seconds)
        if request.model_spec.name != self.name:
            message = f"Could not find any versions of model {request.model_spec.name}"
            context.abort(grpc.StatusCode.NOT_FOUND, message)
        response = GET_MODEL_STATUS.response_class()
        for version in self.versions:
            response.model_version_status.add(version=version, state=messages.State.AVAILABLE)
        return response

    def _version(self, spec: Any, context: grpc.ServicerContext) -> int:
        if spec.version_label and spec.version_label not in self.labels:
            message = f"Unrecognized servable version label: {spec.version_label}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        if spec.version_label:
            return self.labels[spec.version_label]
        version = spec.version.value if spec.HasField("version") else max(self.versions)
        if spec.name != self.name or version not in self.versions:
            message = f"Servable not found for request: Specific({spec.name}, {version})"
            context.abort(grpc.StatusCode.NOT_FOUND, message)
        return int(version)

    @contextmanager
    def _counted(self, request: Any) -> Iterator[None]:
        with self._lock:
            self.requests.append(sum(proto.tensor_shape.dim[0].size for proto in request.inputs.values()))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def running(server: FakeServer) -> Iterator[FakeServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def two_versions() -> Iterator[FakeServer]:
    """A server of the versions 2 and 3 of ``pets``."""
    with running(FakeServer(versions=(2, 3))) as started:
        yield started


def asked(server: FakeServer, patience: float = 0, **options: object) -> SegmentationClient:
    """A client of ``pets``."""
    return SegmentationClient(server.address, "pets", patience=patience, **options)  # type: ignore[arg-type]


def picture(seed: int, height: int = 12, width: int = 16) -> bytes:
    """An image that has all three classes, another for every seed."""
    return png_bytes(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _answer(version: int, **outputs: np.ndarray) -> Any:
    response = PREDICT.response_class()
    response.model_spec.version.value = version
    for name, values in outputs.items():
        response.outputs[name].CopyFrom(to_tensor_proto(values))
    return response


def _handlers(methods: dict[Method, Any]) -> grpc.GenericRpcHandler:
    (service,) = {method.service for method in methods}
    return grpc.method_handlers_generic_handler(
        service,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                behaviour, method.request_class.FromString, method.response_class.SerializeToString
            )
            for method, behaviour in methods.items()
        },
    )
