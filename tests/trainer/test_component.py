"""What the Trainer's executor does before and after it trains."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.util import udf_utils
from tfx.types import standard_artifacts

from components.errors import StageError
from components.trainer import run_fn
from components.trainer.config import TrainerSettings
from components.trainer.executor import Executor


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[FnArgs]:
    """What was handed to a ``run_fn`` that exports nothing."""
    handed_over: list[FnArgs] = []
    monkeypatch.setattr(run_fn, "run_fn", handed_over.append)
    # TFX imports the module anew.
    monkeypatch.setattr(udf_utils, "get_fn", lambda properties, name: handed_over.append)
    return handed_over


def run(directory: Path, epochs: int = 7, training: Any = None) -> None:
    settings = {
        "name": "pets",
        "dataset": {"layout": "folder", "root": None},
        "labels": {"names": ["ground", "disc"]},
        "input_size": [16, 16, "stretch"],
        "materialized": False,
        "model": {},
        "augmentation": {},
        "training": training or {},
    }
    artifacts: dict[str, list[Any]] = {
        "examples": [standard_artifacts.Examples()],
        "transform_graph": [standard_artifacts.TransformGraph()],
        "model": [standard_artifacts.Model()],
        "model_run": [standard_artifacts.ModelRun()],
    }
    for name, [artifact] in artifacts.items():
        artifact.uri = str(directory / name)
    artifacts["examples"][0].split_names = '["train", "val"]'
    properties = {
        "train_args": '{"splits": ["train"]}',
        "eval_args": '{"splits": ["val"]}',
        "run_fn": "components.trainer.run_fn.run_fn",
        "settings": json.dumps(settings),
        "limits": "{}",
        "data_path": "/data/pets",
        "epochs": epochs,
        "learning_rate": 0.5,
    }
    inputs = {name: artifacts[name] for name in ("examples", "transform_graph")}
    outputs = {name: artifacts[name] for name in ("model", "model_run")}
    Executor(GenericExecutor.Context()).Do(inputs, outputs, properties)


def test_the_runs_own_values_are_trained_with_and_recorded(tmp_path: Path, trained: list[FnArgs]) -> None:
    (tmp_path / "model" / "Format-Serving").mkdir(parents=True)
    run(tmp_path)
    [fn_args] = trained
    settings = fn_args.custom_config["settings"]
    assert isinstance(settings, TrainerSettings)
    assert (settings.training.epochs, settings.training.learning_rate) == (7, 0.5)
    record = settings.made_from()
    assert (record["training"]["epochs"], record["training"]["learning_rate"]) == (7, 0.5)
    assert record["dataset"] == {"layout": "folder", "root": "/data/pets"}


@pytest.mark.parametrize(
    ("epochs", "complaint"),
    [
        (0, "training.epochs is 0: Input should be greater than or equal to 1"),
        (5, "impossible: training.warmup_epochs is 6, which leaves nothing of the 5 training.epochs"),
    ],
)
def test_a_run_s_own_value_that_is_impossible_is_named(
    tmp_path: Path, trained: list[FnArgs], epochs: int, complaint: str
) -> None:
    with pytest.raises(StageError, match=complaint):
        run(tmp_path, epochs, training={"epochs": 9, "warmup_epochs": 6})
    assert not trained


def test_who_trains_alone_must_leave_a_model(tmp_path: Path, trained: list[FnArgs]) -> None:
    with pytest.raises(RuntimeError, match="failed to generate model"):
        run(tmp_path)


def test_who_helps_the_chief_need_not(
    tmp_path: Path, trained: list[FnArgs], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": members, "task": {"type": "worker", "index": 1}}))
    run(tmp_path)
    assert len(trained) == 1
