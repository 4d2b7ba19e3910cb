"""A float16 training that two virtual CPUs of this process share; run as a program, in a process of its own.

python replica_precision.py DIRECTORY

keeps its checkpoint in DIRECTORY, and writes into outcome.json there what came of it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.trainer.checkpoints import Checkpoints
from components.trainer.distribution import replica_batches, replicated
from components.trainer.optimizers import averaged_weights, build_optimizer, phases
from components.trainer.training_config import TrainingConfig


def network(strategy: tf.distribute.Strategy) -> keras.Model:
    training = TrainingConfig(
        epochs=2, optimizer="adamw", weight_decay=0.01, learning_rate=0.01, ema_momentum=0.8
    )
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        inputs = keras.Input((3,))
        outputs = keras.layers.Dense(1, dtype="float32")(keras.layers.Dense(4)(inputs))
        model = keras.Model(inputs, outputs)
    keras.config.set_dtype_policy("float32")
    model = replicated(model, strategy)
    with strategy.scope():
        model.compile(build_optimizer(training, phases(training)[0], 4), "mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
    return model


X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def batches(x: np.ndarray) -> tf.data.Dataset:
    """Four batches of four samples, two of each for each replica."""
    return replica_batches(tf.data.Dataset.from_tensor_slices((x, Y)).batch(4))


def numbers(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    shared = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    directory = Path(sys.argv[1])
    trained, resumed = network(shared), network(shared)
    with shared.scope():
        trained.fit(batches(X), epochs=2, shuffle=False, verbose=0, callbacks=[Checkpoints(directory)])
        Checkpoints(directory).restore(resumed, 4)
        with averaged_weights(resumed):
            averaged = resumed.get_weights()
    outcome: dict[str, Any] = {
        "scales the loss": isinstance(trained.optimizer, keras.optimizers.LossScaleOptimizer),
        "steps": int(numbers([trained.optimizer.iterations])[0]),
        # Keras leaves a fitted network with its averaged weights.
        "weights restored": same(averaged, trained.get_weights()),
        "optimiser restored": same(
            numbers(resumed.optimizer.variables), numbers(trained.optimizer.variables)
        ),
    }
    with shared.scope():
        Checkpoints(directory).restore(resumed, 8)
    outcome["steps of epochs twice as long"] = int(numbers([resumed.optimizer.iterations])[0])
    # Of the first batch, the first replica has samples 0 and 1, the second one 2 and 3.
    for replica, sample in enumerate((0, 2)):
        x = X.copy()
        x[sample] *= 1e20
        before, [scale] = trained.get_weights(), numbers([trained.optimizer.dynamic_scale])
        with shared.scope():
            trained.fit(batches(x).take(1), shuffle=False, verbose=0)
        [scale_after] = numbers([trained.optimizer.dynamic_scale])
        outcome[f"overflow on {replica}"] = {
            "weights untouched": same(trained.get_weights(), before),
            "scale": float(scale_after / scale),
        }
    (directory / "outcome.json").write_text(json.dumps(outcome))
