"""What a client says to TensorFlow Serving and what it hears, as plain Python and NumPy.

Source of names and numbers: the descriptors that tensorflow-serving-api installs; see
`components.serving.descriptors` for why they are not imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from components.serving.descriptors import message_class
from components.serving.tensors import from_tensor_proto, tensor_dtype, to_tensor_proto


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
class TensorSpec:
    """A signature's input or output."""

    dtype: np.dtype | None
    """``object`` stands for strings, None for what `components.serving.tensors` does not read."""
    shape: tuple[int, ...]
    """-1 where any size goes; empty for a scalar, and where the rank is not known."""


@dataclass(frozen=True)
class Signature:
    """What one of the model's functions takes and returns."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Metadata:
    """What the server tells about a model."""

    signatures: Mapping[str, Signature]
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
    """Reads a GetModelMetadataResponse."""
    signature_map = message_class(GET_MODEL_METADATA.module, "SignatureDefMap")()
    signature_map.ParseFromString(response.metadata[SIGNATURE_DEF].value)
    signatures: Mapping[str, Any] = signature_map.signature_def
    return Metadata(
        {
            name: Signature(_tensor_specs(signature.inputs), _tensor_specs(signature.outputs))
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


def _tensor_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(_dtype_if_known(info.dtype), tuple(size.size for size in info.tensor_shape.dim))
        for name, info in infos.items()
    }


def _dtype_if_known(data_type: int) -> np.dtype | None:
    try:
        return tensor_dtype(data_type)
    except ValueError:
        return None
