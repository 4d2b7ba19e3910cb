"""Which files belong together, from their names alone, and what a dataset is."""

import errno
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from components.errors import StageError
from components.image_mask_example_gen import inputs
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.inputs import fingerprint_contents, fingerprint_inputs
from components.image_mask_example_gen.layouts.folder import Folder
from components.image_mask_example_gen.layouts.layout import Scan
from components.image_mask_example_gen.plan import plan_ingestion
from components.image_mask_example_gen.report import Reason


def touch(root: Path, files: Iterable[str]) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")


def scan_folder(root: Path, images: str, masks: str) -> Scan:
    config = DatasetConfig(layout="folder", root=str(root), images=images, masks=masks, classes=("a", "b"))
    return config.source.scan(root)


@pytest.mark.parametrize(
    ("images", "masks", "files", "keys"),
    [
        ("images/*.jpg", "masks/*.png", ["images/a.jpg", "masks/a.png"], ["a"]),
        ("images/*", "masks/*", ["images/a.b.jpg", "masks/a.b.png"], ["a.b"]),
        ("*.jpg", "*.png", ["a.jpg", "a.png"], ["a"]),
        ("*.jpg", "*_mask.png", ["a.jpg", "a_mask.png"], ["a"]),
        ("i/*_left.png", "m/*_ids.png", ["i/x_left.png", "m/x_ids.png"], ["x"]),
        ("i/**/*.jpg", "m/**/*.png", ["i/s/1.jpg", "i/t/1.jpg", "m/s/1.png", "m/t/1.png"], ["s/1", "t/1"]),
        ("i/**/*.jpg", "m/*.png", ["i/s/u/1.jpg", "m/1.png"], ["1"]),
        (
            "*/rgb/*.jpg",
            "*/id/*.png",
            ["s/rgb/1.jpg", "t/rgb/1.jpg", "s/id/1.png", "t/id/1.png"],
            ["s/1", "t/1"],
        ),
        ("i/[0-4].jpg", "m/?.png", ["i/3.jpg", "i/7.jpg", "m/3.png"], ["3"]),
        ("./i/*.jpg", "m/.//*.png", ["i/1.jpg", "i/22.jpg", "m/1.png", "m/22.png"], ["1", "22"]),
        ("i/(1)+/*.jpg", "m/*.png", ["i/(1)+/a.jpg", "m/a.png"], ["a"]),
        # A class of one letter is that letter, as init writes names that hold wildcards.
        ("ph [[]1] [[]2]/*.jpg", "m [[]1]/*.png", ["ph [1] [2]/x_0.jpg", "m [1]/x_0.png"], ["x_0"]),
        ("i/[[]*]_*.jpg", "m/[[]*]_*_[?][{]a,b}.png", ["i/[a]_1.jpg", "m/[a]_1_?{a,b}.png"], ["[a]_1"]),
        (
            "i/{a[,]b,[{]c[}]}.jpg",
            "m/*.png",
            ["i/a,b.jpg", "i/a.jpg", "i/{c}.jpg", "m/a,b.png", "m/{c}.png"],
            ["a,b", "{c}"],
        ),
        ("i/[[!]_*.jpg", "m/[[!]_*.png", ["i/[_1.jpg", "m/[_1.png"], ["[_1"]),
        ("i/*.jpg", "m/mask_*.png", ["i/1.jpg", "m/mask_1.png"], ["1"]),
        ("i/img_*.jpg", "m/mask_*_gt.png", ["i/img_1.jpg", "m/mask_1_gt.png"], ["1"]),
        (
            "*/img_*.jpg",
            "*/m_*.png",
            ["s/img_1.jpg", "t/img_1.jpg", "s/m_1.png", "t/m_1.png"],
            ["s/1", "t/1"],
        ),
        (
            "*/photo.jpg",
            "*/labels.png",
            ["s/photo.jpg", "t/photo.jpg", "s/labels.png", "t/labels.png"],
            ["s", "t"],
        ),
        # What meets as it is stays as it is.
        ("i/a*.jpg", "m/*.png", ["i/ab.jpg", "m/ab.png"], ["ab"]),
    ],
)
def test_folder_pairs_by_what_the_patterns_leave_open(
    tmp_path: Path, images: str, masks: str, files: list[str], keys: list[str]
) -> None:
    touch(tmp_path, files)
    scan = scan_folder(tmp_path, images, masks)
    assert [entry.key for entry in scan.entries] == keys
    assert scan.rejected == []


def test_hidden_files_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "i/._a.jpg", "i/.DS_Store", "i/.trash/b.jpg", "m/a.png", "m/._a.png"])
    scan = scan_folder(tmp_path, "i/**/*", "m/**/*")
    assert scan.files == ["i/a.jpg", "m/a.png"]


def test_a_link_that_leads_nowhere_is_a_file_that_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "m/a.png", "m/b.png"])
    (tmp_path / "i/b.jpg").symlink_to(tmp_path / "not fetched")
    assert [entry.key for entry in scan_folder(tmp_path, "i/*.jpg", "m/*.png").entries] == ["a", "b"]
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))
    missing = fingerprint_inputs(config)
    (tmp_path / "not fetched").touch()
    assert fingerprint_inputs(config) != missing


def test_a_disk_that_does_not_answer_is_not_taken_for_files_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, ["i/a.jpg", "m/a.png"])
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))
    fingerprint_contents(config)
    stat = os.stat

    def gone(path: Any, **how: Any) -> os.stat_result:
        if Path(path).name == "a.png":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return stat(path, **how)

    lines = inputs._lines

    def lines_after_the_scan(*args: Any) -> list[bytes]:
        monkeypatch.setattr(os, "stat", gone)
        return lines(*args)

    monkeypatch.setattr(inputs, "_lines", lines_after_the_scan)
    with pytest.raises(OSError, match="Stale"):
        fingerprint_contents(config)


def test_files_without_a_partner_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "i/b.jpg", "m/a.png", "m/c.png"])
    scan = scan_folder(tmp_path, "i/*", "m/*")
    assert [(item.file, item.reason) for item in scan.rejected] == [
        ("i/b.jpg", Reason.IMAGE_WITHOUT_MASK),
        ("m/c.png", Reason.MASK_WITHOUT_IMAGE),
    ]


def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "i/a.png", "m/a.png"])
    with pytest.raises(StageError, match=r"'a': i/a\.jpg and i/a\.png"):
        scan_folder(tmp_path, "i/*", "m/*")


def test_a_root_without_pairs_is_an_error_that_shows_the_names(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "m/a_label.png"])
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))
    with pytest.raises(StageError, match="a_label"):
        plan_ingestion(config, tmp_path)


PET_FILES = [
    *(f"images/{name}.jpg" for name in ("Abyssinian_1", "great_pyrenees_2", "Bengal_3")),
    *(f"annotations/trimaps/{name}.png" for name in ("Abyssinian_1", "great_pyrenees_2", "Bengal_3")),
    "images/Abyssinian_1.mat",
    "annotations/trimaps/._Abyssinian_1.png",
]


def pets(root: Path, trainval: str, test: str) -> Scan:
    touch(root, PET_FILES)
    (root / "annotations/trainval.txt").write_text(trainval)
    (root / "annotations/test.txt").write_text(test)
    return DatasetConfig(layout="oxford_iiit_pet", root=str(root)).source.scan(root)


def test_pets_come_with_official_splits_species_and_breed(tmp_path: Path) -> None:
    scan = pets(tmp_path, "#name\nAbyssinian_1 1 1 1\n", "great_pyrenees_2 16 2 10\n")
    assert [(entry.key, entry.official_split, dict(entry.attributes)) for entry in scan.entries] == [
        ("Abyssinian_1", "trainval", {"attribute/species": "cat", "attribute/breed": "Abyssinian"}),
        ("great_pyrenees_2", "test", {"attribute/species": "dog", "attribute/breed": "great_pyrenees"}),
    ]
    assert [(item.file, item.reason) for item in scan.rejected] == [("images/Bengal_3.jpg", Reason.UNLISTED)]


@pytest.mark.parametrize("test_list", ["Abyssinian_1 1 1 1\n", "Bengal_3 one\n", "Bengal_3 6 3 1\n"])
def test_pets_with_a_broken_list_name_file_and_line(tmp_path: Path, test_list: str) -> None:
    with pytest.raises(StageError, match=r"annotations/test\.txt, line 1"):
        pets(tmp_path, "Abyssinian_1 1 1 1\n", test_list)


def test_clothing_photos_with_image_level_labels_only_are_unlisted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        [
            *("photos/0001.jpg", "photos/0002.jpg", "photos/0003.jpg", "label_list.mat"),
            *("annotations/pixel-level/0001.mat", "annotations/image-level/0002.mat"),
        ],
    )
    config = DatasetConfig(layout="clothing_co_parsing", root=str(tmp_path))
    scan = config.source.scan(tmp_path)
    assert [item.reason for item in scan.rejected] == [Reason.UNLISTED, Reason.IMAGE_WITHOUT_MASK]


def test_the_fingerprint_follows_content_and_names(tmp_path: Path) -> None:
    touch(tmp_path, ["i/a.jpg", "m/a.png", "notes.txt"])
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))
    first = fingerprint_inputs(config)
    (tmp_path / "notes.txt").write_bytes(b"not an input")
    assert fingerprint_inputs(config) == first
    (tmp_path / "m/a.png").write_bytes(b"changed")
    second = fingerprint_inputs(config)
    touch(tmp_path, ["i/b.jpg"])
    assert len({first, second, fingerprint_inputs(config)}) == 3


def test_a_missing_root_stops_the_driver_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no folder"):
        fingerprint_inputs(DatasetConfig(layout="kitti_semantics", root=str(tmp_path / "gone")))


def test_limit_takes_the_same_pairs_every_time_and_a_fair_share_of_orphans(tmp_path: Path) -> None:
    touch(tmp_path, [f"{kind}/{index}.png" for kind in "im" for index in range(200)])
    touch(tmp_path, [f"i/orphan{index}.png" for index in range(20)])
    config = DatasetConfig(
        layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"), limit=20
    )
    plan = plan_ingestion(config, tmp_path)
    assert sum(plan.pairs.values()) == 20
    assert len(plan.rejected) < 10
    assert plan == plan_ingestion(config, tmp_path)


def test_shards_hold_every_pair_once(tmp_path: Path) -> None:
    touch(tmp_path, [f"{kind}/{index}.png" for kind in "im" for index in range(300)])
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))
    shards = plan_ingestion(config, tmp_path).shards
    keys = [entry.key for shard in shards for entry in shard.entries]
    assert sorted(keys) == sorted(str(index) for index in range(300))
    assert {len(shard.entries) for shard in shards if shard.split == "train"} <= {52, 53}


_NEW_DATASET = """
import sys
from components.image_mask_example_gen import layouts
from components.image_mask_example_gen.layouts.layout import Layout, RawClass, files_by_stem, pair_files

class Toy(Layout):
    name = "toy"
    folders = ("photos", "truth")
    classes = (RawClass("ground", 0, (0, 0, 0)), RawClass("car", 7, (0, 0, 142)), RawClass("void", 9))
    usual_classes = ("ground", "car")
    attributes = ("attribute/town",)
    slices = ("town",)

    def scan(self, root):
        return pair_files(files_by_stem(root, "photos", ".png"), files_by_stem(root, "truth", ".png"))

layouts.DATASETS[Toy.name] = Toy
from pipeline.init.__main__ import main
from docs.recipe_reference import reference
assert "`tfds`, `toy`" in reference()
sys.exit(main(["--layout", "toy", "--data", sys.argv[1], "--output", sys.argv[1] + "/toy.yaml"]))
"""


def test_a_dataset_is_one_class_in_the_registry_and_nothing_elsewhere(tmp_path: Path) -> None:
    for folder, value in (("photos", 90), ("truth", 7)):
        (tmp_path / folder).mkdir()
        for number in range(12):
            pixels = np.zeros((40, 40), np.uint8)
            pixels[number : number + 20, 5:30] = value
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    command = [sys.executable, "-c", _NEW_DATASET, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "toy.yaml").read_text())
    assert recipe["dataset"]["layout"] == "toy" and recipe["evaluation"]["slices"] == ["town"]
    assert "12 pairs" in done.stdout


def test_two_wildcards_in_an_images_name_are_no_reason_to_pair_by_the_first() -> None:
    files = [f"images/{n}_{m}.png" for n in "12" for m in "12"]
    files += [f"masks/{n}_{m}/{part}.png" for n in "12" for m in "12" for part in "123"]
    scan = Folder("images/*_[0-9].png", "masks/*/*.png", ()).scan_listed(files)
    assert [(entry.image, len(entry.parts)) for entry in scan.entries] == [(file, 3) for file in files[:4]]


def test_a_fingerprint_of_many_files_takes_no_more_memory_than_to_find_them(tmp_path: Path) -> None:
    touch(tmp_path, [f"{folder}/{number:05}.png" for folder in "im" for number in range(2000)])
    config = DatasetConfig(layout="folder", root=str(tmp_path), images="i/*", masks="m/*", classes=("a", "b"))

    def peak(ask: Callable[[], object]) -> int:
        ask()
        tracemalloc.start()
        ask()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(lambda: fingerprint_inputs(config)) < 1.3 * peak(lambda: config.source.scan(tmp_path))
