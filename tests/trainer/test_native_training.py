"""Training on windows of pictures at their own size."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import RunTransform, TransformRun, disc_pair
from trainer_arguments import fn_args
from windows_by_hand import by_hand

from components.dataset.labels import LabelSet
from components.imaging.reading import InputSize
from components.trainer import run_fn as trainer
from components.trainer.config import TrainerSettings
from components.trainer.export import export
from components.trainer.model_config import ModelConfig
from components.trainer.progress_callback import Progress
from components.trainer.run_fn import run_fn
from components.trainer.training_config import AugmentationConfig, TrainingConfig

SIZE = InputSize(16, 24, "native")
"""The discs are 20 to 39 pixels high and wide."""
AUGMENTED = {"horizontal_flip": True, "rotate": 30.0, "scale_crop": (0.7, 1.4), "brightness": 0.1}


@pytest.fixture(scope="module")
def transform_run(run_transform: RunTransform) -> TransformRun:
    return run_transform(height=16, width=24, resize="native", normalization="dataset")


def settings_of(directory: Path, augmentation: Any = None, **training: Any) -> TrainerSettings:
    return TrainerSettings(
        name="discs",
        labels=LabelSet(names=("ground", "disc")),
        input_size=SIZE,
        materialized=False,
        model=ModelConfig(filters=4, depth=2, normalization="batch"),
        augmentation=AugmentationConfig(**AUGMENTED if augmentation is None else augmentation),
        training=TrainingConfig(**{"epochs": 2, "batch_size": 5, "early_stopping_patience": None} | training),
        checkpoint_dir=str(directory / "checkpoints"),
    )


Train = Callable[..., Path]


@pytest.fixture
def train(transform_run: TransformRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains a tiny network; returns the directory with ``run`` and ``checkpoints``."""

    def run(name: str = "training", export: bool = False, **options: Any) -> Path:
        if not export:
            monkeypatch.setattr(trainer, "export", lambda *args: None)
        settings = settings_of(tmp_path / name, **options)
        run_fn(fn_args(transform_run, settings, tmp_path / name))
        return tmp_path / name

    return run


def measured(directory: Path) -> list[dict[str, float]]:
    epochs = json.loads((directory / "run" / "history.json").read_text())["epochs"]
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in epochs]


def test_windows_teach_what_a_disc_is_and_one_piece_of_a_picture_answers_almost_as_they_do(
    train: Train, transform_run: TransformRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = []

    def export_and_tell(network: keras.Model, *args: Any) -> None:
        exported.append((network, args[-1]))
        export(network, *args)

    monkeypatch.setattr(trainer, "export", export_and_tell)
    directory = train(export=True, epochs=8, learning_rate=1e-2, windows_per_epoch=40)
    epochs = measured(directory)
    assert epochs[-1]["val_iou_at_input_size"] > 0.85
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 2
    model = tf.saved_model.load(str(directory / "model"))
    for pair in transform_run.pairs["val"]:
        answer = model.signatures["serving_pixels"](images=tf.constant(pair.image[np.newaxis]))
        right = answer["class_ids"].numpy()[0] == pair.class_ids
        assert right[pair.class_ids != 255].mean() > 0.9

    # A picture of many discs, of which a window shows no more than the middle of one.
    [(network, stride)] = exported
    discs = [disc_pair(seed).image[:20, :20] for seed in range(200, 230)]
    scene = np.concatenate([np.concatenate(discs[row : row + 6], axis=1) for row in range(0, 30, 6)])
    whole = InputSize(scene.shape[0], scene.shape[1], "native")
    assert stride and whole.height % stride == whole.width % stride == 0
    (ids, sure), (ids_of_whole, sure_of_whole) = (by_hand(scene, size, network, 2) for size in (SIZE, whole))
    assert 0.1 < ids.mean() < 0.9
    assert (ids == ids_of_whole).mean() >= 0.99
    assert np.abs(sure - sure_of_whole).mean() <= 0.01


def test_a_killed_training_goes_on_as_if_nothing_had_happened_wherever_its_pixels_are(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are on disk until it is killed, and then in memory."""
    killed, begin = tmp_path / "killed", Progress.on_epoch_begin

    def copying(self: Progress, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if epoch + 1 == 3:
            # What a process leaves that is killed then.
            shutil.copytree(tmp_path / "through", killed)
        begin(self, epoch, logs)

    with monkeypatch.context() as copied:
        copied.setattr(Progress, "on_epoch_begin", copying)
        through = train("through", epochs=3, cache_bytes=0)
    assert list(killed.rglob("pixels"))
    assert measured(train("killed", epochs=3)) == measured(through)
    assert not list(tmp_path.rglob("pixels"))
