"""Models to push, and pushed ones, without TensorFlow."""

from pathlib import Path

import pytest

from components.model_store import publishing, signing


def write_model(path: Path, content: str = "weights") -> Path:
    """Writes what passes for a SavedModel; returns its path."""
    for name in ("saved_model.pb", "variables/variables.data", "assets.extra/labels.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{name}: {content}")
    return path


@pytest.fixture
def written_model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def serving_base(tmp_path: Path) -> Path:
    """Where models are served, not made yet."""
    return tmp_path / "serving" / "pets"


def push(base: Path, key: str | None, content: str = "weights") -> Path:
    """Pushes a model, signed by a private key or not at all; returns the version's directory."""
    model = base.parents[1] / "model"
    (model / "variables").mkdir(parents=True, exist_ok=True)
    (model / "saved_model.pb").write_text(content)
    (model / "variables" / "variables.index").write_text("index")
    number = publishing.publish(
        model, base, {"push_token": "t"}, sign=lambda copy: signing.sign(copy, key) if key else None
    )
    return base / str(number)


def flip(version: Path) -> None:
    """Changes a bit of a version that `push` made."""
    path = version / "variables" / "variables.index"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
