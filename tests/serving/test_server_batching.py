"""Dynamic batching: what is merged, what waits how long, and what happens when it goes wrong."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from components.serving.server.batching import BatchScheduler
from components.serving.server.batching_parameters import BatchingParameters, parse_batching_parameters_file
from components.serving.server.errors import ServingError

LONG = 60_000_000
"""A timeout, in microseconds, that no test waits for."""


class Model:
    """Doubles its input; refuses batches with a negative value; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.running = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def execute(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.batches.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        self.running.release()
        assert self.may_answer.wait(30)
        if (inputs["x"] < 0).any():
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        return {"y": inputs["x"] * 2}


class Batcher:
    """A scheduler, a model, and clients."""

    def __init__(self, parameters: BatchingParameters):
        self.model = Model()
        self.scheduler = BatchScheduler(parameters)
        self.clients = ThreadPoolExecutor(32)

    def run(self, *values: float, columns: int = 1, queue: str = "queue") -> np.ndarray:
        x = np.repeat(np.array(values, np.float32)[:, None], columns, axis=1)
        return self.scheduler.run(queue, {"x": x}, self.model.execute)["y"]

    def submit(self, *values: float, **options: Any) -> Future[np.ndarray]:
        return self.clients.submit(self.run, *values, **options)

    def hold(self) -> Future[np.ndarray]:
        """Keeps a thread busy until the model may answer."""
        self.model.may_answer.clear()
        held = self.submit(0.0, queue="held")
        assert self.model.running.acquire(timeout=30)
        return held

    def wait_for(self, rows: int) -> None:
        """Waits until as many rows are in the queues."""
        scheduler = self.scheduler
        until(lambda: sum(batch.rows for batch in [*scheduler._open.values(), *scheduler._full]) == rows)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


MakeBatcher = Callable[..., Batcher]


@pytest.fixture
def make_batcher() -> Iterator[MakeBatcher]:
    made = []

    def make(**parameters: Any) -> Batcher:
        made.append(Batcher(BatchingParameters(**{"num_batch_threads": 1, **parameters})))
        return made[-1]

    yield make
    for batcher in made:
        batcher.model.may_answer.set()
        batcher.scheduler.stop()
        batcher.clients.shutdown()


def refused(call: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(ServingError) as caught:
        call()
    assert caught.value.code is code
    return caught.value.message


def test_an_idle_thread_runs_a_request_at_once(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=8)
    assert batcher.run(1, 2).tolist() == [[2], [4]]
    assert batcher.model.batches == [[1, 2]]


def test_requests_that_wait_are_merged_and_each_gets_its_own_rows(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=8)
    held = batcher.hold()
    answers = {}
    for values in ((1.0,), (2.0, 3.0), (4.0,)):
        answers[values] = batcher.submit(*values)
    batcher.wait_for(4)
    batcher.model.may_answer.set()
    for values, answer in answers.items():
        assert answer.result(30)[:, 0].tolist() == [2 * value for value in values]
    held.result(30)
    assert sorted(batcher.model.batches[1]) == [1, 2, 3, 4]


def test_a_full_batch_does_not_wait_for_the_timeout(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=2, batch_timeout_micros=LONG)
    first, second = batcher.submit(1), batcher.submit(2)
    assert first.result(30).tolist() == [[2]]
    assert second.result(30).tolist() == [[4]]


def test_a_batch_that_is_not_full_leaves_after_the_timeout(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=8, batch_timeout_micros=50_000)
    start = time.monotonic()
    assert batcher.run(1).tolist() == [[2]]
    assert time.monotonic() - start >= 0.05


def test_every_batch_leaves_in_time_when_other_threads_are_busy(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=1, num_batch_threads=2, batch_timeout_micros=10_000)
    batcher.hold()
    held_too = batcher.submit(1)
    assert batcher.model.running.acquire(timeout=30)
    waiting = [batcher.submit(value, queue=f"queue {value}") for value in range(5)]
    batcher.wait_for(5)
    batcher.model.may_answer.set()
    assert [answer.result(30).tolist() for answer in waiting] == [[[2 * value]] for value in range(5)]
    held_too.result(30)


@pytest.mark.parametrize("difference", [{"columns": 3}, {"queue": "other"}])
def test_other_shapes_and_other_queues_are_never_merged(
    make_batcher: MakeBatcher, difference: dict[str, Any]
) -> None:
    batcher = make_batcher(max_batch_size=8)
    batcher.hold()
    answers = batcher.submit(1), batcher.submit(2, **difference)
    batcher.wait_for(2)
    batcher.model.may_answer.set()
    assert [answer.result(30)[0, 0] for answer in answers] == [2, 4]
    assert sorted(batcher.model.batches[1:]) == [[1], [2]]


def test_a_bad_request_fails_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=8)
    batcher.hold()
    good, bad, other = batcher.submit(1), batcher.submit(-1), batcher.submit(2)
    batcher.wait_for(3)
    batcher.model.may_answer.set()
    assert [good.result(30)[0, 0], other.result(30)[0, 0]] == [2, 4]
    assert refused(lambda: bad.result(30), grpc.StatusCode.INVALID_ARGUMENT) == "negative"


def test_a_full_queue_refuses_and_recovers(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=2, max_enqueued_batches=2)
    batcher.hold()
    waiting = [batcher.submit(value) for value in (1.0, 2.0, 3.0, 4.0)]
    batcher.wait_for(4)
    message = refused(lambda: batcher.run(5), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert "queue" in message
    assert "full" in message
    batcher.model.may_answer.set()
    assert sorted(answer.result(30)[0, 0] for answer in waiting) == [2, 4, 6, 8]
    assert batcher.run(5)[0, 0] == 10


def test_many_shapes_count_against_one_bound(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=8, max_enqueued_batches=2)
    batcher.hold()
    waiting = [batcher.submit(1, columns=columns) for columns in (1, 2)]
    batcher.wait_for(2)
    refused(lambda: batcher.run(1, columns=3), grpc.StatusCode.RESOURCE_EXHAUSTED)
    batcher.model.may_answer.set()
    assert [answer.result(30).shape for answer in waiting] == [(1, 1), (1, 2)]


def test_a_request_larger_than_a_batch_is_refused(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=2)
    message = refused(lambda: batcher.run(1, 2, 3), grpc.StatusCode.INVALID_ARGUMENT)
    assert message == "Task size 3 is larger than maximum input batch size 2"


def test_batches_are_padded_to_an_allowed_size(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=4, allowed_batch_sizes=(1, 4))
    assert batcher.run(1, 2).tolist() == [[2], [4]]
    assert batcher.run(3).tolist() == [[6]]
    assert batcher.model.batches == [[1, 2, 1, 1], [3]]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "at least one input"),
        ({"x": np.array(1.0)}, "at least one dimension"),
        ({"x": np.zeros(2), "z": np.zeros(3)}, "equal 0th-dimension size; they are {'x': 2, 'z': 3}"),
    ],
)
def test_inputs_that_are_no_batch_are_refused(
    make_batcher: MakeBatcher, inputs: dict[str, np.ndarray], told: str
) -> None:
    batcher = make_batcher()
    run = batcher.scheduler.run
    message = refused(lambda: run("queue", inputs, batcher.model.execute), grpc.StatusCode.INVALID_ARGUMENT)
    assert told in message


def test_outputs_that_are_no_batch_are_told(make_batcher: MakeBatcher) -> None:
    scheduler = make_batcher().scheduler
    message = refused(
        lambda: scheduler.run("queue", {"x": np.zeros(2)}, lambda _: {"y": np.zeros(1)}),
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert "y is [1] for 2 rows" in message


def test_stopping_answers_what_waits_and_refuses_what_comes(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=4, batch_timeout_micros=LONG)
    waiting = [batcher.submit(value) for value in (1.0, 2.0, 3.0)]
    batcher.wait_for(3)
    batcher.scheduler.stop()
    assert [answer.result(30)[0, 0] for answer in waiting] == [2, 4, 6]
    refused(lambda: batcher.run(1), grpc.StatusCode.UNAVAILABLE)


def test_many_clients_get_their_own_answers(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch_size=7, num_batch_threads=3, batch_timeout_micros=200)

    def client(number: int) -> None:
        for round_number in range(100):
            value = float(1 + number * 100 + round_number)
            assert batcher.run(value, value + 0.5)[:, 0].tolist() == [2 * value, 2 * value + 1]

    for done in [batcher.clients.submit(client, number) for number in range(8)]:
        done.result(60)
    assert max(len(batch) for batch in batcher.model.batches) > 2
    assert not batcher.scheduler._enqueued


def parse(tmp_path: Path, text: str) -> BatchingParameters:
    path = tmp_path / "batching.config"
    path.write_text(text)
    return parse_batching_parameters_file(path)


def test_parameters_are_read_in_the_form_of_tensorflow_serving(tmp_path: Path) -> None:
    text = """
        max_batch_size { value: 32 }
        batch_timeout_micros { value: 1000 }
        max_enqueued_batches { value: 100 }
        num_batch_threads { value: 4 }
        thread_pool_name { value: "pets" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 32
        pad_variable_length_inputs: false
    """
    assert parse(tmp_path, text) == BatchingParameters(32, 1000, 100, 4, "pets", (8, 32))


def test_parameters_not_given_keep_their_defaults(tmp_path: Path) -> None:
    parameters = parse(tmp_path, "batch_timeout_micros { value: 0 }")
    assert parameters == BatchingParameters()
    assert parameters.max_batch_size == 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nmax_batch: 3", 'config:2:1: Message type "tensorflow.serving.BatchingParameters" has no field'),
        ("max_batch_size: 3", "config:1:17: "),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "must be non-negative; was -1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "last entry was 4; expected 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [9, 8]", "increasing; were [9, 8]"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not supported"),
        (
            "enable_large_batch_splitting { value: true }",
            "enable_large_batch_splitting is not supported by the embedded server",
        ),
    ],
)
def test_a_wrong_parameter_is_told_with_the_file(tmp_path: Path, text: str, told: str) -> None:
    message = refused(lambda: parse(tmp_path, text), grpc.StatusCode.INVALID_ARGUMENT)
    assert told in message
    assert message.startswith(str(tmp_path / "batching.config"))
    assert "\n" not in message
