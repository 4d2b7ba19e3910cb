"""What a client says to TensorFlow Serving and what it hears, as plain Python and NumPy, without TensorFlow.

The generated modules of tensorflow and tensorflow-serving-api hold what a client needs, but importing one
of them imports TensorFlow: seconds and hundreds of megabytes for a few hundred bytes of message
descriptors. Those bytes stand in the generated files as a literal, so they are read from there, without
running the file, into a descriptor pool of their own. Nothing is copied into this project, the messages
are those of the version installed, and a process that imports TensorFlow as well, before or after, has no
second definition in the default pool.
"""

import ast
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

_POOL = descriptor_pool.DescriptorPool()
_GENERATED: Final = "_pb2"
_TENSOR_MODULE: Final = "tensorflow.core.framework.tensor_pb2"
_TYPES_MODULE: Final = "tensorflow.core.framework.types_pb2"


@dataclass(frozen=True)
class Method:
    """A method of TensorFlow Serving's gRPC API."""

    service: str
    name: str
    module: str
    """The generated module that declares its messages."""

    @property
    def path(self) -> str:
        """The method's path on the wire."""
        return f"/{self.service}/{self.name}"

    @property
    def request_class(self) -> Any:
        """Class of the method's request message."""
        return message_class(self.module, f"{self.name}Request")

    @property
    def response_class(self) -> Any:
        """Class of the method's response message."""
        return message_class(self.module, f"{self.name}Response")


PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"
PREDICT: Final = Method(PREDICTION_SERVICE, "Predict", "tensorflow_serving.apis.predict_pb2")
GET_MODEL_METADATA: Final = Method(
    PREDICTION_SERVICE, "GetModelMetadata", "tensorflow_serving.apis.get_model_metadata_pb2"
)
GET_MODEL_STATUS: Final = Method(
    MODEL_SERVICE, "GetModelStatus", "tensorflow_serving.apis.get_model_status_pb2"
)

SIGNATURE_DEF: Final = "signature_def"
"""The one metadata field that TensorFlow Serving answers."""


@dataclass(frozen=True)
class ModelSpec:
    """Which model is asked: the latest version that is served, or the one that a version or a label names."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(f"version {self.version} or label {self.label!r}: only one of them can choose")
        if self.version is not None and not 0 <= self.version < 2**63:
            raise ValueError(f"{self.version} is no version of a model: versions are 0 … {2**63 - 1}")

    def __str__(self) -> str:
        if self.version is not None:
            return f"model {self.name!r} version {self.version}"
        return f"model {self.name!r}" + ("" if self.label is None else f" label {self.label!r}")

    def fill(self, message: Any, signature: str = "") -> None:
        """Writes itself into a ModelSpec message; no signature means ``serving_default``."""
        message.name = self.name
        message.signature_name = signature
        if self.version is not None:
            message.version.value = self.version
        if self.label is not None:
            message.version_label = self.label


@dataclass(frozen=True)
class Tensors:
    """What a model answered."""

    outputs: Mapping[str, np.ndarray]
    version: int
    """The version that answered, whichever was asked."""


@dataclass(frozen=True)
class Metadata:
    """What the server tells about a model."""

    signatures: Mapping[str, Mapping[str, tuple[int, ...]]]
    """The shapes of each signature's outputs; -1 where any size goes, empty where the rank is not known."""
    version: int


class State(IntEnum):
    """Where a version is in its life: ``ModelVersionStatus.State``."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """How a version of a model is doing."""

    version: int
    state: State
    error: str
    """Why it could not be loaded; empty where nothing went wrong."""


def predict_request(spec: ModelSpec, signature: str, inputs: Mapping[str, np.ndarray]) -> Any:
    """Builds a PredictRequest; strings are ``object`` arrays of bytes."""
    request = PREDICT.request_class()
    spec.fill(request.model_spec, signature)
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(to_tensor_proto(values))
    return request


def read_predict_response(response: Any) -> Tensors:
    """Reads a PredictResponse; a tensor that cannot be read is a ValueError that names it."""
    outputs = {}
    for name, proto in response.outputs.items():
        try:
            outputs[name] = from_tensor_proto(proto)
        except ValueError as error:
            raise ValueError(f"output {name!r}: {error}") from None
    return Tensors(outputs, response.model_spec.version.value)


def metadata_request(spec: ModelSpec) -> Any:
    """Builds a GetModelMetadataRequest for the signatures."""
    request = GET_MODEL_METADATA.request_class(metadata_field=[SIGNATURE_DEF])
    spec.fill(request.model_spec)
    return request


def read_metadata_response(response: Any) -> Metadata:
    """Reads the signatures of a GetModelMetadataResponse."""
    signature_map = message_class(GET_MODEL_METADATA.module, "SignatureDefMap")()
    signature_map.ParseFromString(response.metadata[SIGNATURE_DEF].value)
    signatures: Mapping[str, Any] = signature_map.signature_def
    return Metadata(
        {
            name: {
                output: tuple(size.size for size in info.tensor_shape.dim)
                for output, info in signature.outputs.items()
            }
            for name, signature in signatures.items()
        },
        response.model_spec.version.value,
    )


def status_request(spec: ModelSpec) -> Any:
    """Builds a GetModelStatusRequest; without a version it asks about all."""
    request = GET_MODEL_STATUS.request_class()
    spec.fill(request.model_spec)
    return request


def read_status_response(response: Any) -> list[VersionStatus]:
    """Reads a GetModelStatusResponse, newest version first."""
    statuses = [
        VersionStatus(status.version, State(status.state), status.status.error_message)
        for status in response.model_version_status
    ]
    return sorted(statuses, key=lambda status: -status.version)


_MAX_DIMENSIONS: Final = 32
"""NumPy's own limit; TensorFlow's is 254. A product of thousands of sizes would take a minute."""


def _as_is(values: Any, dtype: np.dtype) -> np.ndarray:
    return np.fromiter(values, dtype, len(values))


def _from_bits(values: Any, dtype: np.dtype) -> np.ndarray:
    """``half_val`` holds each value's 16 bits as an integer."""
    return np.fromiter(values, np.uint16, len(values)).view(dtype)


@dataclass(frozen=True)
class _Kind:
    dtype: np.dtype
    field: str
    """The repeated field that holds the values where ``tensor_content`` does not."""
    read: Callable[[Any, np.dtype], np.ndarray] = _as_is


_STRING: Final = "DT_STRING"
# Source: the comments of tensorflow/core/framework/tensor.proto.
_KINDS: Final = {
    "DT_BOOL": _Kind(np.dtype(np.bool_), "bool_val"),
    "DT_UINT8": _Kind(np.dtype(np.uint8), "int_val"),
    "DT_INT8": _Kind(np.dtype(np.int8), "int_val"),
    "DT_UINT16": _Kind(np.dtype(np.uint16), "int_val"),
    "DT_INT16": _Kind(np.dtype(np.int16), "int_val"),
    "DT_INT32": _Kind(np.dtype(np.int32), "int_val"),
    "DT_UINT32": _Kind(np.dtype(np.uint32), "uint32_val"),
    "DT_INT64": _Kind(np.dtype(np.int64), "int64_val"),
    "DT_UINT64": _Kind(np.dtype(np.uint64), "uint64_val"),
    "DT_HALF": _Kind(np.dtype(np.float16), "half_val", _from_bits),
    "DT_FLOAT": _Kind(np.dtype(np.float32), "float_val"),
    "DT_DOUBLE": _Kind(np.dtype(np.float64), "double_val"),
}


def tensor_dtype(data_type: int) -> np.dtype:
    """Returns the dtype of a ``DataType`` number; strings are ``object`` arrays of bytes.

    Raises:
        ValueError: a type that this client does not speak.
    """
    name = _type_name(data_type)
    if name == _STRING:
        return np.dtype(object)
    if name not in _KINDS:
        raise ValueError(f"tensors of type {name} cannot be read; known are {_STRING}, {', '.join(_KINDS)}")
    return _KINDS[name].dtype


def to_tensor_proto(values: np.ndarray) -> Any:
    """Returns the array as a TensorProto, ``object`` arrays of bytes as strings.

    Raises:
        ValueError: an array of another dtype.
    """
    if values.dtype.hasobject:
        proto = _new_proto(_STRING, values.shape)
        proto.string_val.extend(values.ravel().tolist())
        return proto
    for name, kind in _KINDS.items():
        if kind.dtype == values.dtype:
            proto = _new_proto(name, values.shape)
            proto.tensor_content = np.ascontiguousarray(values, kind.dtype.newbyteorder("<")).tobytes()
            return proto
    known = ", ".join(str(kind.dtype) for kind in _KINDS.values())
    raise ValueError(f"arrays of dtype {values.dtype} cannot be sent; known are object (bytes), {known}")


def from_tensor_proto(proto: Any, max_bytes: float = math.inf) -> np.ndarray:
    """Returns a TensorProto's values, strings as an ``object`` array of bytes.

    TensorFlow leaves out what repeats: where fewer values are given than the shape holds, the last one
    fills the rest, and no value at all means zeros. A shape costs nothing to claim, so what it would take is
    reckoned before anything is allocated.

    Args:
        proto: the tensor, of whichever descriptor pool.
        max_bytes: the most that it may take in memory.

    Raises:
        ValueError: a type unknown here, more values than the shape holds, or too large a tensor.
    """
    dtype = tensor_dtype(proto.dtype)
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or len(shape) > _MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise ValueError(f"a tensor of shape {list(shape)} cannot be read")
    size = math.prod(shape)
    repeated = len(proto.string_val[-1]) if size > len(proto.string_val) > 0 else 0
    if (needed := size * (dtype.itemsize + repeated)) > max_bytes:
        raise ValueError(f"it would take {needed} bytes, more than {max_bytes}")
    if dtype.hasobject:
        return _filled(np.array(proto.string_val, object), size, b"").reshape(shape)
    kind = _KINDS[_type_name(proto.dtype)]
    if proto.tensor_content:
        stored = np.frombuffer(proto.tensor_content, dtype.newbyteorder("<"))
        if stored.size != size:
            raise ValueError(f"{stored.size} values for a tensor of shape {list(shape)}")
        return stored.astype(dtype, copy=False).reshape(shape)
    return _filled(kind.read(getattr(proto, kind.field), dtype), size, 0).reshape(shape)


def _filled(values: np.ndarray, size: int, empty: bytes | int) -> np.ndarray:
    if values.size == size:
        return values
    if values.size > size:
        raise ValueError(f"{values.size} values for a tensor that holds {size}")
    filled = np.full(size, values[-1] if values.size else empty, values.dtype)
    filled[: values.size] = values
    return filled


def _new_proto(type_name: str, shape: tuple[int, ...]) -> Any:
    proto: Any = message_class(_TENSOR_MODULE, "TensorProto")()
    proto.dtype = data_types()[type_name]
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@cache
def data_types() -> dict[str, int]:
    """Returns the names and numbers of ``DataType``."""
    return {value.name: value.number for value in _file(_TYPES_MODULE).enum_types_by_name["DataType"].values}


def _type_name(data_type: int) -> str:
    return next((name for name, number in data_types().items() if number == data_type), str(data_type))


@cache
def message_class(module: str, name: str) -> type[Message]:
    """Returns the class of a top-level message.

    Args:
        module: the generated module that declares it, such as ``tensorflow_serving.apis.predict_pb2``.
        name: the message's name, such as ``PredictRequest``.

    Raises:
        ImportError: the module is not installed, or is not what the protocol buffer compiler writes.
    """
    return message_factory.GetMessageClass(_file(module).message_types_by_name[name])


@cache
def _file(module: str) -> FileDescriptor:
    """The module's file descriptor in the private pool, together with those that it imports."""
    if module.startswith("google.protobuf."):
        # Part of protobuf itself, and light.
        return _POOL.AddSerializedFile(importlib.import_module(module).DESCRIPTOR.serialized_pb)
    path = _source(module)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for imported in node.names:
                if imported.name.endswith(_GENERATED):
                    _file(f"{node.module}.{imported.name}")
    return _POOL.AddSerializedFile(_serialized_descriptor(tree, path))


def _source(module: str) -> Path:
    package, *parts = module.split(".")
    # Asked for a top-level package, find_spec looks for it without importing it.
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, *parts).with_suffix(".py")
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"{module} is not installed: is tensorflow-serving-api?", name=module)


def _serialized_descriptor(tree: ast.Module, path: Path) -> bytes:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="AddSerializedFile"), args=[ast.Constant(bytes(serialized))]
            ):
                return serialized
    raise ImportError(f"{path} holds no serialized file descriptor", path=str(path))
