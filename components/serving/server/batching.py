"""Dynamic batching: requests that wait for the same signature are run as one, as TensorFlow Serving does.

Three things differ, each on purpose. Requests whose images have other sizes never share a batch, where
TensorFlow Serving fails the batch. A request that breaks a batch fails alone, where TensorFlow Serving
answers all of its batch with the error. A full queue answers RESOURCE_EXHAUSTED, where TensorFlow Serving
answers UNAVAILABLE, which clients take for a server that is gone.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import grpc
import numpy as np

from components.serving.server.batching_parameters import BatchingParameters
from components.serving.server.errors import ServingError, invalid

Tensors = dict[str, np.ndarray]
Execute = Callable[[Mapping[str, np.ndarray]], Tensors]
"""Runs a batch: inputs by name to outputs by name, all with the batch as dimension 0."""


@dataclass(eq=False)
class _Request:
    inputs: Mapping[str, np.ndarray]
    rows: int
    answer: Future[Tensors] = field(default_factory=Future)


@dataclass(eq=False)
class _Batch:
    queue: Hashable
    execute: Execute
    due: float
    """When it leaves, full or not; seconds of `time.monotonic`."""
    requests: list[_Request] = field(default_factory=list)
    rows: int = 0


class BatchScheduler:
    """Threads that run batches, and the queues in which batches fill up."""

    def __init__(self, parameters: BatchingParameters):
        self._parameters = parameters
        self._changed = threading.Condition()
        # Batches that can take more rows, by queue and shapes, the oldest first; and those that cannot.
        self._open: dict[Hashable, _Batch] = {}
        self._full: deque[_Batch] = deque()
        self._enqueued: Counter[Hashable] = Counter()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{parameters.thread_pool_name}_{index}", daemon=True)
            for index in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, queue: Hashable, inputs: Mapping[str, np.ndarray], execute: Execute) -> Tensors:
        """Runs a request together with others of its queue, and returns its own rows of the outputs.

        Args:
            queue: what may be merged: requests with equal queues have the same ``execute``.
            inputs: arrays with the batch as dimension 0, of one size.
            execute: runs the merged inputs; called in one of the scheduler's threads.

        Raises:
            ServingError: INVALID_ARGUMENT, the inputs are no batch or too large a one; RESOURCE_EXHAUSTED,
                the queue is full; UNAVAILABLE, the scheduler has stopped; or what ``execute`` raises.
        """
        request = _Request(inputs, _rows(inputs))
        if request.rows > self._parameters.max_batch_size:
            raise invalid(
                f"Task size {request.rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        with self._changed:
            self._enqueue(request, queue, execute)
        return request.answer.result()

    def stop(self) -> None:
        """Answers the requests that wait, then ends the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, request: _Request, queue: Hashable, execute: Execute) -> None:
        if self._stopping:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down")
        shapes = frozenset((name, array.dtype.str, array.shape[1:]) for name, array in request.inputs.items())
        key = (queue, shapes)
        batch = self._open.get(key)
        if batch is None or batch.rows + request.rows > self._parameters.max_batch_size:
            if self._enqueued[queue] >= self._parameters.max_enqueued_batches:
                raise ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"max_enqueued_batches is {self._parameters.max_enqueued_batches}",
                )
            if batch is not None:
                self._full.append(self._open.pop(key))
            due = time.monotonic() + self._parameters.batch_timeout_micros / 1e6
            batch = self._open[key] = _Batch(queue, execute, due)
            self._enqueued[queue] += 1
        batch.requests.append(request)
        batch.rows += request.rows
        if batch.rows == self._parameters.max_batch_size:
            self._full.append(self._open.pop(key))
        self._changed.notify()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            _answer(batch, self._parameters)

    def _next_batch(self) -> _Batch | None:
        """Waits for a batch that is full or due; None when the scheduler stops and nothing waits."""
        with self._changed:
            while True:
                if (batch := self._take()) is not None:
                    return batch
                if self._stopping:
                    return None
                oldest = next(iter(self._open.values()), None)
                self._changed.wait(None if oldest is None else max(oldest.due - time.monotonic(), 0))

    def _take(self) -> _Batch | None:
        """Takes the batch that has waited longest of those that may leave."""
        key, oldest = next(iter(self._open.items()), (None, None))
        if oldest is not None and not (self._stopping or oldest.due <= time.monotonic()):
            oldest = None
        if oldest is not None and (not self._full or oldest.due < self._full[0].due):
            batch = self._open.pop(key)
        elif self._full:
            batch = self._full.popleft()
        else:
            return None
        self._enqueued[batch.queue] -= 1
        if not self._enqueued[batch.queue]:
            # Versions come and go: a queue is forgotten as soon as it is empty.
            del self._enqueued[batch.queue]
        if self._enqueued:
            # This thread was perhaps the one that waited for the next batch to be due.
            self._changed.notify()
        return batch


def _answer(batch: _Batch, parameters: BatchingParameters) -> None:
    """Answers every request of the batch, with its outputs or with its own error."""
    try:
        answers = _run(batch.requests, batch.execute, parameters)
    except Exception as error:
        if len(batch.requests) == 1:
            batch.requests[0].answer.set_exception(error)
            return
        # One bad request fails the whole batch; alone, the others get their answers.
        for request in batch.requests:
            _answer(_Batch(batch.queue, batch.execute, batch.due, [request], request.rows), parameters)
        return
    for request, answer in zip(batch.requests, answers, strict=True):
        request.answer.set_result(answer)


def _run(requests: list[_Request], execute: Execute, parameters: BatchingParameters) -> list[Tensors]:
    """Runs the requests as one batch and returns the outputs of each."""
    rows = sum(request.rows for request in requests)
    # Padding repeats the last request's first row, which is known to be valid; an empty one has none.
    padding = parameters.padded(rows) - rows if requests[-1].rows else 0
    merged = {}
    for name, last in requests[-1].inputs.items():
        parts = [request.inputs[name] for request in requests] + [last[:1]] * padding
        merged[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    outputs = execute(merged)
    for name, output in outputs.items():
        if output.ndim == 0 or len(output) != rows + padding:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                f"the input tensors: {name} is {list(output.shape)} for {rows + padding} rows",
            )
    answers, start = [], 0
    for request in requests:
        end = start + request.rows
        answers.append({name: output[start:end] for name, output in outputs.items()})
        start = end
    return answers


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    if not inputs:
        raise invalid("Batching session Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in inputs.values()):
        raise invalid("Batching session Run() input tensors must have at least one dimension")
    sizes = {name: len(array) for name, array in inputs.items()}
    if len(set(sizes.values())) > 1:
        raise invalid(
            f"Batching session Run() input tensors must have equal 0th-dimension size; they are {sizes}"
        )
    return next(iter(sizes.values()))
