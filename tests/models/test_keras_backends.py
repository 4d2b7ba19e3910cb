"""The models answer the same under every backend of Keras."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from backend_outputs import outputs

_PROGRAM = Path(__file__).with_name("backend_outputs.py")


def answers(backend: str, path: Path) -> dict[str, np.ndarray]:
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(_PROGRAM.parents[2]),
        # JAX compiles every operation, which takes longer than what the optimised ones would save.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    subprocess.run([sys.executable, str(_PROGRAM), str(path)], check=True, env=environment, timeout=250)
    with np.load(path) as saved:
        return dict(saved)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    assert keras.backend.backend() == "tensorflow"
    return {name: keras.ops.convert_to_numpy(answer) for name, answer in outputs()}


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_answers_the_same(
    expected: dict[str, np.ndarray], backend: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    found = answers(backend, tmp_path / "answers.npz")
    assert found.keys() == expected.keys()
    for name, answer in expected.items():
        assert found[name].dtype == answer.dtype, name
        if answer.dtype == np.uint8:
            # Pixels may be rounded to the next value, and a point half-way between two to either of them.
            off = np.abs(found[name].astype(int) - answer) > ("images" in name)
            assert off.mean() < 0.01, name
        else:
            np.testing.assert_allclose(found[name], answer, rtol=1e-4, atol=1e-4, err_msg=name)
