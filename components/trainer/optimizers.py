"""The recipe's optimiser with its learning rate over time, and the averaged weights that it keeps."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras
from keras import ops

from components.trainer.training_config import TrainingConfig

POLYNOMIAL_POWER = 0.9
"""As in DeepLab (Chen et al. 2018), which made this schedule common in segmentation."""


FORGETTING = 5
"""Steps, times 1 / (1 - momentum), after which an exponential average has 0.7 % left of where it began."""


class Phase(NamedTuple):
    """Some epochs of a training that share one optimiser."""

    number: int
    epochs: int
    learning_rate: float
    warmup_epochs: int


def phases(training: TrainingConfig) -> tuple[Phase, ...]:
    """Returns the phases of a training: one, or two where a frozen encoder is fine-tuned afterwards."""
    first = Phase(1, training.epochs, training.learning_rate, training.warmup_epochs)
    if not training.fine_tuning_epochs:
        return (first,)
    fine = training.fine_tuning_learning_rate or training.learning_rate / 10
    return (first, Phase(2, training.fine_tuning_epochs, fine, 0))


@keras.saving.register_keras_serializable("segmentation")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in equal steps to where another schedule begins, then follows that one.

    Keras warms up its cosine alone. The first step is one of ``steps`` equal parts, not 0: a step of
    length 0 would be wasted.

    Args:
        schedule: what follows, counted from its own step 0.
        steps: steps before it begins.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int):
        super().__init__()
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rising = self.schedule(0) * (step + 1) / self.steps
        return ops.where(step < self.steps, rising, self.schedule(ops.maximum(step - self.steps, 0)))

    def get_config(self) -> dict[str, Any]:
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LinearWarmup":
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, config["steps"])


def learning_rate_schedule(
    training: TrainingConfig, phase: Phase, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a phase, a function of the phase's step."""
    warmup = phase.warmup_epochs * steps_per_epoch
    steps = phase.epochs * steps_per_epoch - warmup
    schedules = keras.optimizers.schedules
    match training.schedule:
        case "constant":
            # Keras has no constant schedule; one that decays from a rate to the same rate is constant.
            schedule = schedules.PolynomialDecay(
                phase.learning_rate, decay_steps=1, end_learning_rate=phase.learning_rate
            )
        case "cosine":
            schedule = schedules.CosineDecay(phase.learning_rate, steps)
        case "polynomial":
            schedule = schedules.PolynomialDecay(
                phase.learning_rate, steps, end_learning_rate=0.0, power=POLYNOMIAL_POWER
            )
    return LinearWarmup(schedule, warmup) if warmup else schedule


def build_optimizer(
    training: TrainingConfig, phase: Phase, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Returns a fresh optimiser for a phase; its step 0 is the phase's first."""
    common: dict[str, Any] = {
        "learning_rate": learning_rate_schedule(training, phase, steps_per_epoch),
        "global_clipnorm": training.gradient_clip_norm,
    }
    if training.ema_momentum is not None:
        common |= {"use_ema": True, "ema_momentum": training.ema_momentum}
    match training.optimizer:
        case "adam":
            return keras.optimizers.Adam(**common)
        case "rmsprop":
            return keras.optimizers.RMSprop(**common)
        case "adamw":
            return keras.optimizers.AdamW(weight_decay=training.weight_decay, **common)
        case "sgd":
            return keras.optimizers.SGD(
                momentum=training.momentum,
                nesterov=training.momentum > 0,
                weight_decay=training.weight_decay or None,
                **common,
            )


def spare_vectors(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Lets a fresh optimiser's weight decay act on kernels alone, not on variables of one dimension.

    Those are offsets and scales: they do not overfit, and pulled to zero they only lose what they learnt.
    """
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in variables if len(variable.shape) < 2]
    )


def doubt_about_average(training: TrainingConfig, steps: int) -> str | None:
    """Says of an average whose memory is longer than a phase that it would not forget the initial weights."""
    if training.ema_momentum is None:
        return None
    memory = round(FORGETTING / (1 - training.ema_momentum))
    if memory <= steps:
        return None
    highest = math.floor(1000 * (1 - FORGETTING / steps)) / 1000
    remedy = (
        f"take at most {highest:g}, or more epochs" if highest > 0 else "leave it out, or take more epochs"
    )
    return (
        f"training.ema_momentum {training.ema_momentum:g} takes about {memory:,} steps to forget the "
        f"initial weights, and there are {steps:,}; {remedy}"
    )


@contextmanager
def averaged_weights(network: keras.Model) -> Iterator[None]:
    """Within, the network has the moving averages of its weights, if its optimiser keeps any."""
    if not getattr(network.optimizer, "inner_optimizer", network.optimizer).use_ema:
        yield
        return
    variables = network.trainable_variables
    trained = [ops.convert_to_numpy(variable) for variable in variables]
    network.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, trained, strict=True):
            variable.assign(value)


class ValidateAveragedWeights(keras.callbacks.Callback):
    """Lets the averaged weights stand in for the trained ones while the network is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self._averaged = ExitStack()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._averaged.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._averaged.close()
