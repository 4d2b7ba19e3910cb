"""What is found out about the Examples of the splits."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import Pair, disc_pair
from PIL import Image

from components.dataset import features
from components.report.statistics import dataset_statistics


def write_split(directory: Path, examples: dict[str, bytes]) -> Path:
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / "data_tfrecord-00000-of-00001")) as writer:
        for serialized in examples.values():
            writer.write(serialized)
    return directory


def as_bmp(serialized: bytes) -> bytes:
    """The same Example with its image in another file format."""
    example = tf.train.Example.FromString(serialized)
    [encoded] = example.features.feature[features.IMAGE_ENCODED].bytes_list.value
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded)).save(buffer, "BMP")
    example.features.feature[features.IMAGE_ENCODED].bytes_list.value[:] = [buffer.getvalue()]
    return bytes(example.SerializeToString())


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("examples")
    train = {f"{seed}.png": disc_pair(seed).example(f"{seed}.png") for seed in range(5)}
    twin = disc_pair(0).example("twin.png")
    return {
        "train": write_split(root / "train", {**train, "twin.png": twin}),
        "test": write_split(root / "test", {"copy.bmp": as_bmp(disc_pair(3).example("copy.bmp"))}),
    }


def test_pixels_are_counted_by_class_and_ignored_ones_apart(splits: dict[str, Path]) -> None:
    [train, _] = dataset_statistics(splits).splits
    masks = [disc_pair(seed).class_ids for seed in (0, 1, 2, 3, 4, 0)]
    assert train.examples == 6
    assert train.class_pixels == tuple(sum(int((mask == c).sum()) for mask in masks) for c in (0, 1))
    assert train.ignored_pixels == sum(int((mask == 255).sum()) for mask in masks)
    assert train.class_images == (6, 6)


def test_sizes_are_counted_the_commonest_first(splits: dict[str, Path]) -> None:
    [train, _] = dataset_statistics(splits).splits
    shapes = [disc_pair(seed).class_ids.shape for seed in range(5)]
    height, width = disc_pair(0).class_ids.shape
    assert (train.sizes[0].width, train.sizes[0].height, train.sizes[0].images) == (width, height, 2)
    areas = sorted(height * width for height, width in shapes)
    assert train.smallest and train.largest
    assert [np.prod(train.smallest), np.prod(train.largest)] == [areas[0], areas[-1]]


def test_smallest_and_largest_are_so_by_area_and_one_pixel_is_a_class_seen(tmp_path: Path) -> None:
    examples = {}
    for width, height in ((10, 100), (20, 20)):
        class_ids = np.zeros((height, width), np.uint8)
        class_ids[0, 0] = 1
        name = f"{width}.png"
        examples[name] = Pair(np.zeros((height, width, 3), np.uint8), class_ids).example(name)
    [found] = dataset_statistics({"train": write_split(tmp_path / "train", examples)}).splits
    assert (found.smallest, found.largest) == ((20, 20), (10, 100))
    assert found.class_images == (2, 2)


def test_one_pixel_makes_another_fingerprint(splits: dict[str, Path], tmp_path: Path) -> None:
    image = disc_pair(3).image.copy()
    image[0, 0, 0] ^= 1
    changed = Pair(image, disc_pair(3).class_ids).example("copy.bmp")
    other = dataset_statistics({**splits, "test": write_split(tmp_path / "test", {"x": changed})})
    before = dataset_statistics(splits)
    assert other.fingerprint != before.fingerprint
    assert [
        one.fingerprint == two.fingerprint for one, two in zip(other.splits, before.splits, strict=True)
    ] == [
        True,
        False,
    ]


def test_a_picture_that_moves_to_another_split_makes_another_dataset(tmp_path: Path) -> None:
    pictures = {name: disc_pair(seed).example(name) for seed, name in enumerate("abc")}

    def fingerprint(root: Path, **splits: str) -> str:
        root.mkdir()
        written = {
            split: write_split(root / split, {name: pictures[name] for name in names})
            for split, names in splits.items()
        }
        return dataset_statistics(written).fingerprint

    before = fingerprint(tmp_path / "before", train="ab", test="c")
    assert fingerprint(tmp_path / "after", train="a", test="bc") != before


def test_an_empty_split_is_no_obstacle(splits: dict[str, Path], tmp_path: Path) -> None:
    found = dataset_statistics({"val": write_split(tmp_path / "val", {}), **splits})
    assert [split.examples for split in found.splits] == [0, 6, 1]
    assert found.splits[0].smallest is None
