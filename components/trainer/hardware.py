"""What a training runs on, and the dtype policy and XLA compilation where the recipe leaves them to it."""

import os
from importlib.util import find_spec
from typing import Literal

import tensorflow as tf

from components.errors import StageError
from components.trainer.training_config import TrainingConfig

_FLOAT16 = (7, 0)
"""The first compute capability of NVIDIA's whose tensor cores multiply float16."""
_BFLOAT16 = (8, 0)
"""The first whose tensor cores multiply bfloat16, as fast."""
_BLACKWELL = (10, 0)
"""The first for which XLA of TensorFlow 2.21, made with CUDA 12.5, writes code that ends the process
(tensorflow/tensorflow#111958)."""


def training_policy(training: TrainingConfig) -> str:
    """The dtype policy to train with: as wanted, else the best that every GPU has tensor cores for.

    That is bfloat16 before float16: it has float32's range, so nothing overflows and no loss is scaled.
    Without GPUs, or with older ones, it is float32.
    """
    precision = _fastest_precision() if training.mixed_precision is None else training.mixed_precision
    return "float32" if precision == "none" else f"mixed_{precision}"


def _fastest_precision() -> Literal["none", "float16", "bfloat16"]:
    capability = min(_capabilities(), default=(0, 0))
    if capability >= _BFLOAT16:
        return "bfloat16"
    return "float16" if capability >= _FLOAT16 else "none"


def _capabilities() -> list[tuple[int, int]]:
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    # GPUs of other makers have none.
    return [gpu.get("compute_capability", (0, 0)) for gpu in details]


def devices() -> str:
    """Says what this process trains on, such as ``2 GPUs (NVIDIA A100)`` or ``the CPU, 8 cores``."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        cores = len(os.sched_getaffinity(0))
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
        idle = wanted and find_spec("nvidia") is not None
        return (
            f"the CPU, {cores} core{'s' * (cores != 1)}"
            + "; CUDA's libraries are installed, but TensorFlow finds no GPU" * idle
        )
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    # In their order, each once; GPUs of other makers have none.
    names = ", ".join(dict.fromkeys(gpu["device_name"] for gpu in details if "device_name" in gpu))
    return f"{len(gpus)} GPU{'s' * (len(gpus) != 1)}" + (f" ({names})" if names else "")


def compiles_steps(training: TrainingConfig) -> bool:
    """Whether XLA compiles the steps: as wanted, else where the strategy in force has one device, a GPU.

    It pays on accelerators, of NVIDIA's up to compute capability 9. On a CPU, TensorFlow's own kernels train
    U-Nets three times as fast.

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
        capabilities = _capabilities()
        return replicas == 1 and bool(capabilities) and max(capabilities) < _BLACKWELL
    return training.jit_compile
