"""What the recipe leaves to the hardware."""

import tensorflow as tf

from components.errors import StageError
from components.trainer.config import TrainingConfig

_TENSOR_CORES = (7, 0)
"""The first compute capability of NVIDIA's that multiplies float16 faster than float32."""


def training_policy(training: TrainingConfig) -> str:
    """The dtype policy to train with: as wanted, else float16 where every GPU has tensor cores for it."""
    precision = training.mixed_precision
    if precision is None:
        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capable = [gpu.get("compute_capability", (0, 0)) >= _TENSOR_CORES for gpu in details]
        precision = "float16" if gpus and all(capable) else "none"
    return "float32" if precision == "none" else f"mixed_{precision}"


def compiles_steps(training: TrainingConfig) -> bool:
    """Whether XLA compiles the steps: as wanted, else where the strategy in force has one device, a GPU.

    It pays on accelerators; on a CPU, TensorFlow's own kernels train U-Nets three times as fast.

    Raises:
        StageError: it is wanted on several devices.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if training.jit_compile and replicas > 1:
        raise StageError(
            f"training.jit_compile is true, but XLA cannot compile a step that {replicas} devices share; "
            "set it to null"
        )
    if training.jit_compile is None:
        return replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    return training.jit_compile
