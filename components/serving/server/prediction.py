"""What the server answers, whichever way the question came: messages in, messages out.

Every refusal is a ServingError whose code is TensorFlow Serving's for the same mistake. Source:
predict_util.cc, get_model_metadata_impl.cc, get_model_status_impl.cc and model_service_impl.cc there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)

from components.serving.messages import SIGNATURE_DEF
from components.serving.server import tensor_protos
from components.serving.server.errors import invalid
from components.serving.server.manager import ModelManager
from components.serving.server.model_config import ModelConfig, from_proto
from components.serving.server.servable import DEFAULT_SIGNATURE, Servable


def predict(manager: ModelManager, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Runs a model; the answer's model_spec says which version and signature it was."""
    spec = _model_spec(request)
    name = spec.signature_name or DEFAULT_SIGNATURE
    with acquire(manager, spec) as servable:
        inputs = {key: tensor_protos.decode(key, proto) for key, proto in request.inputs.items()}
        outputs = servable.run(name, inputs, tuple(request.output_filter))
        response = predict_pb2.PredictResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        response.model_spec.signature_name = name
    for key, values in outputs.items():
        response.outputs[key].CopyFrom(tensor_protos.encode(values))
    return response


def get_model_metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Tells the signatures of a version."""
    spec = _model_spec(request)
    if not request.metadata_field:
        raise invalid(
            f"GetModelMetadataRequest must specify at least one metadata_field, such as {SIGNATURE_DEF}"
        )
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported, only {SIGNATURE_DEF} is")
    with acquire(manager, spec) as servable:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def get_model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Tells the states of all versions of a model, or of the one asked about."""
    spec = _model_spec(request)
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in manager.status(spec.name, *_choice(spec)):
        entry = response.model_version_status.add(version=status.version, state=int(status.state))
        entry.status.error_code = status.code.value[0]
        entry.status.error_message = status.message
    return response


def reload_config(
    reload: Callable[[list[ModelConfig]], None], request: model_management_pb2.ReloadConfigRequest
) -> model_management_pb2.ReloadConfigResponse:
    """Has the server ``reload`` what the request lists; what it does not list is unloaded."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    reload(from_proto(request.config))
    response = model_management_pb2.ReloadConfigResponse()
    response.status.error_code = grpc.StatusCode.OK.value[0]
    return response


def acquire(manager: ModelManager, spec: model_pb2.ModelSpec) -> AbstractContextManager[Servable]:
    """Keeps the version that the spec asks for from being unloaded."""
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    return manager.acquire(spec.name, *_choice(spec))


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _choice(spec: model_pb2.ModelSpec) -> tuple[int | None, str | None]:
    """Version and label that the spec chooses by; at most one of them is given."""
    chosen = spec.WhichOneof("version_choice")
    return (
        spec.version.value if chosen == "version" else None,
        spec.version_label if chosen == "version_label" else None,
    )
