"""Batching: requests that wait for the same signature are run as one.

A batch is half of the requests that are there, those being computed among them: two threads take turns with
batches of about the same size. A request waits for nobody where nothing of its kind is computed, else for the
batch that is, or until as many wait. Who took all that waits would leave the
other thread what comes a moment later, one request, again and again. Unlike in TensorFlow Serving, requests
whose images have other sizes never share a batch, a request that breaks a batch fails alone, and a full queue
answers RESOURCE_EXHAUSTED.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import grpc
import numpy as np

from components.serving.server.errors import ServingError, invalid

MAX_ROWS: Final = 8
"""Images in a batch of several requests; more make a CPU no faster, and everybody waits longer.

Every exported model takes as many: `ServingLimits.max_batch_size`.
"""
MAX_WAITING: Final = 1024
"""Requests of a version that may wait for a batch."""
BATCHES_AT_ONCE: Final = 2
"""While the one computes, the other is put together, or computes where the one waits."""

Tensors = dict[str, np.ndarray]
Execute = Callable[[Tensors], Tensors]
"""Runs a batch: inputs by name to outputs by name, all with the batch as dimension 0."""


@dataclass(eq=False)
class _Request:
    kind: Hashable
    """Requests of the same kind may share a batch."""
    inputs: Tensors
    rows: int
    execute: Execute
    answer: Future[Tensors] = field(default_factory=Future)


class Batcher:
    """Queues of requests, and the threads that run them in batches or alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # By kind; the queue whose turn is next stands first.
        self._queues: dict[Hashable, deque[_Request]] = {}
        self._running: Counter[Hashable] = Counter()
        self._waiting = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name="batch", daemon=True) for _ in range(BATCHES_AT_ONCE)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, signature: str, inputs: Tensors, execute: Execute) -> Tensors:
        """Runs a request together with others of its signature, and returns its own rows of the outputs.

        Args:
            signature: requests with the same one have the same ``execute``.
            inputs: arrays with the batch as dimension 0, of one size.
            execute: runs the merged inputs; called in one of the batcher's threads.

        Raises:
            ServingError: INVALID_ARGUMENT, the inputs are no batch; RESOURCE_EXHAUSTED, too many wait
                already; or what ``execute`` raises.
        """
        sizes = {array.shape[:1] for array in inputs.values()}
        if len(sizes) != 1 or () in sizes:
            raise invalid(f"a batch needs inputs with the same dimension 0; theirs are {sorted(sizes)}")
        shapes = frozenset((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())
        (rows,) = sizes.pop()
        # Merged with others, a request of no rows would be answered, which the model refuses alone.
        request = _Request((signature, shapes, rows > 0), inputs, rows, execute)
        with self._changed:
            if self._waiting >= MAX_WAITING:
                raise ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WAITING} requests wait for a batch already"
                )
            self._queues.setdefault(request.kind, deque()).append(request)
            self._waiting += 1
            self._changed.notify()
        return request.answer.result()

    def close(self) -> None:
        """Answers the requests that wait, then ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            for answered in _answer(batch):
                with self._changed:
                    self._running -= Counter({batch[0].kind: answered})
                    self._changed.notify_all()

    def _next_batch(self) -> list[_Request]:
        """Waits for requests that can be run as one; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._due() or (self._closing and not self._queues))
            if (kind := self._due()) is None:
                return []
            queue = self._queues.pop(kind)
            half = (len(queue) + self._running[kind] + 1) // 2
            batch = [queue.popleft()]
            rows = batch[0].rows
            while queue and len(batch) < half and rows + queue[0].rows <= MAX_ROWS:
                batch.append(queue.popleft())
                rows += batch[-1].rows
            if queue:
                # Behind the others: no signature keeps another from its turn.
                self._queues[kind] = queue
                self._changed.notify()
            self._waiting -= len(batch)
            self._running[kind] += len(batch)
            return batch

    def _due(self) -> Hashable | None:
        """The kind whose turn it is: as many of it wait as are computed."""
        return next((kind for kind, queue in self._queues.items() if len(queue) >= self._running[kind]), None)


def _answer(batch: list[_Request]) -> Iterator[int]:
    """Answers every request of the batch, with its outputs or its own error; yields how many have theirs."""
    try:
        answers = _run(batch)
    except Exception as error:
        if len(batch) > 1:
            # One bad request fails the whole batch; alone, the others get their answers.
            for request in batch:
                yield from _answer([request])
            return
        batch[0].answer.set_exception(error)
    else:
        for request, answer in zip(batch, answers, strict=True):
            request.answer.set_result(answer)
    yield len(batch)


def _run(batch: list[_Request]) -> list[Tensors]:
    if len(batch) == 1:
        return [batch[0].execute(batch[0].inputs)]
    merged = {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}
    outputs = batch[0].execute(merged)
    ends = np.cumsum([request.rows for request in batch])
    for name, output in outputs.items():
        if output.ndim == 0 or len(output) != ends[-1]:
            raise ValueError(f"output {name!r} is {list(output.shape)} for {ends[-1]} rows: not divisible")
    return [
        {name: output[end - request.rows : end] for name, output in outputs.items()}
        for request, end in zip(batch, ends, strict=True)
    ]
