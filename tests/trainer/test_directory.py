"""Where a training's checkpoints lie, and what else may lie there."""

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from components.errors import StageError
from components.trainer import directory as directory_module
from components.trainer.checkpoints import STATE_FILE
from components.trainer.config import Constants, TrainerSettings
from components.trainer.directory import PIXELS, training_directory

CONSTANTS = Constants((1.0,), (0.0,), (3, 1))


def written(directory: Path, examples: bytes = b"disc") -> FnArgs:
    """The records of a run that wrote them into this directory."""
    directory.mkdir(exist_ok=True)
    (directory / "train-00000-of-00001").write_bytes(examples)
    (directory / "val-00000-of-00001").write_bytes(b"")
    return FnArgs(
        train_files=[str(directory / "train-*")],
        eval_files=[str(directory / "val-*")],
        transform_output=str(directory / "graph"),
    )


@pytest.fixture
def fn_args(tmp_path_factory: pytest.TempPathFactory) -> FnArgs:
    return written(tmp_path_factory.mktemp("run"))


def settings(checkpoint_dir: Path | None, **changed: Any) -> TrainerSettings:
    blocks: dict[str, Any] = {"model": {}, "augmentation": {}, "training": {}}
    blocks |= {name: value for name, value in changed.items() if name in blocks}
    values = {
        "name": "pets",
        "labels": {"names": ["ground", "disc"]},
        "input_size": [16, 16, "stretch"],
        "materialized": False,
        "checkpoint_dir": None if checkpoint_dir is None else str(checkpoint_dir),
    }
    return TrainerSettings.model_validate_json(json.dumps(values | blocks | changed))


def place(settings: TrainerSettings, fn_args: FnArgs, constants: Constants = CONSTANTS) -> Path:
    with training_directory(fn_args, settings, constants) as directory:
        return directory


def test_nothing_is_kept_without_a_place(fn_args: FnArgs) -> None:
    with training_directory(fn_args, settings(None), CONSTANTS) as directory:
        (directory / "state.json").touch()
    assert not directory.exists()


def test_the_same_training_finds_its_place_again_without_the_pixels(tmp_path: Path, fn_args: FnArgs) -> None:
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as directory:
        (directory / PIXELS).mkdir()
        (directory / "state.json").touch()
    assert directory.parent == tmp_path / "pets"
    assert place(settings(tmp_path), fn_args) == directory
    assert [path.name for path in directory.iterdir()] == ["state.json"]


def test_two_runs_never_work_on_one_training(
    tmp_path: Path, fn_args: FnArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "_CLEANING_SECONDS", 0.1)
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as directory:
        (directory / PIXELS).mkdir()
        with (
            pytest.raises(StageError, match="another run is at work on the same training"),
            training_directory(fn_args, settings(tmp_path), CONSTANTS),
        ):
            pass
        assert (directory / PIXELS).exists()
        # As a training does whose checkpoint is damaged.
        shutil.rmtree(directory)
        directory.mkdir()
        with pytest.raises(StageError, match="another run is at work"):
            place(settings(tmp_path), fn_args)
    place(settings(tmp_path), fn_args)


def test_pixels_of_a_killed_training_go_with_any_other_of_its_recipe_but_not_those_of_one_at_work(
    tmp_path: Path, fn_args: FnArgs
) -> None:
    killed = place(settings(tmp_path, training={"batch_size": 4}), fn_args)
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as at_work:
        for directory in (killed, at_work):
            (directory / PIXELS).mkdir()
            (directory / "state.json").touch()
        os.utime(killed, (9, 9))
        place(settings(tmp_path, training={"batch_size": 2}), fn_args)
        assert [path.name for path in killed.iterdir()] == ["state.json"]
        assert (at_work / PIXELS).is_dir()
        # It is as old as it was, and so the first to be removed.
        assert killed.stat().st_mtime == 9


@pytest.mark.parametrize(
    "blocks",
    [
        {"training": {"cache_bytes": 0}},
        {"training": {"jit_compile": False}},
        {"training": {"mixed_precision": "none"}},  # what null comes to without a GPU
        {"model": {"test_time_augmentation": {"horizontal_flip": True, "scales": [2.0]}}},
        {"labels": {"names": ["floor", "disc"], "colors": [[0, 0, 9], [9, 0, 0]], "raw_values": [0, 255]}},
    ],
)
def test_what_does_not_change_the_training_goes_on_from_the_same_checkpoints(
    tmp_path: Path, fn_args: FnArgs, blocks: dict[str, Any]
) -> None:
    assert place(settings(tmp_path, **blocks), fn_args) == place(settings(tmp_path), fn_args)


def test_a_repeated_run_over_the_same_data_goes_on_where_the_first_one_stopped(
    tmp_path: Path, fn_args: FnArgs
) -> None:
    repeated = written(tmp_path / "repeated")
    assert place(settings(tmp_path), repeated) == place(settings(tmp_path), fn_args)


def test_other_settings_and_other_data_train_in_another_place(tmp_path: Path, fn_args: FnArgs) -> None:
    places = {
        place(settings(tmp_path), fn_args),
        place(settings(tmp_path, training={"epochs": 7}), fn_args),
        place(settings(tmp_path, input_size=[32, 16, "stretch"]), fn_args),
        place(settings(tmp_path, training={"mixed_precision": "bfloat16"}), fn_args),
        place(settings(tmp_path, code_fingerprint="new"), fn_args),
        place(settings(tmp_path, labels={"names": ["ground", "disc", "square"]}), fn_args),
        place(settings(tmp_path), written(tmp_path / "pixels", examples=b"disk")),
        place(settings(tmp_path), fn_args, CONSTANTS._replace(class_pixels=(2, 2))),
    }
    assert len(places) == 8


def test_other_weights_in_the_same_file_train_in_another_place(tmp_path: Path, fn_args: FnArgs) -> None:
    """Whoever made the settings, on another machine perhaps, has not seen the file."""
    weights = tmp_path / "encoder.weights.h5"
    given = settings(tmp_path, model={"encoder": "MobileNetV2", "encoder_weights": str(weights)})
    assert given.encoder_digest == ""
    weights.write_bytes(b"once")
    once = place(given, fn_args)
    assert place(given, fn_args) == once
    weights.write_bytes(b"anew")
    assert place(given, fn_args) != once


def test_weights_that_cannot_be_read_are_named(tmp_path: Path, fn_args: FnArgs) -> None:
    # Linux reads no process's memory at 0.
    given = settings(tmp_path, model={"encoder": "MobileNetV2", "encoder_weights": "/proc/self/mem"})
    with pytest.raises(StageError) as refused:
        place(given, fn_args)
    assert str(refused.value) == (
        "model.encoder_weights is '/proc/self/mem', which cannot be read: Input/output error; "
        "make that possible"
    )


def test_other_code_in_the_trainers_process_trains_in_another_place(
    tmp_path: Path, fn_args: FnArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings know that of the machine that made the pipeline, not that of an image."""
    before = place(settings(tmp_path), fn_args)
    fingerprinted: list[ModuleType] = []

    def other(*sources: ModuleType) -> str:
        fingerprinted.extend(sources)
        return "other code"

    monkeypatch.setattr(directory_module, "source_fingerprint", other)
    assert place(settings(tmp_path), fn_args) != before
    assert {"components.trainer", "components.transform", "models"} <= {
        source.__name__ for source in fingerprinted
    }


def test_the_oldest_trainings_go_and_nothing_else_does(tmp_path: Path, fn_args: FnArgs) -> None:
    home = tmp_path / "pets"
    for foreign in ("images", "training-notes", "masks2024"):
        (home / foreign).mkdir(parents=True)
        os.utime(home / foreign, (0, 0))
    damaged = home / f"training-{0:016x}.damaged"
    damaged.mkdir()
    os.utime(damaged, (0, 0))
    (home / "README").touch()
    (tmp_path / "clothing" / f"training-{0:016x}").mkdir(parents=True)
    trainings = [place(settings(tmp_path, training={"epochs": 1}), fn_args)]
    for age in range(2, 6):
        os.utime(trainings[-1], (age, age))
        trainings.append(place(settings(tmp_path, training={"epochs": age}), fn_args))
    assert {path.name for path in home.iterdir() if not path.name.startswith(".")} == {
        *(path.name for path in trainings[1:]), "images", "training-notes", "masks2024", "README",
    }  # fmt: skip
    assert {path.name for path in home.glob(".*")} == {f".{path.name}.lock" for path in trainings[1:]}
    assert (tmp_path / "clothing" / f"training-{0:016x}").exists()


def test_an_old_training_that_is_at_work_stays(tmp_path: Path, fn_args: FnArgs) -> None:
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as oldest:
        os.utime(oldest, (0, 0))
        for epochs in range(1, 6):
            place(settings(tmp_path, training={"epochs": epochs}), fn_args)
        assert oldest.exists()
    place(settings(tmp_path, training={"epochs": 6}), fn_args)
    assert not oldest.exists()


def test_a_training_that_another_run_removes_before_it_is_locked_is_begun_anew(
    tmp_path: Path, fn_args: FnArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    outdated, flock = place(settings(tmp_path), fn_args), fcntl.flock

    def removed_meanwhile(file: Any, operation: int) -> None:
        monkeypatch.undo()
        shutil.rmtree(outdated)
        outdated.with_name(f".{outdated.name}.lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as directory:
        assert directory == outdated and directory.is_dir()
        with pytest.raises(StageError, match="another run is at work"), directory_module._locked(outdated):
            pass


def test_a_training_that_another_run_is_removing_is_waited_for(tmp_path: Path, fn_args: FnArgs) -> None:
    outdated = place(settings(tmp_path), fn_args)
    with (outdated.parent / f".{outdated.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cleaned = threading.Timer(0.3, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        cleaned.start()
        assert place(settings(tmp_path), fn_args) == outdated
        cleaned.join()


def test_a_worker_starts_from_nothing_where_the_chief_puts_a_damaged_checkpoint_aside_meanwhile(
    tmp_path: Path, fn_args: FnArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = place(settings(tmp_path), fn_args)
    for name in (STATE_FILE, "epoch-0001.npz"):
        (kept / name).touch()
    monkeypatch.setattr(directory_module, "is_chief", lambda: False)
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as copy:
        assert {path.name for path in copy.iterdir()} == {STATE_FILE, "epoch-0001.npz"}

    # Called when what there is to copy is listed.
    def put_aside(*patterns: str) -> Callable[[str, list[str]], set[str]]:
        def ignored(folder: str, names: list[str]) -> set[str]:
            (kept / STATE_FILE).unlink()
            return set()

        return ignored

    monkeypatch.setattr(shutil, "ignore_patterns", put_aside)
    with training_directory(fn_args, settings(tmp_path), CONSTANTS) as copy:
        assert list(copy.iterdir()) == []


def test_a_worker_that_cannot_copy_a_checkpoint_says_so(
    tmp_path: Path, fn_args: FnArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = place(settings(tmp_path), fn_args)
    (kept / STATE_FILE).touch()
    (kept / "epoch-0001.npz").symlink_to("nowhere")
    monkeypatch.setattr(directory_module, "is_chief", lambda: False)
    with pytest.raises(StageError, match=r"the checkpoint in .* cannot be copied: .*(nowhere|epoch-0001)"):
        place(settings(tmp_path), fn_args)
