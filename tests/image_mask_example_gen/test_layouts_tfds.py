"""TensorFlow Datasets: a prepared set is read record by record, with its own splits, and not downloaded."""

from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_tfds import COUNTS, NAMES, TinyPets, Unnamed, picture, prepare

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.image import read_image
from components.image_mask_example_gen.inputs import fingerprint_inputs
from components.image_mask_example_gen.layouts.layout import Options, Scan
from components.image_mask_example_gen.layouts.tfds import Tfds
from components.image_mask_example_gen.report import Reason


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tensorflow_datasets")
    for builder in (TinyPets, Unnamed):
        prepare(builder, root)
    return root


def config(root: Path, **keys: Any) -> DatasetConfig:
    named = {"layout": "tfds", "root": str(root), "name": "tiny_pets:3.*.*", "classes": NAMES}
    return DatasetConfig.model_validate(named | keys)


def scan(dataset: DatasetConfig) -> Scan:
    dataset.check_root()
    return dataset.source.scan(Path(str(dataset.root)))


def test_each_record_is_read_as_it_was_prepared_and_keeps_its_split(data_dir: Path) -> None:
    dataset = config(data_dir)
    found = scan(dataset)
    assert len({entry.key for entry in found.entries}) == len(found.entries) == sum(COUNTS.values())
    for split, count in COUNTS.items():
        rest = {number: picture(split, number) for number in range(count)}
        for entry in found.entries:
            if entry.official_split != split:
                continue
            encoded = read_image(dataset.source.image_file(data_dir, entry), 10**6)
            mask = dataset.source.open_mask(data_dir, entry, 10**6)
            number = mask.height - 20
            image, expected = rest.pop(number)
            assert (encoded.height, encoded.width) == (mask.height, mask.width) == image.shape[:2]
            with dataset.source.image_file(data_dir, entry).open("rb") as file:
                np.testing.assert_array_equal(np.asarray(Image.open(file)), image)
            np.testing.assert_array_equal(mask.read(False), expected[..., 0])
        assert not rest


def test_the_files_that_decide_are_those_of_the_set(data_dir: Path) -> None:
    files = scan(config(data_dir)).files
    assert all((data_dir / file).is_file() for file in files) and len(files) >= 4
    assert {"tiny_pets/3.2.0/dataset_info.json", "tiny_pets/3.2.0/features.json"} < set(files)


def test_the_names_of_the_values_are_the_features(data_dir: Path) -> None:
    assert Tfds(Options(name="tiny_pets")).pictures(data_dir) == {
        "image": (3, ()),
        "segmentation_mask": (1, tuple(NAMES)),
    }


def test_a_split_of_another_name_is_set_aside(data_dir: Path) -> None:
    found = scan(config(data_dir, name="unnamed"))
    assert {entry.official_split for entry in found.entries} == {"train", "val"}
    [rejection] = found.rejected
    assert rejection.reason is Reason.UNLISTED and "2 examples of the split 'extra'" in rejection.found


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"name": "tiny_pets:4.*.*"}, "no prepared set 'tiny_pets:4"),
        ({"name": "nothing"}, r"no prepared set 'nothing' \(prepared are tiny_pets/3.2.0, unnamed/1.0.0\)"),
        ({"masks": "label"}, "dataset.masks: tiny_pets.* has no picture called 'label'; it has image, segm"),
        ({"images": "photo"}, "dataset.images: .* has no picture called 'photo'"),
    ],
)
def test_what_is_not_prepared_is_named(data_dir: Path, keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises((ValueError, StageError), match=complaint):
        scan(config(data_dir, **keys))


def test_a_cut_file_rejects_the_records_that_it_lost(data_dir: Path, tmp_path: Path) -> None:
    copytree(data_dir, tmp_path / "cut")
    for file in (tmp_path / "cut/tiny_pets/3.2.0").glob("*test*"):
        file.write_bytes(file.read_bytes()[:-10])
    dataset = config(tmp_path / "cut")
    lost = 0
    for entry in scan(dataset).entries:
        try:
            dataset.source.open_mask(tmp_path / "cut", entry, 10**6).read(False)
        except InputRejectedError:
            lost += 1
    assert 1 <= lost <= COUNTS["test"]


def test_where_memory_ends_no_record_counts_as_damaged(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_: bytes) -> None:
        raise MemoryError

    dataset = config(data_dir)
    entry = scan(dataset).entries[0]
    monkeypatch.setattr(tf.train, "Example", SimpleNamespace(FromString=no_memory))
    with pytest.raises(MemoryError):
        read_image(dataset.source.image_file(data_dir, entry), 10**6)


def test_a_missing_file_rejects_its_records_and_does_not_end_the_run(data_dir: Path, tmp_path: Path) -> None:
    copytree(data_dir, tmp_path / "cut")
    for file in (tmp_path / "cut/tiny_pets/3.2.0").glob("*test*"):
        file.unlink()
    dataset = config(tmp_path / "cut")
    assert fingerprint_inputs(dataset) != fingerprint_inputs(config(data_dir))
    lost = [entry for entry in scan(dataset).entries if entry.official_split == "test"]
    for entry in lost:
        with pytest.raises(InputRejectedError, match="No such file"):
            read_image(dataset.source.image_file(tmp_path / "cut", entry), 10**6)
    assert len(lost) == COUNTS["test"]
