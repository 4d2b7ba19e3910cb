"""Tensors on the server's wire: bounded as clients send them, answered in TensorFlow Serving's form."""

import math
from typing import Final

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from components.serving.server.errors import ServingError
from components.serving.tensors import MAX_DIMENSIONS, from_tensor_proto, tensor_dtype

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest request, and the most that one of its tensors may take in memory.

TensorFlow Serving takes up to 2 GiB. A server that shares a developer's machine must not be brought down by
one request; 64 MiB hold a batch of some hundred photographs, or 21 megapixels decoded.
``--grpc_channel_arguments=grpc.max_receive_message_length=N`` sets another limit for messages.
"""
_POINTER_BYTES: Final = 8
_VALUES_AT_ONCE: Final = 1 << 16
"""How many values are Python objects at a time; such a one takes eight times a float32."""

# Source: the comments of tensorflow/core/framework/tensor.proto.
_FIELDS: Final = {
    np.dtype(np.bool_): (types_pb2.DT_BOOL, "bool_val"),
    np.dtype(np.uint8): (types_pb2.DT_UINT8, "int_val"),
    np.dtype(np.int8): (types_pb2.DT_INT8, "int_val"),
    np.dtype(np.uint16): (types_pb2.DT_UINT16, "int_val"),
    np.dtype(np.int16): (types_pb2.DT_INT16, "int_val"),
    np.dtype(np.int32): (types_pb2.DT_INT32, "int_val"),
    np.dtype(np.uint32): (types_pb2.DT_UINT32, "uint32_val"),
    np.dtype(np.int64): (types_pb2.DT_INT64, "int64_val"),
    np.dtype(np.uint64): (types_pb2.DT_UINT64, "uint64_val"),
    np.dtype(np.float16): (types_pb2.DT_HALF, "half_val"),
    np.dtype(np.float32): (types_pb2.DT_FLOAT, "float_val"),
    np.dtype(np.float64): (types_pb2.DT_DOUBLE, "double_val"),
    np.dtype(object): (types_pb2.DT_STRING, "string_val"),
}


def decode(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Returns an input's values, strings as ``object`` arrays of bytes.

    A shape costs nothing to claim and TensorFlow repeats the last value to fill it, so what the tensor would
    take in memory is reckoned before anything is allocated.

    Raises:
        ServingError: INVALID_ARGUMENT, the tensor is malformed, of a type that no client sends, or too large.
    """
    try:
        needed = _bytes_needed(proto)
        if needed > MAX_MESSAGE_BYTES:
            raise ValueError(f"it would take {needed} bytes, more than the {MAX_MESSAGE_BYTES} of a request")
        return from_tensor_proto(proto)
    except (ValueError, OverflowError) as error:
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"input {name!r}: {error}") from None


def encode(values: np.ndarray) -> tensor_pb2.TensorProto:
    """Returns an output as a TensorProto with its values in the field of their type.

    That, not ``tensor_content``, is what TensorFlow Serving answers, and clients read such as ``float_val``.

    Raises:
        ServingError: UNIMPLEMENTED, a type that the fields cannot hold.
    """
    if values.dtype not in _FIELDS:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"outputs of type {values.dtype} cannot be sent")
    data_type, field = _FIELDS[values.dtype]
    proto = tensor_pb2.TensorProto(dtype=data_type)
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    # half_val holds the 16 bits of a value.
    flat = values.ravel().view(np.uint16) if values.dtype == np.float16 else values.ravel()
    values_of_proto = getattr(proto, field)
    for start in range(0, flat.size, _VALUES_AT_ONCE):
        values_of_proto.extend(flat[start : start + _VALUES_AT_ONCE].tolist())
    return proto


def _bytes_needed(proto: tensor_pb2.TensorProto) -> int:
    rank = len(proto.tensor_shape.dim)
    if rank > MAX_DIMENSIONS:
        # Before they are multiplied: a product of thousands of sizes takes a minute.
        raise ValueError(f"a tensor of {rank} dimensions cannot be read, only of up to {MAX_DIMENSIONS}")
    # A negative size is an error that from_tensor_proto words; here it must not cancel another.
    elements = math.prod(max(dimension.size, 0) for dimension in proto.tensor_shape.dim)
    dtype = tensor_dtype(proto.dtype)
    if dtype != np.dtype(object):
        return elements * dtype.itemsize
    if proto.tensor_content:
        raise ValueError("strings belong into string_val, not into tensor_content")
    repeated = len(proto.string_val[-1]) if proto.string_val else 0
    return elements * (repeated + _POINTER_BYTES) if elements > len(proto.string_val) else 0
