"""Pictures that are in several splits: found by their pixels, said, kept in the record, and refused."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ingested import ingest, names_of
from PIL import Image

from components.dataset.contracts import SPLITS_FILE
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.inputs import fingerprint_inputs

SIZE = (24, 32)
"""Height and width."""


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def config(root: Path, **more: object) -> DatasetConfig:
    values = {
        "layout": "folder",
        "root": str(root),
        "images": "images/*/*.*",
        "masks": "masks/*/*.png",
        "classes": ["background", "thing"],
        "splits": {split: {"folder": f"images/{split}"} for split in ("train", "val", "test")},
    }
    return DatasetConfig.model_validate(values | more)


def save(root: Path, name: str, pixels: np.ndarray | bytes) -> None:
    image, mask = root / "images" / name, (root / "masks" / name).with_suffix(".png")
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(pixels, bytes):
        image.write_bytes(pixels)
    else:
        Image.fromarray(pixels).save(image)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine different pictures, three a split."""
    for number in range(9):
        save(tmp_path, f"{('train', 'val', 'test')[number // 3]}/{number}.png", picture(number))
    return tmp_path


def shared(root: Path, **more: object) -> list[list[str]]:
    found = ingest(config(root, **more), root / "out").shared_pictures
    assert found is not None
    return [[f"{split} {file}" for split, file in each.members] for each in found]


def test_the_same_pixels_are_found_whatever_their_files_are(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(root, "test/copy.bmp", picture(0))
    Image.fromarray(picture(1)).save(root / "photo.jpg", quality=80)
    jpeg = (root / "photo.jpg").read_bytes()
    save(root, "train/photo.jpg", jpeg)
    save(root, "val/decoded.png", tf.io.decode_jpeg(jpeg).numpy())
    with caplog.at_level(logging.WARNING):
        assert shared(root) == [
            ["train images/train/0.png", "test images/test/copy.bmp"],
            ["train images/train/photo.jpg", "val images/val/decoded.png"],
        ]
    assert "2 pictures are in several splits, pixel by pixel the same" in caplog.text
    assert "train images/train/0.png = test images/test/copy.bmp" in caplog.text


def test_of_16_bits_all_are_compared_whatever_the_file_s_format(root: Path) -> None:
    dark = np.random.default_rng(9).integers(0, 256, (3, *SIZE)).astype(np.uint16)
    for name, pixels in (
        ("train/dark.png", dark[0]),
        ("val/darker.tif", dark[1]),
        ("test/darkest.png", dark[2]),
    ):
        save(root, name, pixels)
    save(root, "test/copy.tif", dark[0])
    gray = (picture(7)[..., 0] // 2).astype(np.uint8)
    save(root, "train/gray.bmp", gray)
    save(root, "val/deep.png", gray.astype(np.uint16) * 257)
    assert shared(root, value_range=[0, 255]) == [
        ["train images/train/dark.png", "test images/test/copy.tif"],
        ["train images/train/gray.bmp", "val images/val/deep.png"],
    ]


def test_pictures_that_begin_alike_and_copies_within_a_split_are_none(root: Path) -> None:
    other = picture(0)
    other[-1, -1, 0] ^= 1
    save(root, "test/other.png", other)
    save(root, "train/copy.png", picture(1))
    save(root, "val/turned.png", np.zeros((*SIZE[::-1], 3), np.uint8).reshape((*SIZE, 3)))
    assert shared(root) == []


def test_more_than_are_allowed_end_the_run(root: Path) -> None:
    save(root, "test/copy.png", picture(0))
    with pytest.raises(StageError, match="1 picture is in several splits") as raised:
        ingest(config(root, max_shared_pictures=0), root / "refused")
    assert "dataset.max_shared_pictures allows 0" in str(raised.value)
    assert "  train images/train/0.png = test images/test/copy.png" in str(raised.value)
    assert shared(root, max_shared_pictures=1)


def test_a_table_says_which_file_is_in_which_split_byte_for_byte(root: Path) -> None:
    odd = os.fsdecode(b"\xff, \xc3\xbc.png")
    try:
        save(root, f"val/{odd}", picture(20))
    except OSError:
        pytest.skip("this file system takes no such name")
    out = root / "out"
    ingest(config(root), out)
    lines = (out / "ingestion" / SPLITS_FILE).read_bytes().splitlines()
    assert lines[:2] == [b"file,split", b"images/test/6.png,test"]
    assert b'"images/val/\xff, \xc3\xbc.png",val' in lines and len(lines) == 11


def test_another_list_is_another_dataset(root: Path) -> None:
    lists = config(root, splits={"val": {"list": "val.txt"}})
    (root / "val.txt").write_text("3\n4\n")
    before = fingerprint_inputs(lists)
    (root / "val.txt").write_text("3\n4\n5\n")
    assert fingerprint_inputs(lists) != before
    (root / "val.txt").unlink()
    with pytest.raises(StageError, match=r"dataset.splits names val.txt, and there is no such file"):
        fingerprint_inputs(lists)


def test_the_splits_are_those_that_the_data_declares(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = ingest(config(root), root / "out")
    assert names_of(root / "out") == {
        split: {f"images/{split}/{number}.png" for number in numbers}
        for split, numbers in {"train": "012", "val": "345", "test": "678"}.items()
    }
    assert found.split_origins == {split: f"folder images/{split}" for split in ("train", "val", "test")}
    assert "divided as the data says: train: folder images/train; val: folder images/val" in caplog.text
