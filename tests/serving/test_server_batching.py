"""Batching: what is merged, and what happens when it goes wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from saved_models import write_model

from components.serving.server import batching, servable
from components.serving.server.batching import Batcher, Tensors
from components.serving.server.errors import ServingError


class Clients:
    """A batcher, a model that doubles its input, refuses negative values and can be held up, and clients."""

    def __init__(self, max_rows: int):
        self.batcher = Batcher(max_rows)
        self.batches: list[list[float]] = []
        self.running = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.pool = ThreadPoolExecutor(32)

    def execute(self, inputs: Tensors) -> Tensors:
        self.batches.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        self.running.release()
        assert self.may_answer.wait(30)
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
        for number in range(batching._THREADS):
            self.submit(0.0, signature=f"held {number}")
            assert self.running.acquire(timeout=30)

    def wait_for(self, requests: int) -> None:
        deadline = time.monotonic() + 30
        while self.batcher._waiting != requests:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def merged(self) -> list[list[float]]:
        return sorted(sorted(batch) for batch in self.batches[batching._THREADS :])


@pytest.fixture
def make() -> Iterator[Callable[[int], Clients]]:
    made: list[Clients] = []

    def make(max_rows: int = 8) -> Clients:
        made.append(Clients(max_rows))
        return made[-1]

    yield make
    for clients in made:
        clients.may_answer.set()
        clients.batcher.close()
        clients.pool.shutdown()


def refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    return caught.value.message


def test_what_waits_is_merged_as_far_as_it_fits_and_each_gets_its_own_rows(make: Any) -> None:
    clients = make(4)
    clients.hold()
    answers = {values: clients.submit(*values) for values in ((1.0,), (2.0, 3.0), (4.0,))}
    clients.wait_for(3)
    one_too_many = clients.submit(5.0)
    clients.wait_for(4)
    clients.may_answer.set()
    for values, answer in answers.items():
        assert answer.result(30)[:, 0].tolist() == [2 * value for value in values]
    assert one_too_many.result(30).tolist() == [[10]]
    assert clients.merged() == [[1, 2, 3, 4], [5]]
    # A lone request waits for nobody, and whether one is too large is for the model to say.
    assert clients.run(6).tolist() == [[12]]
    assert clients.run(1, 2, 3, 4, 5, 6).shape == (6, 1)


@pytest.mark.parametrize("difference", [{"columns": 3}, {"signature": "other"}])
def test_other_shapes_and_other_signatures_are_never_merged(make: Any, difference: dict[str, Any]) -> None:
    clients = make()
    clients.hold()
    answers = clients.submit(1), clients.submit(2, **difference)
    clients.wait_for(2)
    clients.may_answer.set()
    assert [answer.result(30)[0, 0] for answer in answers] == [2, 4]
    assert clients.merged() == [[1], [2]]


def test_a_bad_request_fails_alone(make: Any) -> None:
    clients = make()
    clients.hold()
    good, bad, other = clients.submit(1), clients.submit(-1), clients.submit(2)
    clients.wait_for(3)
    clients.may_answer.set()
    assert [good.result(30)[0, 0], other.result(30)[0, 0]] == [2, 4]
    assert refused(lambda: bad.result(30), grpc.StatusCode.INVALID_ARGUMENT) == "negative"


def test_a_full_queue_refuses_and_recovers(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    clients = make(2)
    clients.hold()
    waiting = [clients.submit(value, columns=column) for value, column in ((1, 1), (2, 1), (3, 2))]
    clients.wait_for(3)
    refused(lambda: clients.run(5), grpc.StatusCode.RESOURCE_EXHAUSTED)
    clients.may_answer.set()
    assert sorted(answer.result(30)[0, 0] for answer in waiting) == [2, 4, 6]
    assert clients.run(5)[0, 0] == 10


def test_what_is_no_batch_is_refused(make: Any) -> None:
    clients = make(2)
    code = grpc.StatusCode.INVALID_ARGUMENT
    for inputs in ({}, {"x": np.array(1.0)}, {"x": np.zeros(2), "z": np.zeros(3)}):
        message = refused(lambda: clients.batcher.run("s", inputs, clients.execute), code)  # noqa: B023
        assert "same dimension 0" in message


def test_outputs_that_cannot_be_divided_are_told_to_those_who_share_them(make: Any) -> None:
    clients = make()
    clients.hold()
    run = clients.batcher.run
    answers = [
        clients.pool.submit(run, "s", {"x": np.zeros(1)}, lambda _: {"y": np.zeros(1)}) for _ in range(2)
    ]
    clients.wait_for(2)
    clients.may_answer.set()
    # Alone, each has its answer.
    assert [answer.result(30)["y"].tolist() for answer in answers] == [[0], [0]]


def test_closing_answers_what_waits(make: Any) -> None:
    clients = make(4)
    clients.hold()
    waiting = [clients.submit(value) for value in (1.0, 2.0, 3.0)]
    clients.wait_for(3)
    closing = threading.Thread(target=clients.batcher.close)
    closing.start()
    clients.may_answer.set()
    closing.join(30)
    assert [answer.result(30)[0, 0] for answer in waiting] == [2, 4, 6]


def test_many_clients_get_their_own_answers(make: Any) -> None:
    clients = make(7)
    clients.may_answer.set()

    def client(number: int) -> None:
        for round_number in range(100):
            value = float(1 + number * 100 + round_number)
            assert clients.run(value, value + 0.5)[:, 0].tolist() == [2 * value, 2 * value + 1]

    for done in [clients.pool.submit(client, number) for number in range(8)]:
        done.result(60)
    assert max(map(len, clients.batches)) > 2
    assert clients.batcher._waiting == 0 and not clients.batcher._queues


def test_a_batch_has_no_more_images_than_the_model_takes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "1")
    assert servable._max_batch(path) == 64
    (path / "assets.extra" / "labels.json").write_text('{"limits": {"max_batch_size": 5}}')
    assert servable._max_batch(path) == 5
    assert servable._max_batch(tmp_path) == 64
