"""Learning rates over time, averaged weights, and what is decayed."""

import math
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest

from components.trainer.optimizers import (
    LinearWarmup,
    ValidateAveragedWeights,
    averaged_weights,
    build_optimizer,
    doubt_about_average,
    learning_rate_schedule,
    phases,
    spare_vectors,
)
from components.trainer.training_config import TrainingConfig

STEPS = 10


def rates(**training: Any) -> list[float]:
    """The learning rate of every step of the first phase, 10 steps an epoch."""
    settings = TrainingConfig(**training)
    [phase, *_] = phases(settings)
    schedule = learning_rate_schedule(settings, phase, STEPS)
    return [float(schedule(step)) for step in range(phase.epochs * STEPS + 1)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda done: 1.0),
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
        ("polynomial", lambda done: (1 - done) ** 0.9),
    ],
)
@pytest.mark.parametrize("warmup", [0, 2])
def test_the_rate_rises_over_the_warm_up_and_falls_to_the_end(
    schedule: str, expected: Any, warmup: int
) -> None:
    actual = rates(epochs=5, learning_rate=0.1, schedule=schedule, warmup_epochs=warmup)
    rising = [0.1 * (step + 1) / (warmup * STEPS) for step in range(warmup * STEPS)]
    falling = (5 - warmup) * STEPS
    np.testing.assert_allclose(
        actual, rising + [0.1 * expected(step / falling) for step in range(falling + 1)], atol=1e-7
    )


def test_a_warm_up_survives_serialisation() -> None:
    schedule = LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 20), 5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(again(step)) for step in (0, 4, 9)] == [float(schedule(step)) for step in (0, 4, 9)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_the_recipes_and_nesterovs(momentum: float) -> None:
    training = TrainingConfig(optimizer="sgd", momentum=momentum)
    [phase, *_] = phases(training)
    config = build_optimizer(training, phase, STEPS).get_config()
    assert (config["momentum"], config["nesterov"]) == (momentum, momentum > 0)


def test_fine_tuning_is_a_phase_of_its_own_at_a_lower_rate() -> None:
    first, second = phases(TrainingConfig(epochs=3, warmup_epochs=1, fine_tuning_epochs=2))
    assert (first.epochs, first.learning_rate, first.warmup_epochs) == (3, 1e-3, 1)
    assert (second.epochs, second.learning_rate, second.warmup_epochs) == (2, 1e-4, 0)
    [_, given] = phases(TrainingConfig(fine_tuning_epochs=2, fine_tuning_learning_rate=1e-6))
    assert given.learning_rate == 1e-6


def dense(training: TrainingConfig) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, bias_initializer="ones")])
    model.compile(build_optimizer(training, phases(training)[0], STEPS), "mse")
    return model


X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_kernels_decay_and_offsets_do_not(name: Any) -> None:
    model = dense(TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5))
    spare_vectors(model.optimizer, model.trainable_variables)
    kernel, bias = model.get_weights()
    model.optimizer.apply([np.zeros_like(kernel), np.zeros_like(bias)], model.trainable_variables)
    np.testing.assert_allclose(model.get_weights()[0], kernel * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[1], bias)


def test_a_vector_does_not_decay_whatever_its_name() -> None:
    scale, kernel = (keras.Variable(np.ones(shape, np.float32)) for shape in ((3,), (3, 1)))
    training = TrainingConfig(optimizer="sgd", momentum=0.0, learning_rate=1.0, weight_decay=0.5)
    optimizer = build_optimizer(training, phases(training)[0], STEPS)
    spare_vectors(optimizer, [scale, kernel])
    optimizer.apply([np.zeros((3,)), np.zeros((3, 1))], [scale, kernel])
    np.testing.assert_array_equal(scale, np.ones(3))
    np.testing.assert_allclose(kernel, np.full((3, 1), 0.5))


def test_gradients_are_clipped_by_their_common_length() -> None:
    model = dense(TrainingConfig(optimizer="sgd", momentum=0.0, learning_rate=1.0, gradient_clip_norm=1.0))
    before = model.get_weights()
    model.optimizer.apply([np.full((3, 1), 8.0), np.full((1,), 8.0)], model.trainable_variables)
    moved = np.concatenate([(b - a).ravel() for b, a in zip(before, model.get_weights(), strict=True)])
    np.testing.assert_allclose(moved, 0.5, rtol=1e-5)


class Trajectory(keras.callbacks.Callback):
    """What the weights were after each step, and while they were evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[list[np.ndarray]] = []
        self.evaluated: list[np.ndarray] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.trained.append(self.model.get_weights())

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        self.evaluated = self.model.get_weights()


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_averaged_weights_are_validated_and_the_trained_ones_go_on(precision: str) -> None:
    keras.config.set_dtype_policy(precision)
    try:
        model = dense(TrainingConfig(learning_rate=0.1, ema_momentum=0.8))
    finally:
        keras.config.set_dtype_policy("float32")
    seen = Trajectory()
    start = model.get_weights()[0]

    class Compare(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            trained = self.model.get_weights()
            np.testing.assert_array_equal(trained[0], seen.trained[-1][0])
            with averaged_weights(self.model):
                np.testing.assert_allclose(self.model.get_weights()[0], expected_average(), rtol=1e-5)
            np.testing.assert_array_equal(self.model.get_weights()[0], trained[0])

    def expected_average() -> np.ndarray:
        kernels = [start, *(kernel for kernel, _ in seen.trained)]
        # Loss scaling leaves the first steps out, until the scaled gradients no longer overflow.
        steps = [kernel for before, kernel in pairwise(kernels) if not np.array_equal(before, kernel)]
        average = steps[0]
        for kernel in steps[1:]:
            average = 0.8 * average + 0.2 * kernel
        return average

    model.fit(
        X,
        Y,
        4,
        epochs=2,
        validation_data=(X, Y),
        shuffle=False,
        verbose=0,
        callbacks=[ValidateAveragedWeights(), seen, Compare()],
    )
    np.testing.assert_allclose(seen.evaluated[0], expected_average(), rtol=1e-5)
    assert not np.allclose(seen.evaluated[0], seen.trained[-1][0])


def test_an_average_that_would_not_forget_the_initial_weights_is_doubted() -> None:
    doubt = doubt_about_average(TrainingConfig(ema_momentum=0.9), steps=49)
    assert doubt and "takes about 50 steps to forget the initial weights, and there are 49" in doubt
    assert doubt.endswith("take at most 0.897, or more epochs")
    assert doubt_about_average(TrainingConfig(ema_momentum=0.9), steps=50) is None
    assert doubt_about_average(TrainingConfig(), steps=1) is None
