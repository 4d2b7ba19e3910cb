"""What is answered in the JSON of TensorFlow Serving's REST API, in the format of the request.

Source: tensorflow_serving/util/json_tensor.cc, whose rules these are.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from components.serving.server.errors import invalid

_BYTES_SUFFIX: Final = "_bytes"
"""Strings of outputs with such a name are binary, and answered in base64."""
_WRITABLE: Final = frozenset(
    np.dtype(kind)
    for kind in (
        *(np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64),
        *(np.float32, np.float64, np.bool_, np.object_),
    )
)
"""The types that there have a form in JSON; half is none of them."""


def write_outputs(outputs: Mapping[str, np.ndarray], rows: bool) -> dict[str, Any]:
    """Returns an answer, ready for ``json.dumps``, in the format of the request.

    The name of a single output is left out.

    Raises:
        ServingError: INVALID_ARGUMENT, rows of outputs that differ in number, or a dtype without JSON values.
    """
    if rows:
        _check_rows(outputs)
    values = {name: _json_values(name, tensor) for name, tensor in outputs.items()}
    if len(values) == 1:
        return {"predictions" if rows else "outputs": next(iter(values.values()))}
    if not rows:
        return {"outputs": values}
    by_row = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(values, row, strict=True)) for row in by_row]}


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    sizes = {}
    for name, tensor in outputs.items():
        if tensor.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information; ask with 'inputs' instead")
        if len(tensor) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(tensor)}")
        sizes[name] = len(tensor)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise invalid(f"outputs have inconsistent batch sizes: {listed}; ask with 'inputs' instead")


def _json_values(name: str, tensor: np.ndarray) -> Any:
    if tensor.dtype not in _WRITABLE:
        raise invalid(f"Failed to write JSON value of '{name}' for tensor type: {tensor.dtype}")
    if tensor.dtype == np.float32:
        # Through its shortest decimal form: 0.2 as a double would be 0.20000000298023224.
        return tensor.astype(str).astype(np.float64).tolist()
    if tensor.dtype != object:
        return tensor.tolist()
    binary = name.endswith(_BYTES_SUFFIX)
    values = np.empty(tensor.size, object)
    values[:] = [_json_string(value, binary) for value in tensor.ravel()]
    return values.reshape(tensor.shape).tolist()


def _json_string(value: bytes, binary: bool) -> str | dict[str, str]:
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode(errors="replace")
