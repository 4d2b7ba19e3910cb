"""What is left to the hardware, on machines with GPUs that are not there."""

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from components.errors import StageError
from components.trainer.hardware import compiles_steps, devices, training_policy
from components.trainer.training_config import TrainingConfig

SetUp = Callable[..., None]

BLACKWELL, HOPPER, AMPERE, TURING, PASCAL = (
    {"device_name": name, "compute_capability": capability}
    for name, capability in (
        ("B200", (10, 0)),
        ("H100", (9, 0)),
        ("A100", (8, 0)),
        ("T4", (7, 5)),
        ("P100", (6, 0)),
    )
)
OTHER_MAKER: dict[str, Any] = {"device_name": "MI300X"}


@pytest.fixture
def has_gpus(monkeypatch: pytest.MonkeyPatch) -> SetUp:
    """Gives the machine GPUs of which TensorFlow says this."""

    def set_up(*details: dict[str, Any]) -> None:
        gpus = list(range(len(details)))
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus if kind == "GPU" else [])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu])

    return set_up


@pytest.mark.parametrize(
    ("gpus", "policy"),
    [
        ([], "float32"),
        ([PASCAL], "float32"),
        ([OTHER_MAKER], "float32"),
        ([TURING], "mixed_float16"),
        ([AMPERE], "mixed_bfloat16"),
        ([AMPERE, AMPERE], "mixed_bfloat16"),
        ([AMPERE, TURING], "mixed_float16"),
        ([PASCAL, AMPERE], "float32"),
        ([AMPERE, OTHER_MAKER], "float32"),
    ],
)
def test_the_precision_is_the_best_that_every_gpu_is_fast_at(
    has_gpus: SetUp, gpus: list[dict[str, Any]], policy: str
) -> None:
    has_gpus(*gpus)
    assert training_policy(TrainingConfig()) == policy


@pytest.mark.parametrize(
    ("wanted", "policy"),
    [("none", "float32"), ("float16", "mixed_float16"), ("bfloat16", "mixed_bfloat16")],
)
@pytest.mark.parametrize("gpus", [[], [TURING], [AMPERE]])
def test_a_wanted_precision_is_taken_on_any_hardware(
    has_gpus: SetUp, gpus: list[dict[str, Any]], wanted: Any, policy: str
) -> None:
    has_gpus(*gpus)
    assert training_policy(TrainingConfig(mixed_precision=wanted)) == policy


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ([AMPERE], "1 GPU (A100)"),
        ([AMPERE, AMPERE], "2 GPUs (A100)"),
        ([TURING, AMPERE, TURING], "3 GPUs (T4, A100)"),
        ([OTHER_MAKER], "1 GPU (MI300X)"),
        ([{}, {}], "2 GPUs"),
    ],
)
def test_the_gpus_that_train_are_named(has_gpus: SetUp, gpus: list[dict[str, Any]], said: str) -> None:
    has_gpus(*gpus)
    assert devices() == said


@pytest.mark.parametrize(("cores", "said"), [({3}, "the CPU, 1 core"), ({0, 5}, "the CPU, 2 cores")])
def test_without_a_gpu_the_cores_that_may_be_used_are_counted(
    has_gpus: SetUp, monkeypatch: pytest.MonkeyPatch, cores: set[int], said: str
) -> None:
    has_gpus()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: cores)
    assert devices() == said


class TwoReplicas:
    num_replicas_in_sync = 2


def test_cudas_libraries_without_a_gpu_are_told_of(has_gpus: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpus()
    assert "CUDA" not in devices()
    monkeypatch.setattr("components.trainer.hardware.find_spec", lambda package: package == "nvidia")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA" not in devices()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices().endswith("; CUDA's libraries are installed, but TensorFlow finds no GPU")


def test_steps_are_compiled_for_a_single_gpu_alone(has_gpus: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpus()
    assert not compiles_steps(TrainingConfig())
    for gpu in (AMPERE, HOPPER):
        has_gpus(gpu)
        assert compiles_steps(TrainingConfig())
    has_gpus(OTHER_MAKER)
    assert compiles_steps(TrainingConfig())
    has_gpus(BLACKWELL)
    assert not compiles_steps(TrainingConfig())
    has_gpus(AMPERE, AMPERE)
    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    assert not compiles_steps(TrainingConfig())


def test_compiling_can_be_chosen_except_where_devices_share_a_step(
    has_gpus: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_gpus()
    assert compiles_steps(TrainingConfig(jit_compile=True))
    has_gpus(AMPERE)
    assert not compiles_steps(TrainingConfig(jit_compile=False))
    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    assert not compiles_steps(TrainingConfig(jit_compile=False))
    with pytest.raises(StageError, match=r"jit_compile is true, but .* 2 devices share; set it to null"):
        compiles_steps(TrainingConfig(jit_compile=True))
