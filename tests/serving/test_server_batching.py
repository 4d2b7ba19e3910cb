"""Batching: what is merged, and what happens when it goes wrong."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from waiting import until

from components.serving.server import batching
from components.serving.server.batching import Batcher, Tensors
from components.serving.server.errors import ServingError

SLOW = 0.5


class Clients:
    """A batcher, a model that doubles its input, refuses negative values and can be held up, and clients.

    A batch that begins with 0 or `SLOW` is held up until it may be answered; one of no rows is refused.
    """

    def __init__(self) -> None:
        self.batcher = Batcher()
        self.batches: list[list[float]] = []
        self.running = threading.Semaphore(0)
        self.may_answer, self.slow_may_answer = threading.Event(), threading.Event()
        self.gates = {0.0: self.may_answer, SLOW: self.slow_may_answer}
        self.pool = ThreadPoolExecutor(32)

    def execute(self, inputs: Tensors) -> Tensors:
        if not inputs["x"].size:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "no rows")
        values = inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist()
        self.batches.append(values)
        self.running.release()
        assert values[0] not in self.gates or self.gates[values[0]].wait(30)
        if (inputs["x"] < 0).any():
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        return {"y": inputs["x"] * 2}

    def run(self, *values: float, columns: int = 1, signature: str = "serving_default") -> np.ndarray:
        x = np.repeat(np.array(values, np.float32)[:, None], columns, axis=1)
        return self.batcher.run(signature, {"x": x}, self.execute)["y"]

    def submit(self, *values: float, **options: Any) -> Future[np.ndarray]:
        return self.pool.submit(self.run, *values, **options)

    def hold(self) -> None:
        """Keeps all threads busy until the model may answer."""
        for number in range(batching.BATCHES_AT_ONCE):
            self.submit(0.0, signature=f"held {number}")
            assert self.running.acquire(timeout=30)

    def wait_for(self, requests: int) -> None:
        until(lambda: self.batcher._waiting == requests)

    def merged(self) -> list[list[float]]:
        return sorted(sorted(batch) for batch in self.batches[batching.BATCHES_AT_ONCE :])


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    for gate in clients.gates.values():
        gate.set()
    clients.batcher.close()
    clients.pool.shutdown()


def refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    return caught.value.message


def test_half_of_what_is_there_is_merged_and_each_gets_its_own_rows(clients: Clients) -> None:
    clients.hold()
    answers = []
    for values in ((SLOW,), (1.0, 1.5), (2.0,), (3.0,), (4.0,), (5.0,)):
        answers.append(clients.submit(*values))
        clients.wait_for(len(answers))
    clients.may_answer.set()
    assert [answer.result(30).tolist() for answer in answers[3:]] == [[[6]], [[8]], [[10]]]
    # Three are still computed: the next waits for two more, so that batches stay alike.
    for number, value in enumerate((6.0, 7.0), start=1):
        answers.append(clients.submit(value))
        clients.wait_for(number)
    answers.append(clients.submit(8.0))
    assert [answer.result(30).tolist() for answer in answers[6:]] == [[[12]], [[14]], [[16]]]
    assert not answers[0].done()
    clients.slow_may_answer.set()
    assert [answer.result(30).tolist() for answer in answers[:3]] == [[[1]], [[2], [3]], [[4]]]
    assert clients.merged() == [[SLOW, 1, 1.5, 2], [3, 4, 5], [6, 7, 8]]
    # A lone request waits for nobody.
    assert clients.run(9).tolist() == [[18]]


def test_a_batch_of_several_is_bounded_and_a_single_request_goes_as_it_is(clients: Clients) -> None:
    clients.hold()
    for number in range(1, 21):
        clients.submit(number, number)
    clients.wait_for(20)
    clients.may_answer.set()
    # Whether one is too large is for the model to say.
    assert clients.run(*range(1, 10)).shape == (9, 1)
    *_, most, alone = sorted(len(batch) for batch in clients.merged())
    assert (most, alone) == (batching.MAX_ROWS, 9)


@pytest.mark.parametrize("difference", [{"columns": 3}, {"signature": "other"}])
def test_other_shapes_and_other_signatures_are_never_merged(
    clients: Clients, difference: dict[str, Any]
) -> None:
    clients.hold()
    answers = []
    for value in (1, 2, 3, 4):
        answers.append(clients.submit(value, **({} if value % 2 else difference)))
        clients.wait_for(value)
    clients.may_answer.set()
    assert [answer.result(30)[0, 0] for answer in answers] == [2, 4, 6, 8]
    # Half of the two that there are of each.
    assert clients.merged() == [[1], [2], [3], [4]]


@pytest.mark.parametrize(("values", "said"), [((-1,), "negative"), ((), "no rows")])
def test_a_bad_request_fails_alone(clients: Clients, values: tuple[float, ...], said: str) -> None:
    clients.hold()
    good, bad = clients.submit(1), clients.submit(*values)
    others = [clients.submit(value) for value in (2, 3)]
    clients.wait_for(4)
    clients.may_answer.set()
    assert [request.result(30)[0, 0] for request in (good, *others)] == [2, 4, 6]
    assert refused(lambda: bad.result(30), grpc.StatusCode.INVALID_ARGUMENT) == said


def test_what_comes_while_a_batch_is_run_again_one_by_one_waits_for_none_that_has_its_answer(
    clients: Clients,
) -> None:
    clients.hold()
    for number, value in enumerate((1, -1, SLOW, 4, 5, 6), 1):
        request = clients.submit(value)
        clients.wait_for(number)
    clients.may_answer.set()
    assert request.result(30)[0, 0] == 12
    # Of the batch that one request spoilt, the slow one alone is still computed.
    until(lambda: [SLOW] in clients.batches)
    assert clients.submit(7).result(10)[0, 0] == 14


def test_a_full_queue_refuses_and_recovers(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    clients.hold()
    waiting = [clients.submit(value, columns=column) for value, column in ((1, 1), (2, 1), (3, 2))]
    clients.wait_for(3)
    refused(lambda: clients.run(5), grpc.StatusCode.RESOURCE_EXHAUSTED)
    clients.may_answer.set()
    assert sorted(answer.result(30)[0, 0] for answer in waiting) == [2, 4, 6]
    assert clients.run(5)[0, 0] == 10


def test_what_is_no_batch_is_refused(clients: Clients) -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT
    for inputs in ({}, {"x": np.array(1.0)}, {"x": np.zeros(2), "z": np.zeros(3)}):
        message = refused(lambda: clients.batcher.run("s", inputs, clients.execute), code)  # noqa: B023
        assert "same dimension 0" in message


def test_outputs_that_cannot_be_divided_are_told_to_those_who_share_them(clients: Clients) -> None:
    clients.hold()
    run = clients.batcher.run
    answers = [
        clients.pool.submit(run, "s", {"x": np.zeros(1)}, lambda _: {"y": np.zeros(1)}) for _ in range(3)
    ]
    clients.wait_for(3)
    clients.may_answer.set()
    # Alone, each has its answer.
    assert [answer.result(30)["y"].tolist() for answer in answers] == [[0], [0], [0]]


def test_closing_answers_what_waits(clients: Clients) -> None:
    clients.hold()
    waiting = [clients.submit(value) for value in (1.0, 2.0, 3.0)]
    clients.wait_for(3)
    closing = threading.Thread(target=clients.batcher.close)
    closing.start()
    clients.may_answer.set()
    closing.join(30)
    assert [answer.result(30)[0, 0] for answer in waiting] == [2, 4, 6]


def test_many_clients_get_their_own_answers(clients: Clients) -> None:
    clients.may_answer.set()

    def client(number: int) -> None:
        for round_number in range(100):
            value = float(1 + number * 100 + round_number)
            assert clients.run(value, value + 0.5)[:, 0].tolist() == [2 * value, 2 * value + 1]

    for done in [clients.pool.submit(client, number) for number in range(8)]:
        done.result(60)
    assert max(map(len, clients.batches)) > 2
    assert clients.batcher._waiting == 0 and not clients.batcher._queues
