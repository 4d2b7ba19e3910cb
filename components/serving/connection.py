"""Asks a model server; waiting for it and repeating a request are gRPC's own."""

import logging
from typing import Any, Final

import grpc

from components.serving import messages
from components.serving.channel import Tls, open_channel
from components.serving.failures import ModelUnavailableError, ServingClientError, explain, too_large
from components.serving.messages import Method, ModelSpec

_AWAY: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE

_logger = logging.getLogger(__name__)


class Connection:
    """Calls of one server's methods; safe to share between threads.

    Asking for a mask twice does no harm, so a request waits for a server that cannot be reached, and is
    repeated where it is stopping or overloaded; see `components.serving.channel.open_channel`.
    """

    def __init__(
        self, address: str, *, timeout: float, patience: float, tls: Tls | None, max_message_bytes: int
    ):
        """Prepares the channel; the arguments are `SegmentationClient`'s."""
        self.address = address
        self._timeout = timeout
        self._patience = patience
        self._max_message_bytes = max_message_bytes
        self._channel = open_channel(address, tls, max_message_bytes, patience)
        self._stubs: dict[Method, grpc.UnaryUnaryMultiCallable] = {}
        self._has_greeted = False
        self._is_away = False

    def close(self) -> None:
        """Closes the channel; requests under way fail."""
        self._channel.close()

    def call(self, method: Method, request: Any, model: ModelSpec) -> Any:
        """Asks until there is an answer, a refusal, or no time left.

        Args:
            method: what is called.
            request: the method's request message.
            model: the model that the request is about, for error messages.

        Raises:
            ModelUnavailableError: no request about this model would be answered.
            ServingClientError: this one is not.
        """
        if (size := request.ByteSize()) > self._max_message_bytes:
            # gRPC says the same, but only after it has repeated the request.
            raise too_large("request", size, self._max_message_bytes)
        if not self._has_greeted:
            self._greet(model)
        try:
            return self._stub(method)(
                request, timeout=self._timeout + self._patience, wait_for_ready=self._patience > 0
            )
        except grpc.RpcError as error:
            raise self._explained(error, model) from None

    def _greet(self, model: ModelSpec) -> None:
        """Waits for the server before the first request, and says why: gRPC would wait in silence."""
        failure = self._failure_to_connect(model)
        if failure:
            if not failure.transient or not self._patience:
                raise failure
            self._is_away = True
            _logger.warning("%s; trying again for up to %g s", failure, self._patience)
            try:
                self._status(model, self._patience, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                    raise failure from None
        self._has_greeted = True
        if self._patience:
            self._channel.subscribe(self._note_connectivity)

    def _note_connectivity(self, connectivity: grpc.ChannelConnectivity) -> None:
        if connectivity is _AWAY and not self._is_away:
            _logger.warning("lost %s; trying again for up to %g s", self.address, self._patience)
        if connectivity in (_AWAY, grpc.ChannelConnectivity.READY):
            self._is_away = connectivity is _AWAY

    def _failure_to_connect(self, model: ModelSpec) -> ServingClientError | None:
        """Says why the server cannot be reached; a call that neither waits nor is repeated tells."""
        try:
            self._status(model, self._timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return explain(error, self.address, model, self._timeout)
        return None

    def _status(self, model: ModelSpec, timeout: float, wait_for_ready: bool = False) -> Any:
        return self._stub(messages.GET_MODEL_STATUS)(
            messages.status_request(model), timeout=timeout, wait_for_ready=wait_for_ready
        )

    def _explained(self, error: grpc.RpcError, model: ModelSpec) -> ServingClientError:
        waited = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._patience > 0
        # Either the server was away or it was slow.
        if waited and (away := self._failure_to_connect(model)):
            return away
        failure = explain(error, self.address, model, self._timeout + self._patience)
        if failure.code is grpc.StatusCode.NOT_FOUND:
            return ModelUnavailableError(failure.code, f"{failure}; {self._versions(model)}")
        return failure

    def _versions(self, model: ModelSpec) -> str:
        """What the server does have of the model."""
        try:
            response = self._status(ModelSpec(model.name), self._timeout)
        except grpc.RpcError:
            return "it knows no model of that name"
        return "its versions: " + ", ".join(
            f"{status.version} {status.state.name}" + (f" ({status.error})" if status.error else "")
            for status in messages.read_status_response(response)
        )

    def _stub(self, method: Method) -> grpc.UnaryUnaryMultiCallable:
        # Made when first needed: each method's descriptors take some milliseconds to read.
        if method not in self._stubs:
            self._stubs[method] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request_class.SerializeToString,
                response_deserializer=method.response_class.FromString,
            )
        return self._stubs[method]
