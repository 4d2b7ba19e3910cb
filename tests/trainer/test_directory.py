"""Where a training's checkpoints lie, and what else may lie there."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tfx.v1.components import FnArgs

from components.trainer.config import TrainerSettings
from components.trainer.directory import PIXELS, training_directory

FN_ARGS = FnArgs(train_files=["train-*"], eval_files=["val-*"], transform_output="graph")


def settings(checkpoint_dir: Path | None, **changed: Any) -> TrainerSettings:
    blocks: dict[str, Any] = {"model": {}, "augmentation": {}, "training": {}}
    blocks |= {name: value for name, value in changed.items() if name in blocks}
    values = {
        "recipe": {"name": "pets", **blocks},
        "labels": {"names": ["ground", "disc"]},
        "height": 16,
        "width": 16,
        "resize": "stretch",
        "materialized": False,
        "checkpoint_dir": None if checkpoint_dir is None else str(checkpoint_dir),
    }
    return TrainerSettings.model_validate_json(json.dumps(values | blocks | changed))


def place(settings: TrainerSettings, fn_args: FnArgs = FN_ARGS) -> Path:
    with training_directory(fn_args, settings) as directory:
        return directory


def test_nothing_is_kept_without_a_place() -> None:
    with training_directory(FN_ARGS, settings(None)) as directory:
        (directory / "state.json").touch()
    assert not directory.exists()


def test_the_same_training_finds_its_place_again_without_the_pixels(tmp_path: Path) -> None:
    with training_directory(FN_ARGS, settings(tmp_path)) as directory:
        (directory / PIXELS).mkdir()
        (directory / "state.json").touch()
    assert directory.parent == tmp_path / "pets"
    assert place(settings(tmp_path)) == directory
    assert [path.name for path in directory.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "blocks",
    [
        {"training": {"cache_bytes": 0}},
        {"training": {"jit_compile": False}},
        {"training": {"mixed_precision": "bfloat16"}},
        {"model": {"average_mirrored": True, "average_scales": [1.25]}},
    ],
)
def test_what_does_not_change_the_training_goes_on_from_the_same_checkpoints(
    tmp_path: Path, blocks: dict[str, Any]
) -> None:
    assert place(settings(tmp_path, **blocks)) == place(settings(tmp_path))


def test_other_settings_and_other_data_train_in_another_place(tmp_path: Path) -> None:
    other_data = FnArgs(train_files=["other-*"], eval_files=["val-*"], transform_output="graph")
    places = {
        place(settings(tmp_path)),
        place(settings(tmp_path, training={"epochs": 7})),
        place(settings(tmp_path, height=32)),
        place(settings(tmp_path, code_fingerprint="new")),
        place(settings(tmp_path), other_data),
    }
    assert len(places) == 5


def test_the_oldest_trainings_go_and_nothing_else_does(tmp_path: Path) -> None:
    home = tmp_path / "pets"
    for foreign in ("images", "training-notes", "masks2024"):
        (home / foreign).mkdir(parents=True)
        os.utime(home / foreign, (0, 0))
    (home / "README").touch()
    (tmp_path / "clothing" / f"training-{0:016x}").mkdir(parents=True)
    trainings = [place(settings(tmp_path, training={"epochs": 1}))]
    for age in range(2, 6):
        os.utime(trainings[-1], (age, age))
        trainings.append(place(settings(tmp_path, training={"epochs": age})))
    assert {path.name for path in home.iterdir()} == {
        *(path.name for path in trainings[1:]), "images", "training-notes", "masks2024", "README",
    }  # fmt: skip
    assert (tmp_path / "clothing" / f"training-{0:016x}").exists()
