"""What the Trainer tells of its progress."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from components.errors import StageError
from components.trainer import progress_callback as progress_module
from components.trainer.checkpoints import IOU
from components.trainer.progress import RECORD_ATTRIBUTE, TICKS, TrainingProgress
from components.trainer.progress_callback import Progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.progress: list[TrainingProgress] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.append(getattr(record, RECORD_ATTRIBUTE))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


@pytest.fixture
def ticks() -> Iterator[Heard]:
    heard, logger = Heard(), logging.getLogger(TICKS)
    logger.addHandler(heard)
    logger.setLevel(logging.DEBUG)
    yield heard
    logger.removeHandler(heard)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def callback() -> Progress:
    """Of a training of four epochs, ten steps and 100 images each."""
    callback = Progress(epochs=4, examples=100)
    callback.set_params({"steps": 10})
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=np.float32(40))))
    callback.on_train_begin()
    return callback


def train_epoch(
    callback: Progress, clock: Clock, epoch: int, first_step: float = 1.0, first_validated: float = 1.0
) -> dict[str, float]:
    """A step takes a second and 1 off the learning rate, validation five seconds; what was measured."""
    callback.on_epoch_begin(epoch)
    for step in range(10):
        callback.on_train_batch_begin(step)
        callback.model.optimizer.learning_rate -= 1
        clock.now += 1.0 if step else first_step
    callback.on_test_begin()
    for step in range(5):
        callback.on_test_batch_begin(step)
        clock.now += 1.0 if step else first_validated
    measured = {"loss": 0.5, f"val_{IOU}": 0.25}
    callback.on_epoch_end(epoch, measured)
    return measured


def test_an_epoch_has_the_learning_rate_of_its_last_step(callback: Progress, clock: Clock) -> None:
    rates = [train_epoch(callback, clock, epoch)["learning_rate"] for epoch in range(4)]
    assert rates == [31.0, 21.0, 11.0, 1.0]


def test_an_epoch_is_a_line_with_all_that_was_measured(
    callback: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components.trainer.progress_callback")
    train_epoch(callback, clock, 0)
    _, record = caplog.records
    assert record.getMessage() == (
        "epoch 1/4: loss 0.5000, val mean IoU 0.250 (at input size), 10 images/s, 45 s left"
    )
    assert getattr(record, RECORD_ATTRIBUTE) == TrainingProgress(1, 4, 10, 10, 0.5, 0.25, 10.0, 45.0)


def test_the_last_epoch_leaves_no_time(
    callback: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components.trainer.progress_callback")
    train_epoch(callback, clock, 3)
    assert caplog.messages[1:] == ["epoch 4/4: loss 0.5000, val mean IoU 0.250 (at input size), 10 images/s"]


def test_that_the_training_has_begun_is_said_once_when_its_first_step_is_done(
    callback: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components.trainer.progress_callback")
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    assert not caplog.records
    clock.now += 2.5
    callback.on_train_batch_begin(1)
    [record] = caplog.records
    assert record.getMessage() == "the first of 10 steps an epoch took 2.5 s"
    assert getattr(record, RECORD_ATTRIBUTE) == TrainingProgress(1, 4, 1, 10, None, None, None, None)
    for epoch in range(2):
        train_epoch(callback, clock, epoch)
    assert [message.partition(" ")[0] for message in caplog.messages[2:]] == ["epoch", "epoch"]


def test_in_the_first_epoch_the_time_left_comes_from_its_steps_but_the_first_which_compiles(
    callback: Progress, clock: Clock, ticks: Heard
) -> None:
    train_epoch(callback, clock, 0, first_step=60.0)
    assert [progress.step for progress in ticks.progress] == list(range(10))
    assert [progress.seconds_left for progress in ticks.progress[:3]] == [None, None, 8 + 3 * 10]
    assert ticks.progress[2].images_per_second == 10.0
    assert ticks.progress[2].loss is None


def test_what_compiles_in_the_first_epoch_counts_neither_in_the_time_left_nor_in_images_a_second(
    callback: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components.trainer.progress_callback")
    train_epoch(callback, clock, 0, first_step=60.0, first_validated=30.0)
    assert caplog.messages[1].endswith("10 images/s, 45 s left")
    # Whatever is slow later is no compilation.
    train_epoch(callback, clock, 1, first_step=11.0)
    assert caplog.messages[2].endswith("5 images/s, 50 s left")


def test_an_epoch_of_one_step_is_all_that_is_known_of_the_others(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components.trainer.progress_callback")
    callback = Progress(epochs=3, examples=20)
    callback.set_params({"steps": 1})
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=np.float32(0.5))))
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    clock.now += 4.0
    callback.on_epoch_end(0, {"loss": 0.5})
    assert caplog.messages == ["epoch 1/3: loss 0.5000, 5 images/s, 8 s left"]


def test_in_later_epochs_the_time_left_counts_validation_too(
    callback: Progress, clock: Clock, ticks: Heard
) -> None:
    train_epoch(callback, clock, 0)
    ticks.progress.clear()
    train_epoch(callback, clock, 1)
    assert ticks.progress[4] == TrainingProgress(2, 4, 4, 10, 0.5, 0.25, 10.0, 6 + 2 * 15.0)


def test_ticks_come_no_oftener_than_twice_a_second_and_reach_no_log(
    callback: Progress, clock: Clock, ticks: Heard
) -> None:
    above, logger = Heard(), logging.getLogger("components")
    logger.addHandler(above)
    callback.on_epoch_begin(0)
    for step in range(10):
        callback.on_train_batch_begin(step)
        clock.now += 0.2
    assert [progress.step for progress in ticks.progress] == [0, 3, 6, 9]
    logger.removeHandler(above)
    assert above.progress == []


def test_a_training_that_diverges_is_ended_with_advice(callback: Progress, clock: Clock) -> None:
    callback.on_epoch_begin(0)
    with pytest.raises(StageError, match=r"diverged in epoch 1: .* a lower training\.learning_rate"):
        callback.on_epoch_end(0, {"loss": float("nan")})
