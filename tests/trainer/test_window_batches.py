"""Batches of windows: what is in them, and what validation counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.dataset.labels import LabelSet
from components.errors import StageError
from components.imaging.reading import InputSize
from components.trainer import data
from components.trainer.batches import grid_pairs, window_batches
from components.trainer.config import Constants, TrainerSettings
from components.trainer.data import Examples
from components.trainer.model_config import ModelConfig
from components.trainer.network import build_network, compile_network
from components.trainer.optimizers import build_optimizer, phases
from components.trainer.pictures import Picture
from components.trainer.training_config import AugmentationConfig, TrainingConfig
from components.trainer.windows import RandomWindows
from models.augmentation import RandomAugmentation

SIZE = InputSize(8, 12, "native")
ODD = [(1, 1), (1, 5000), (5000, 1), (3, 40), (50, 60)]
"""Shapes that windows do not fit."""


def picture(height: int, width: int, seed: int = 0) -> Picture:
    random = np.random.default_rng([seed, height, width])
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    return Picture(image, random.integers(0, 2, (height, width)).astype(np.uint8))


def windows_of(pictures: list[Picture], **options: Any) -> RandomWindows:
    defaults: dict[str, Any] = {"num_classes": 2, "foreground": 0.5, "seed": 3}
    return RandomWindows(pictures, SIZE.height, SIZE.width, **defaults | options)


def batches(
    windows: RandomWindows, epochs: range, augment: RandomAugmentation | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    made = window_batches(windows, epochs, steps_per_epoch=3, batch_size=4, augment=augment)
    return list(made.as_numpy_iterator())


def assert_equal_batches(actual: list[Any], expected: list[Any]) -> None:
    for one, other in zip(actual, expected, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_batches_hold_the_windows_in_their_order_and_mix_pictures() -> None:
    pictures = [picture(40, 50, seed) for seed in range(6)]
    windows = windows_of(pictures)
    number = 0
    for images, masks in batches(windows, range(2)):
        places = [windows.place(number + offset) for offset in range(4)]
        assert len({place.picture for place in places}) > 1
        for place, image, mask in zip(places, images, masks, strict=True):
            inside = np.s_[place.top : place.top + 8, place.left : place.left + 12]
            np.testing.assert_array_equal(image, pictures[place.picture].image[inside])
            np.testing.assert_array_equal(mask, pictures[place.picture].class_ids[inside])
        number += 4
    assert number == 24


def test_an_epoch_is_the_same_whether_others_came_before_it_or_not() -> None:
    augment = RandomAugmentation(rotate=30.0, scale_crop=(0.5, 2.0), noise=0.1)
    windows = windows_of([picture(40, 50, seed) for seed in range(6)])
    whole = batches(windows, range(4), augment)
    assert_equal_batches(batches(windows, range(2, 4), augment), whole[6:])
    assert len({images.tobytes() for images, _ in whole}) == 12


def test_moves_are_ignored_beyond_the_picture_alone() -> None:
    augment = RandomAugmentation(rotate=180.0, scale_crop=(0.5, 0.5))
    height, width = augment.frame(8, 12)
    windows = windows_of([picture(60, 80)], foreground=0.0)
    ignored = {True: 0, False: 0}
    made = batches(windows, range(8), augment)
    for number, mask in enumerate(mask for _, masks in made for mask in masks):
        place = windows.place(number)
        top, left = place.top - (height - 8) // 2, place.left - (width - 12) // 2
        inside = top >= 0 and left >= 0 and top + height <= 60 and left + width <= 80
        ignored[inside] += int((mask == 255).sum())
    assert ignored[True] == 0 < ignored[False]


def test_frames_that_cannot_be_numbered_are_refused() -> None:
    windows = RandomWindows([picture(1, 1)], 8192, 8192, num_classes=2, foreground=0.0, seed=0)
    with pytest.raises(StageError, match=r"see 16384 x 16384 .*take a smaller training\.batch_size"):
        window_batches(
            windows,
            range(1),
            steps_per_epoch=1,
            batch_size=8,
            augment=RandomAugmentation(scale_crop=(0.5, 1.0)),
        )


@pytest.mark.parametrize(("at_most", "number"), [(100, 30), (30, 30), (7, 7), (1, 1)])
def test_validation_has_an_even_selection_of_the_windows(at_most: int, number: int) -> None:
    # Each picture shows its own number; five windows each.
    pictures = [
        Picture(np.full((40, 12, 3), index, np.uint8), np.zeros((40, 12), np.uint8)) for index in range(6)
    ]
    pairs = grid_pairs(pictures, SIZE, at_most)
    assert int(pairs.cardinality()) == number
    seen = [int(image[0, 0, 0]) for image, _ in pairs.as_numpy_iterator()]
    counts = np.bincount(seen, minlength=6)
    assert seen == sorted(seen) and counts.max() - counts.min() <= 1
    assert_equal_batches(list(grid_pairs(pictures, SIZE, at_most)), list(pairs))


def test_a_selection_of_the_windows_is_of_all_their_places() -> None:
    # Each window shows its own place of 2 x 2, and there are as many pictures as windows are asked for.
    image = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 8, axis=0), 12, axis=1)
    pictures = [Picture(np.stack([image] * 3, axis=-1), np.zeros((16, 24), np.uint8))] * 64
    shown = [int(image[0, 0, 0]) for image, _ in grid_pairs(pictures, SIZE, 64).as_numpy_iterator()]
    counts = np.bincount(shown, minlength=4)
    assert counts.sum() == 64 and counts.min() >= 8


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes ``Examples`` of pictures instead of files."""

    def make(
        train: list[Picture],
        val: list[Picture],
        devices: int = 1,
        augmentation: Any = None,
        size: InputSize = SIZE,
        **training: Any,
    ) -> tuple[Examples, TrainerSettings]:
        files = {}
        for split, pictures in (("train", train), ("val", val)):
            files[str(tmp_path / split)] = pictures
            with tf.io.TFRecordWriter(str(tmp_path / split)) as writer:
                for _ in pictures:
                    writer.write(b"")

        def pairs(paths: list[str], *_: Any) -> tf.data.Dataset:
            specification = (tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, None], tf.uint8))
            return tf.data.Dataset.from_generator(
                lambda: (tuple(each) for each in files[paths[0]]), output_signature=specification
            )

        monkeypatch.setattr(data, "raw_pairs", pairs)
        settings = TrainerSettings(
            name="odd",
            labels=LabelSet(names=("ground", "thing")),
            input_size=size,
            materialized=False,
            model=ModelConfig(filters=2, depth=2, normalization="batch"),
            augmentation=AugmentationConfig(**augmentation or {}),
            training=TrainingConfig(**{"batch_size": 4} | training),
        )
        fn_args = FnArgs(train_files=[str(tmp_path / "train")], eval_files=[str(tmp_path / "val")])
        return Examples(fn_args, settings, None, devices, tmp_path / "pixels"), settings

    return make


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("cache_bytes", [2**30, 0])
def test_validation_counts_every_pixel_once(examples: Any, devices: int, cache_bytes: int) -> None:
    val = [picture(*shape) for shape in ODD]
    made, _ = examples([picture(80, 90)], val, devices, windows_per_epoch=5000, cache_bytes=cache_bytes)
    counted = np.zeros(2, np.int64)
    # Of several devices, also which pairs are none.
    for images, masks, *_ in made.val.as_numpy_iterator():
        assert images.shape[1:] == (8, 12, 3)
        assert devices == 1 or len(images) == 4
        counted += np.bincount(masks[masks != 255], minlength=2)
    expected = sum(np.bincount(each.class_ids.ravel(), minlength=2) for each in val)
    np.testing.assert_array_equal(counted, expected)


@pytest.mark.parametrize(
    ("wanted", "count"), [(None, 24), (1, 4), (9, 12)], ids=["covering", "few", "whole batches"]
)
def test_an_epoch_is_a_number_of_windows_in_whole_batches(
    examples: Any, wanted: int | None, count: int
) -> None:
    # 40 x 50 pixels fill 21 windows of 8 x 12.
    made, _ = examples([picture(40, 50)], [picture(400, 500)], 2, windows_per_epoch=wanted)
    assert (made.count, made.steps_per_epoch) == (count, count // 4)
    assert sum(len(images) for images, _ in made.train(range(2)).as_numpy_iterator()) == 2 * count
    assert sum(len(images) for images, *_ in made.val.as_numpy_iterator()) == count
    assert [image.shape for image, _ in made.shown] == [(8, 12, 3)] * 4


def test_whole_pictures_are_decoded_when_the_first_epoch_begins(examples: Any, tmp_path: Path) -> None:
    pictures = [picture(8, 12, seed) for seed in range(6)]
    made, _ = examples(pictures, pictures[:2], size=InputSize(8, 12, "stretch"), cache_bytes=0)
    assert len(made.shown) == 2 and not (tmp_path / "pixels").exists()
    batches = list(made.train(range(1)).as_numpy_iterator())
    assert sorted(file.name for file in (tmp_path / "pixels").iterdir()) == ["train", "val"]
    seen = np.concatenate([masks for _, masks in batches])
    assert sorted(map(bytes, seen)) == sorted(each.class_ids.tobytes() for each in pictures)
    assert np.array_equal(next(made.val.as_numpy_iterator())[0], [each.image for each in pictures[:2]])


@pytest.mark.parametrize(("devices", "trained"), [(1, 6), (2, 4)])
def test_an_epoch_counts_the_pictures_that_it_trains_on(examples: Any, devices: int, trained: int) -> None:
    pictures = [picture(8, 12, seed) for seed in range(6)]
    made, _ = examples(pictures, [], devices, size=InputSize(8, 12, "stretch"))
    assert (made.count, made.count_an_epoch) == (6, trained)
    assert sum(len(images) for images, _ in made.train(range(1)).as_numpy_iterator()) == trained


def test_a_batch_that_devices_cannot_share_is_refused(examples: Any) -> None:
    with pytest.raises(StageError, match="batch_size 4 does not suit 3 devices"):
        examples([picture(40, 50)], [], 3)


@pytest.mark.parametrize(
    ("augmented", "size"), [(False, SIZE), (True, SIZE), (True, InputSize(64, 256, "native"))], ids=str
)
def test_pictures_that_windows_do_not_fit_are_trained_on(
    examples: Any, augmented: bool, size: InputSize
) -> None:
    nothing = picture(20, 20)._replace(class_ids=np.full((20, 20), 255, np.uint8))
    augmentation = {"rotate": 45.0, "scale_crop": (0.5, 2.0), "gamma": 0.2, "blur": 1.0} if augmented else {}
    made, settings = examples(
        [*(picture(*shape) for shape in ODD), nothing],
        [],
        augmentation=augmentation,
        size=size,
        foreground_windows=1.0,
    )
    assert made.val is None and len(made.shown) == 4
    constants = Constants((1 / 255,) * 3, (0.0,) * 3, (1, 1))
    network = build_network(settings, constants, "float32")
    optimizer = build_optimizer(settings.training, phases(settings.training)[0], made.steps_per_epoch)
    compile_network(network, settings, constants, optimizer, jit_compile=False)
    fitted = network.fit(
        made.train(range(2)), steps_per_epoch=made.steps_per_epoch, epochs=2, shuffle=False, verbose=0
    )
    assert np.isfinite(fitted.history["loss"]).all() and min(fitted.history["loss"]) > 0


def test_a_picture_that_is_ignored_throughout_teaches_nothing(examples: Any) -> None:
    nothing = picture(20, 20)._replace(class_ids=np.full((20, 20), 255, np.uint8))
    made, _ = examples([nothing], [nothing])
    for _, masks in [*made.train(range(1)).as_numpy_iterator(), *made.val.as_numpy_iterator()]:
        assert (masks == 255).all()
