"""The recipe's dataset part: what is accepted, what is refused and in which words."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.image_mask_example_gen.config import DatasetConfig

FOLDER: dict[str, Any] = {
    "layout": "folder",
    "root": "data",
    "images": "images/*.jpg",
    "masks": "masks/*.png",
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layout": "folders"}, "oxford_iiit_pet"),
        ({"root_dir": "x"}, "root_dir"),
        ({"layout": "kitti_semantics"}, "dataset.root"),
        ({"layout": "folder", "root": "x", "classes": ["a", "b"]}, "dataset.images"),
        (FOLDER, "dataset.classes"),
        (FOLDER | {"classes": ["a", "b"], "images": "/etc/*"}, "under dataset.root"),
        (FOLDER | {"classes": ["a", "b"], "masks": "../m/*"}, "under dataset.root"),
        (
            FOLDER | {"classes": ["road"]},
            "dataset.classes names 'road'; there must be at least 2, background",
        ),
        (FOLDER | {"classes": []}, "dataset.classes names no class; there must be at least 2"),
        (
            FOLDER | {"classes": [str(number) for number in range(256)]},
            "dataset.classes names 256 classes; there must be at least 2, background among them, and at",
        ),
        (FOLDER | {"label_values": {"road": 7}}, "dataset.label_values names 'road'; there must be"),
        (FOLDER | {"masks": {"road": "m/*.png"}}, "layout folder needs dataset.classes"),
        (FOLDER | {"masks": {"road": "m/*.png"}, "classes": ["road"]}, "dataset.classes names 'road'; there"),
        (FOLDER | {"classes": ["a", "b", "a"]}, "dataset.classes: 'a' is given more than once"),
        (
            FOLDER | {"classes": ["a", "b"], "merge_classes": {"b": "a"}},
            "names 'a', those that dataset.merge_classes merges left out; there must be at least 2",
        ),
        (FOLDER | {"classes": ["a", "b"], "ignore_label": 1}, "is the class 'b'"),
        (FOLDER | {"classes": ["a", "b"], "ignore_label": [0, 0, 0]}, "both be colours"),
        (
            FOLDER | {"classes": ["a", "c"], "label_values": {"a": 0, "b": 1}},
            "no class 'c'; choose from a, b",
        ),
        (FOLDER | {"label_values": {"a": 0, "b": 0}}, "more than one class"),
        (FOLDER | {"label_values": {"a": 0, "b": [0, 0, 1]}}, "mixes"),
        (FOLDER | {"label_values": {"a": 0, "b": 70_000}}, "65535"),
        (FOLDER | {"label_values": {"a": [0, 0, 0], "b": [0, 0, 256]}}, "no colour"),
        ({"layout": "oxford_iiit_pet", "root": "x", "ignore_label": 3}, "leave it out of dataset.classes"),
        (
            {"layout": "oxford_iiit_pet", "root": "x", "classes": ["pet", "dog"]},
            "choose from pet, background",
        ),
        ({"splits": {"val": 0.5, "test": 0.5}}, "nothing to train on"),
        ({"splits": {"group": "("}}, "not a regular expression"),
        ({"layout": "shapes", "root": "x"}, "set dataset.layout to folder"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
        ({"max_pixels": 1 << 29}, "less than or equal to 536870911"),
    ],
)
def test_impossible_settings_are_refused_with_a_remedy(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DatasetConfig.model_validate(settings)
    assert words in str(caught.value)


def test_defaults_are_the_drawn_dataset() -> None:
    assert DatasetConfig().label_set().names == ("background", "disc", "square", "triangle", "boundary")


def test_json_round_trip_keeps_everything() -> None:
    config = DatasetConfig.model_validate(
        FOLDER | {"label_values": {"sky": [0, 0, 255], "road": [9, 9, 9]}, "ignore_label": [0, 0, 0]}
    )
    assert DatasetConfig.model_validate_json(config.model_dump_json()) == config


def test_colors_of_the_masks_become_the_palette() -> None:
    config = DatasetConfig.model_validate(FOLDER | {"label_values": {"sky": [0, 0, 255], "road": [9, 9, 9]}})
    assert config.label_set().colors == ((0, 0, 255), (9, 9, 9))


def test_kitti_has_20_usual_classes_and_ignores_the_others() -> None:
    config = DatasetConfig(layout="kitti_semantics", root="x")
    names, ignored = config.raw_labels()
    assert len(config.label_set().names) == 20
    assert len(names) + len(ignored) == 34
    assert names[7] == "road"
    assert 0 in ignored


def test_chosen_classes_take_ids_in_the_order_given() -> None:
    config = DatasetConfig(layout="kitti_semantics", root="x", classes=("car", "road"))
    assert config.label_set().names == ("car", "road")
    assert config.raw_labels()[0] == {26: "car", 7: "road"}


def test_pets_border_can_be_ignored_by_leaving_it_out() -> None:
    config = DatasetConfig(layout="oxford_iiit_pet", root="x", classes=("pet", "background"))
    assert config.raw_labels() == ({1: "pet", 2: "background"}, frozenset({3}))


def test_clothing_has_the_names_that_its_own_list_has(shared_data: Path) -> None:
    names = DatasetConfig(layout="clothing_co_parsing", root="x").label_set().names
    assert list(names) == (shared_data / "clothing_co_parsing/labels.txt").read_text().split()


def test_the_label_set_keeps_what_stands_for_the_classes_in_the_masks() -> None:
    colors = {"sky": [0, 0, 255], "road": [9, 9, 9]}
    assert DatasetConfig.model_validate(FOLDER | {"label_values": colors}).label_set().raw_values == (
        (0, 0, 255),
        (9, 9, 9),
    )
    binary = {"classes": ["thing", "ground"], "label_values": {"ground": 0, "thing": 255}}
    assert DatasetConfig.model_validate(FOLDER | binary).label_set().raw_values == (255, 0)
    pets = DatasetConfig(layout="oxford_iiit_pet", root="x")
    assert dict(zip(pets.label_set().names, pets.label_set().raw_values, strict=True)) == {
        "pet": 1,
        "background": 2,
        "border": 3,
    }


def test_check_root_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        DatasetConfig(layout="kitti_semantics", root=str(tmp_path / "nowhere")).check_root()
    with pytest.raises(ValueError, match="training/image_2"):
        DatasetConfig(layout="kitti_semantics", root=str(tmp_path)).check_root()
    with pytest.raises(ValueError, match=r"dataset\.images='images/\*\.jpg'"):
        DatasetConfig.model_validate(FOLDER | {"root": str(tmp_path), "classes": ["a", "b"]}).check_root()


def test_check_root_finds_the_dataset_one_folder_deeper(tmp_path: Path) -> None:
    for folder in ("training/image_2", "training/semantic"):
        (tmp_path / "data_semantics" / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"did you mean '.*data_semantics'"):
        DatasetConfig(layout="kitti_semantics", root=str(tmp_path)).check_root()
    DatasetConfig(layout="kitti_semantics", root=str(tmp_path / "data_semantics")).check_root()


PETS_FILES = ("annotations/trainval.txt", "annotations/test.txt")
PETS_FOLDERS = ("images", "annotations/trimaps")


@pytest.mark.parametrize("wrong", [*PETS_FILES, *PETS_FOLDERS])
def test_check_root_takes_no_file_for_a_folder_and_no_folder_for_a_file(tmp_path: Path, wrong: str) -> None:
    for path in (*PETS_FOLDERS, *PETS_FILES):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        if (path in PETS_FOLDERS) != (path == wrong):
            (tmp_path / path).mkdir()
        else:
            (tmp_path / path).touch()
    kind = "folder" if wrong in PETS_FOLDERS else "file"
    with pytest.raises(ValueError, match=f"it has no {kind} {wrong}; "):
        DatasetConfig(layout="oxford_iiit_pet", root=str(tmp_path)).check_root()


@pytest.mark.parametrize(
    "settings",
    [
        {"layout": "kitti_semantics"},
        {"layout": "folder", "images": "i/*", "masks": "m/*", "classes": ["a", "b"]},
    ],
)
def test_check_root_says_that_a_file_is_no_folder(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="no folder"):
            DatasetConfig.model_validate(settings | {"root": str(root)}).check_root()
    (tmp_path / "i").touch()
    with pytest.raises(ValueError, match="it has no"):
        DatasetConfig.model_validate(settings | {"root": str(tmp_path)}).check_root()


@pytest.mark.parametrize("unreadable", [".", "training/image_2", "i"])
def test_check_root_says_what_it_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreadable: str
) -> None:
    for folder in ("training/image_2", "training/semantic", "i", "m"):
        (tmp_path / folder).mkdir(parents=True)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        # Not by permissions, which do not hold for the superuser.
        if Path(path) == tmp_path / unreadable:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    settings: dict[str, Any] = {"layout": "kitti_semantics", "root": str(tmp_path)}
    if unreadable != "training/image_2":
        settings |= {"layout": "folder", "images": "i/*", "masks": "m/*", "classes": ["a", "b"]}
    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ValueError, match="cannot be read: Permission denied") as caught:
        DatasetConfig.model_validate(settings).check_root()
    assert "\n" not in str(caught.value)


def test_an_unreadable_neighbour_does_not_hide_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path == tmp_path / "lost+found/training/image_2":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ValueError, match="it has no folder training/image_2"):
        DatasetConfig(layout="kitti_semantics", root=str(tmp_path)).check_root()
