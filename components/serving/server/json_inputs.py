"""What a request says in the JSON of TensorFlow Serving's REST API, in row or in column format.

Source: tensorflow_serving/util/json_tensor.cc, whose rules and most of whose messages these are.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from components.serving.server.errors import ServingError, invalid

_B64: Final = "b64"
_MAX_RANK: Final = 32
_SHOWN: Final = 80
_LARGEST_EXACT_FLOAT32: Final = 2**24 - 1

_INTEGERS: Final = {
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT64: np.uint64,
}
_FLOATS: Final = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_Infos = Mapping[str, meta_graph_pb2.TensorInfo]


class Inputs(NamedTuple):
    """What a request gives a model, and in which format it wants the answer."""

    tensors: dict[str, np.ndarray]
    rows: bool


def parse_request(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a request; ``NaN``, ``Infinity`` and ``-Infinity`` are numbers.

    Raises:
        ServingError: INVALID_ARGUMENT, it is none.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """Returns the signature that a request names, empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("'signature_name' key must be a string value")
    return name


def read_inputs(document: Mapping[str, Any], infos: _Infos) -> Inputs:
    """Returns the tensors under ``instances`` (one item a row) or ``inputs`` (one value a tensor).

    Args:
        document: the request.
        infos: the signature's inputs; their dtypes decide what the values must be.

    Raises:
        ServingError: INVALID_ARGUMENT, or UNIMPLEMENTED for a dtype that JSON has no values for.
    """
    if "instances" in document and "inputs" in document:
        raise invalid("expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        columns, rows = _columns_of_rows(document["instances"], infos), True
    elif "inputs" in document:
        columns, rows = _columns(document["inputs"], infos), False
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    return Inputs({name: _tensor(name, value, infos[name].dtype) for name, value in columns.items()}, rows)


def _columns_of_rows(instances: Any, infos: _Infos) -> dict[str, list[Any]]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' to be a list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    named = _is_named(instances[0])
    if not named and len(infos) > 1:
        raise invalid(
            f"instances is a plain list, but expecting list of objects with the keys {_listed(infos)}"
        )
    for index, instance in enumerate(instances):
        if _is_named(instance) != named:
            kinds = ("object", "value/list") if named else ("value/list", "object")
            raise invalid(f"Expecting {kinds[0]} but got {kinds[1]} at item {index} of 'instances' list")
        if named and instance.keys() != infos.keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object must only have keys: "
                f"{_listed(infos)}; it has {_listed(instance)}"
            )
    if named:
        return {name: [instance[name] for instance in instances] for name in infos}
    return {next(iter(infos)): instances}


def _columns(inputs: Any, infos: _Infos) -> dict[str, Any]:
    if not _is_named(inputs):
        if len(infos) > 1:
            raise invalid(
                f"inputs is a plain value/list, but expecting an object with the keys {_listed(infos)}"
            )
        return {next(iter(infos)): inputs}
    for name in infos:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in infos}


def _tensor(name: str, value: Any, dtype: int) -> np.ndarray:
    shape, leaves = _flattened(name, value)
    values = _values(name, leaves, dtype)
    return values.reshape(shape)


def _flattened(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """The shape, read along each first item, and all leaves; every list must be as long as its shape says."""
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        if len(shape) > _MAX_RANK:
            raise invalid(f"input '{name}': lists are nested more than {_MAX_RANK} deep")
        probe = probe[0] if probe else None
    items = [value]
    for level, size in enumerate(shape):
        for item in items:
            if not isinstance(item, list):
                raise invalid(
                    f"input '{name}': JSON Value: {_shown(item)} found at incorrect level: {level} in the "
                    f"JSON DOM. Expected at level: {len(shape)}"
                )
            if len(item) != size:
                raise invalid(
                    f"input '{name}': Encountered list at unexpected size: {len(item)} at level: {level} "
                    f"expected size: {size}"
                )
        items = list(chain.from_iterable(items))
    return shape, items


def _values(name: str, leaves: list[Any], dtype: int) -> np.ndarray:
    if dtype == types_pb2.DT_STRING:
        strings = np.empty(len(leaves), object)
        strings[:] = [_string(name, leaf) for leaf in leaves]
        return strings
    if dtype == types_pb2.DT_BOOL:
        _check_types(name, leaves, {bool}, dtype)
        return np.array(leaves, np.bool_)
    if dtype in _INTEGERS:
        _check_types(name, leaves, {int}, dtype)
        return _integers(name, leaves, np.dtype(_INTEGERS[dtype]))
    if dtype in _FLOATS:
        _check_types(name, leaves, {int, float}, dtype)
        return _floats(name, leaves, np.dtype(_FLOATS[dtype]))
    raise ServingError(
        grpc.StatusCode.UNIMPLEMENTED, f"input '{name}': Conversion of JSON values to type: {_name(dtype)}"
    )


def _check_types(name: str, leaves: Iterable[Any], allowed: set[type], dtype: int) -> None:
    if set(map(type, leaves)) <= allowed:
        return
    wrong = next(leaf for leaf in leaves if type(leaf) not in allowed)
    raise _wrong_type(name, wrong, dtype)


def _integers(name: str, leaves: list[int], dtype: np.dtype) -> np.ndarray:
    limits: np.iinfo = np.iinfo(dtype)
    for leaf in (min(leaves, default=0), max(leaves, default=0)):
        if not limits.min <= leaf <= limits.max:
            raise invalid(
                f"input '{name}': {_shown(leaf)} does not fit {dtype} ({limits.min} to {limits.max})"
            )
    return np.array(leaves, dtype)


def _floats(name: str, leaves: list[int | float], dtype: np.dtype) -> np.ndarray:
    try:
        exact = np.array(leaves, np.float64)
    except OverflowError:
        raise _lossy(name, max(leaves, key=abs), dtype) from None
    if dtype == np.float32:
        finite = np.where(np.isfinite(exact), exact, 0)
        if finite.size and np.abs(finite).max() > np.finfo(np.float32).max:
            raise _lossy(name, finite[np.abs(finite).argmax()], dtype)
        whole = max((abs(leaf) for leaf in leaves if type(leaf) is int), default=0)
        if whole > _LARGEST_EXACT_FLOAT32:
            raise _lossy(name, whole, dtype)
    return exact.astype(dtype)


def _string(name: str, leaf: Any) -> bytes:
    try:
        if isinstance(leaf, str):
            return leaf.encode()
        if _is_base64(leaf):
            text = leaf[_B64].encode("ascii")
            # Padding may be left out, as there.
            return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except UnicodeEncodeError:
        raise invalid(f"input '{name}': {_shown(leaf)} holds characters that cannot be encoded") from None
    except binascii.Error:
        raise invalid(f"input '{name}': Unable to base64 decode {_shown(leaf[_B64])}") from None
    if isinstance(leaf, dict):
        raise invalid(f"input '{name}': JSON Value: {_shown(leaf)} not formatted correctly for base64 data")
    raise _wrong_type(name, leaf, types_pb2.DT_STRING)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_B64} and isinstance(value[_B64], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _wrong_type(name: str, value: Any, dtype: int) -> ServingError:
    return invalid(f"input '{name}': JSON Value: {_shown(value)} is not of expected type: {_name(dtype)}")


def _lossy(name: str, value: Any, dtype: np.dtype) -> ServingError:
    return invalid(
        f"input '{name}': Cannot convert JSON value: {_shown(value)} to {dtype} without loss of precision."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _name(dtype: int) -> str:
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def _shown(value: Any) -> str:
    """A glimpse of a value, which may be as large as the request."""
    if isinstance(value, list | dict):
        return f"{'list' if isinstance(value, list) else 'object'} of {len(value)}"
    text = json.dumps(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
