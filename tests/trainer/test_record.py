"""What a training leaves for people to look at."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.dataset.labels import LabelSet
from components.trainer.checkpoints import IOU, History
from components.trainer.record import TrainingRecord, draw_panel, write_record

LABELS = LabelSet(names=("ground", "disc"), colors=((10, 20, 30), (200, 100, 0)))


def shows(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture) == color).all(axis=-1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(8, 8), (1, 6), (300, 20)])
def test_a_panel_shows_truth_and_prediction_in_the_label_sets_colours(
    channels: int, shape: tuple[int, int]
) -> None:
    image = np.full((*shape, channels), 77, np.uint8)
    truth, predicted = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    panel = draw_panel([(image, truth)], [predicted], LABELS)
    # A line of pixels through the tiles, left to right: image, truth, prediction.
    left, middle, right = (np.nonzero(shows(panel, color)[40])[0] for color in ((77, 77, 77), *LABELS.colors))
    assert left.max() < middle.min() and middle.max() < right.min()
    assert len(left) == len(middle) == len(right)
    assert max(panel.width, panel.height) < 900


def test_ignored_pixels_have_a_colour_of_their_own_and_many_classes_no_legend() -> None:
    truth = np.full((8, 8), 255, np.uint8)
    pair = (np.zeros((8, 8, 3), np.uint8), truth)
    few = draw_panel([pair], [truth], LABELS)
    many = draw_panel([pair], [truth], LabelSet(names=tuple(str(number) for number in range(200))))
    assert shows(few, (224, 224, 224)).sum() > 2 * 190 * 190
    assert many.height < few.height


@pytest.mark.parametrize(("one", "other"), [("Жук", "Тиж"), ("Größe", "Gräße"), ("木", "道")])
def test_a_panel_names_classes_in_any_letters(one: str, other: str) -> None:
    pair = (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    panels = [draw_panel([pair], [pair[1]], LabelSet(names=(name, "x"))) for name in (one, other)]
    # Letters that a font lacks all look alike.
    assert not np.array_equal(*map(np.asarray, panels))


def network() -> keras.Model:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)])
    model.compile("adam")
    return model


def record_epochs(directory: Path, epochs: range) -> None:
    """What one process of a training records."""
    pairs = [(np.full((8, 8, 3), 50 * number, np.uint8), np.eye(8, dtype=np.uint8)) for number in range(2)]
    record = TrainingRecord(directory, pairs, LABELS)
    record.set_model(network())
    for epoch in epochs:
        logs = {
            "loss": 1.0 / (epoch + 1),
            IOU: 0.5,
            f"val_{IOU}": 0.25,
            "learning_rate": 0.01,
            "seconds": 1.0,
        }
        record.on_epoch_end(epoch, logs)


def scalars(directory: Path) -> dict[str, list[int]]:
    """The steps of every tag that TensorBoard finds below a directory."""
    found: dict[str, list[int]] = {}
    for file in sorted(directory.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    # Names of files of one second end in numbers of a process and a writer, which do not sort as texts.
    return {tag: sorted(steps) for tag, steps in found.items()}


def test_an_interrupted_training_leaves_the_record_of_all_its_epochs(tmp_path: Path) -> None:
    record_epochs(tmp_path, range(2))
    record_epochs(tmp_path, range(2, 3))
    epochs = [{"phase": 1, "loss": 1.0, IOU: 0.5, "val_loss": 1.0, f"val_{IOU}": 0.25}] * 2
    epochs.append(epochs[0] | {"phase": 2, f"val_{IOU}": 0.75})
    write_record(tmp_path, History(epochs, None), ["unicorn"], tmp_path / "run")

    board = tmp_path / "run" / "tensorboard"
    drawn = ("learning_rate", "predictions", "loss", IOU)
    assert scalars(board / "train") == {name: [1, 2, 3] for name in drawn}
    assert scalars(board / "val") == {IOU: [1, 2, 3]}
    pictures = sorted(path.name for path in (tmp_path / "run" / "predictions").iterdir())
    assert pictures == ["epoch-0001.png", "epoch-0002.png", "epoch-0003.png"]
    assert json.loads((tmp_path / "run" / "history.json").read_text()) == {
        "best_epoch": 3,
        "epochs": epochs,
        "untrained_classes": ["unicorn"],
    }
    curves = Image.open(tmp_path / "run" / "curves.png")
    assert min(curves.size) > 300


def test_curves_are_drawn_without_validation_and_for_a_single_epoch(tmp_path: Path) -> None:
    record_epochs(tmp_path, range(1))
    write_record(tmp_path, History([{"phase": 1, "loss": 1.0, IOU: 0.5}], None), [], tmp_path / "run")
    assert min(Image.open(tmp_path / "run" / "curves.png").size) > 300
