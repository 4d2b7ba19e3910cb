"""TensorProto to NumPy and back, without TensorFlow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from components.serving.descriptors import enum_values, message_class

MAX_DIMENSIONS: Final = 32
"""NumPy's own limit; TensorFlow's is 254."""


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
    raise ValueError(f"arrays of dtype {values.dtype} cannot be sent; known are object (bytes), {_known()}")


def from_tensor_proto(proto: Any) -> np.ndarray:
    """Returns a TensorProto's values, strings as an ``object`` array of bytes.

    TensorFlow leaves out what repeats: where fewer values are given than the shape holds, the last one
    fills the rest, and no value at all means zeros.

    Raises:
        ValueError: a type unknown here, or more values than the shape holds.
    """
    dtype = tensor_dtype(proto.dtype)
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise ValueError(f"a tensor of shape {list(shape)} cannot be read")
    size = math.prod(shape)
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
    proto: Any = message_class("tensorflow.core.framework.tensor_pb2", "TensorProto")()
    proto.dtype = _data_types()[type_name]
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _data_types() -> dict[str, int]:
    return enum_values("tensorflow.core.framework.types_pb2", "DataType")


def _type_name(data_type: int) -> str:
    return next((name for name, number in _data_types().items() if number == data_type), str(data_type))


def _known() -> str:
    return ", ".join(str(kind.dtype) for kind in _KINDS.values())
