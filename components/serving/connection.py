"""Asks a model server, again and again if need be."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc

from components.serving import messages
from components.serving.channel import Tls, open_channel
from components.serving.failures import Call, ModelUnavailableError, ServingClientError, explain
from components.serving.messages import Method, ModelSpec

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 2.0
_logger = logging.getLogger(__name__)


class Connection:
    """Calls of one server's methods, repeated while there is hope; safe to share between threads.

    Asking for a mask twice does no harm, so a request is repeated whenever the server cannot be reached, is
    stopping, or answers that its queue is full (UNAVAILABLE, RESOURCE_EXHAUSTED, CANCELLED, ABORTED), and
    when one that did serve the model does not find it (NOT_FOUND while it restarts).
    """

    def __init__(
        self, address: str, *, timeout: float, patience: float, tls: Tls | None, max_message_bytes: int
    ):
        """Prepares the channel; the arguments are `SegmentationClient`'s."""
        self.address = address
        self._timeout = timeout
        self._patience = patience
        self._channel = open_channel(address, tls, max_message_bytes)
        self._stubs: dict[Method, grpc.UnaryUnaryMultiCallable] = {}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._answered = False
        self._outage = False
        self._last_failure = 0.0

    def close(self) -> None:
        """Closes the channel; requests under way fail, and none is repeated any more."""
        self._closing.set()
        self._channel.close()

    def call(self, method: Method, request: Any, model: ModelSpec) -> Any:
        """Asks until there is an answer, a refusal, or no patience left.

        Args:
            method: what is called.
            request: the method's request message.
            model: the model that the request is about, for error messages.

        Raises:
            ModelUnavailableError: no request about this model would be answered.
            ServingClientError: this one is not.
        """
        give_up: float | None = None
        for delay in _delays():
            try:
                response = self._stub(method)(request, timeout=self._timeout)
            except grpc.RpcError as error:
                failure = explain(error, Call(self.address, model, self._timeout, self._answered))
                give_up = give_up or time.monotonic() + self._patience
                hopeless = not failure.transient or time.monotonic() + delay > give_up
                if hopeless:
                    raise self._with_versions(failure, model) from None
                self._note_outage(failure)
                if self._closing.wait(delay):
                    raise failure from None
            else:
                self._note_answer()
                return response
        raise AssertionError("there is always another delay")

    def _stub(self, method: Method) -> grpc.UnaryUnaryMultiCallable:
        # Made when first needed: each method's descriptors take some milliseconds to read.
        if method not in self._stubs:
            self._stubs[method] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request_class.SerializeToString,
                response_deserializer=method.response_class.FromString,
            )
        return self._stubs[method]

    def _with_versions(self, failure: ServingClientError, model: ModelSpec) -> ServingClientError:
        """Adds to "not found" what the server does have of the model."""
        if failure.code != grpc.StatusCode.NOT_FOUND:
            return failure
        request = messages.status_request(ModelSpec(model.name))
        try:
            response = self._stub(messages.GET_MODEL_STATUS)(request, timeout=self._timeout)
        except grpc.RpcError:
            found = "it knows no model of that name"
        else:
            found = "its versions: " + ", ".join(
                f"{status.version} {status.state.name}" + (f" ({status.error})" if status.error else "")
                for status in messages.read_status_response(response)
            )
        return ModelUnavailableError(failure.code, f"{failure}; {found}")

    def _note_outage(self, failure: ServingClientError) -> None:
        """Logs the first of the failures that follow one another.

        Neither a full queue nor a request that a stopping server cut off is an outage yet.
        """
        with self._lock:
            self._last_failure = time.monotonic()
            if self._outage or not isinstance(failure, ModelUnavailableError):
                return
            self._outage = True
        _logger.warning("%s; trying again for up to %g s", failure, self._patience)

    def _note_answer(self) -> None:
        self._answered = True
        # A server that stops takes its connections down one by one, and answers on those that are left.
        if time.monotonic() - self._last_failure > _LONGEST_DELAY:
            self._outage = False


def _delays() -> Iterator[float]:
    """Seconds to wait between attempts: doubling up to a limit, half of it random.

    Requests that failed together would otherwise come back together.
    """
    delay = _FIRST_DELAY
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(2 * delay, _LONGEST_DELAY)
