"""A gRPC server that says what a test wants it to say."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from components.serving import messages
from components.serving.messages import Method, to_tensor_proto

Answer = Callable[[Any, grpc.ServicerContext], dict[str, np.ndarray]]
"""PredictRequest to outputs; it may abort."""


@contextmanager
def scripted_server(signatures: list[str], names: list[str], answer: Answer) -> Iterator[str]:
    """Serves any model; yields the address.

    Args:
        signatures: what its metadata lists.
        names: the classes, which the signature ``labels`` answers.
        answer: called for every other signature.
    """

    def predict(request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_spec.signature_name == "labels":
            colors = np.zeros((1, len(names), 3), np.uint8)
            outputs = {"names": np.array([[name.encode() for name in names]], object), "colors": colors}
        else:
            outputs = answer(request, context)
        response = messages.PREDICT.response_class()
        response.model_spec.version.value = 1
        for name, values in outputs.items():
            response.outputs[name].CopyFrom(to_tensor_proto(values))
        return response

    def metadata(request: Any, context: grpc.ServicerContext) -> Any:
        response = messages.GET_MODEL_METADATA.response_class()
        response.model_spec.version.value = 1
        listed = messages.message_class(messages.GET_MODEL_METADATA.module, "SignatureDefMap")()
        for name in signatures:
            listed.signature_def[name].method_name = "tensorflow/serving/predict"
        response.metadata[messages.SIGNATURE_DEF].Pack(listed)
        return response

    server = grpc.server(ThreadPoolExecutor(2))
    for method, function in ((messages.PREDICT, predict), (messages.GET_MODEL_METADATA, metadata)):
        server.add_generic_rpc_handlers((_handler(method, function),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def _handler(method: Method, function: Callable[[Any, grpc.ServicerContext], Any]) -> grpc.GenericRpcHandler:
    handler = grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=method.request_class.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(method.service, {method.name: handler})
