"""PASCAL VOC, Cityscapes and ADE20K as their downloads unpack: lists, splits, classes and what is ignored."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.cityscapes import LABEL_IDS, TRAIN_CLASSES
from components.image_mask_example_gen.layouts.voc import CLASSES as VOC_CLASSES
from components.image_mask_example_gen.plan import plan_ingestion
from components.image_mask_example_gen.report import Reason

Splits = dict[str, set[str]]


def draw(root: Path, paths: Iterable[str], value: int = 0) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 12), value, np.uint8)).save(root / path)


def config(layout: str, root: Path, **keys: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({"layout": layout, "root": str(root), **keys})


def splits(dataset: DatasetConfig) -> Splits:
    """The keys in each split that ingestion will write."""
    found: Splits = {"train": set(), "val": set(), "test": set()}
    for shard in plan_ingestion(dataset, Path(str(dataset.root))).shards:
        found[shard.split] |= {entry.key for entry in shard.entries}
    return found


def class_ids(dataset: DatasetConfig, raw: np.ndarray) -> np.ndarray:
    names, ignored = dataset.raw_labels()
    return LabelMapping(names, ignored, dataset.label_set().names).class_ids(raw)


def voc_tree(root: Path, **lists: Iterable[str]) -> None:
    names = {name for listed in lists.values() for name in listed}
    draw(root, [f"JPEGImages/{name}.jpg" for name in names])
    draw(root, [f"SegmentationClass/{name}.png" for name in names])
    (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    for split, listed in lists.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in listed))


def test_vocs_lists_divide_it_and_val_is_the_test_where_there_is_no_other(tmp_path: Path) -> None:
    train, val = [f"2007_{number:06d}" for number in range(20)], ["2008_000001", "2008_000002"]
    voc_tree(tmp_path, train=train, val=val, trainval=[*train, *val])
    found = splits(config("voc", tmp_path))
    assert found["test"] == set(val) and found["train"] | found["val"] == set(train)


def test_vocs_lists_may_be_encoded_as_windows_does(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=["Weg1", "Straße2"], val=["Straße3"], test=["Straße4"])
    for name, encoding in (("train", "cp1252"), ("val", "utf-16"), ("test", "utf-16")):
        path = tmp_path / f"ImageSets/Segmentation/{name}.txt"
        path.write_bytes(path.read_text().encode(encoding))
    found = splits(config("voc", tmp_path))
    assert found == {"train": {"Weg1", "Straße2"}, "val": {"Straße3"}, "test": {"Straße4"}}


def test_a_trainval_list_alone_is_divided_and_a_test_list_kept(tmp_path: Path) -> None:
    trainval, test = [f"2007_{number:06d}" for number in range(20)], ["2009_000001"]
    voc_tree(tmp_path, trainval=trainval, test=test)
    found = splits(config("voc", tmp_path))
    assert found["test"] == set(test) and found["train"] | found["val"] == set(trainval)


@pytest.mark.parametrize("names", [("Train", "Validation", "Test"), ("train", "valid", "test")])
def test_lists_in_vocs_form_may_name_their_splits_otherwise(tmp_path: Path, names: tuple[str, ...]) -> None:
    listed = [
        {f"{number:03d}" for number in numbers} for numbers in (range(14), range(14, 17), range(17, 20))
    ]
    voc_tree(tmp_path, **dict(zip(names, listed, strict=True)))
    (tmp_path / "ImageSets/Segmentation/fold1.txt").write_text("000\n")
    (tmp_path / "ImageSets/Segmentation/trainval.txt").symlink_to("nowhere.txt")
    dataset = config("voc", tmp_path)
    assert splits(dataset) == dict(zip(("train", "val", "test"), listed, strict=True))
    assert not dataset.source.scan(tmp_path).rejected


@pytest.mark.parametrize("second", [{"eval": ["v"]}, {"Test": ["a", "b"]}, {"testing": ["t"], "dev": ["a"]}])
def test_a_list_of_another_spelling_that_repeats_vocs_own_is_passed_over(
    tmp_path: Path, second: dict[str, list[str]]
) -> None:
    own = {"train": ["a", "b", "c"]} | ({"test": ["t"]} if "dev" in second else {"val": ["v"]})
    voc_tree(tmp_path, **own, **second)
    found = config("voc", tmp_path).source.scan(tmp_path)
    assert {entry.key: entry.official_split for entry in found.entries} == {
        name: split for split, names in own.items() for name in names
    }


def test_a_list_of_another_spelling_that_tells_more_than_vocs_own_counts(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=["a", "b", "c"], val=["d"], valid=["d", "e"])
    found = config("voc", tmp_path).source.scan(tmp_path).entries
    assert {e.key: e.official_split for e in found} == dict.fromkeys("abc", "train") | dict.fromkeys(
        "de", "val"
    )
    voc_tree(tmp_path, valid=["c", "e"])
    with pytest.raises(StageError, match=r"valid.txt: c is in ImageSets/Segmentation/train.txt, too"):
        config("voc", tmp_path).source.scan(tmp_path)
    (tmp_path / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(StageError, match=r"valid.txt: c is in ImageSets/Segmentation/train.txt, too"):
        config("voc", tmp_path).source.scan(tmp_path)


def test_of_voc_only_what_a_list_wants_is_missed(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=["a", "b"], val=["c"], test=["d"])
    draw(tmp_path, ["JPEGImages/boxes_only.jpg", "JPEGImages/extra.jpg"])
    draw(tmp_path, ["SegmentationClass/extra.png"])
    for name in ("a", "d"):
        (tmp_path / f"SegmentationClass/{name}.png").unlink()
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("c\ngone\n")
    rejected = {item.file: item.reason for item in config("voc", tmp_path).source.scan(tmp_path).rejected}
    assert rejected == {
        "JPEGImages/a.jpg": Reason.IMAGE_WITHOUT_MASK,
        "JPEGImages/gone.jpg": Reason.MASK_WITHOUT_IMAGE,
        "JPEGImages/boxes_only.jpg": Reason.UNLISTED,
        "JPEGImages/extra.jpg": Reason.UNLISTED,
        "JPEGImages/d.jpg": Reason.UNLISTED,
    }


def test_a_name_in_two_of_vocs_lists_is_refused(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=["a", "b"], val=["b"])
    with pytest.raises(StageError, match=r"val.txt: b is in ImageSets/Segmentation/train.txt, too"):
        config("voc", tmp_path).source.scan(tmp_path)


def test_names_in_vocs_lists_may_have_blanks_columns_and_repeats(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=["scan 1", "scan 2", "b", "c"], val=["scan 3"])
    lists = tmp_path / "ImageSets/Segmentation"
    (lists / "train.txt").write_text(
        "scan 1\n/old/JPEGImages/scan 2.jpg\nb -1\nb  1\n\nc\nscan 8\nd -1\ne\t0\n"
    )
    (lists / "val.txt").write_text("scan 3\nscan 9\n")
    scan = config("voc", tmp_path).source.scan(tmp_path)
    assert {entry.key: entry.official_split for entry in scan.entries} == {
        **dict.fromkeys(("scan 1", "scan 2", "b", "c"), "train"),
        "scan 3": "val",
    }
    assert [item.file for item in scan.rejected] == [
        f"JPEGImages/{name}.jpg" for name in ("d", "e", "scan 8", "scan 9")
    ]


def test_voc_has_21_classes_in_its_colours_and_255_is_void(tmp_path: Path) -> None:
    dataset = config("voc", tmp_path)
    assert len(dataset.label_set().names) == 21
    # The colour map of the development kit: bits of the id, dealt out from the highest of each channel.
    for raw in VOC_CLASSES:
        assert isinstance(raw.value, int)
        bits = [[raw.value >> 3 * place + channel & 1 for place in range(3)] for channel in range(3)]
        assert raw.color == tuple(int("".join(map(str, row)), 2) << 5 for row in bits)
    np.testing.assert_array_equal(
        class_ids(dataset, np.array([[0, 15, 20, 255]], np.uint8)), [[0, 15, 20, IGNORE_LABEL]]
    )


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_a_set_in_vocs_form_has_the_classes_and_colours_that_the_recipe_tells(
    tmp_path: Path, mode: str
) -> None:
    voc_tree(tmp_path, default=["a"])
    picture = Image.new("P", (3, 2))
    picture.putpalette([0, 0, 0, 9, 9, 9, 10, 20, 30, 224, 224, 192])
    picture.putdata([0, 2, 3, 0, 0, 0])
    picture.convert(mode).save(tmp_path / "SegmentationClass/a.png")
    dataset = config("voc", tmp_path, label_values={"background": [0, 0, 0], "car": [10, 20, 30]})
    layout = dataset.source
    [entry] = layout.scan(tmp_path).entries
    found = class_ids(dataset, layout.open_mask(tmp_path, entry, 100).read(as_colors=True))
    assert entry.official_split is None
    np.testing.assert_array_equal(found, [[0, 1, IGNORE_LABEL], [0, 0, 0]])


def test_labelme2vocs_pictures_lie_beside_its_arrays(tmp_path: Path) -> None:
    draw(tmp_path, ["JPEGImages/a.jpg", "SegmentationClassPNG/a.png"])
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "SegmentationClass/a.npy").write_bytes(b"x")
    [entry] = config("voc", tmp_path).source.scan(tmp_path).entries
    assert entry.mask == "SegmentationClassPNG/a.png"


def cityscapes_tree(root: Path, **cities: Iterable[str]) -> None:
    for split, names in cities.items():
        for city in names:
            for number in range(4):
                name = f"{split}/{city}/{city}_00000{number}_000019"
                draw(root, [f"leftImg8bit/{name}_leftImg8bit.png"])
                for kind in ("labelIds", "instanceIds", "color", "labelTrainIds"):
                    draw(root, [f"gtFine/{name}_gtFine_{kind}.png"])


def test_cityscapes_keeps_val_and_each_city_in_one_split_and_leaves_its_test_out(tmp_path: Path) -> None:
    cities = ["aachen", "bochum", "bremen", "cologne", "darmstadt", "ulm", "weimar", "zurich"]
    cityscapes_tree(tmp_path, train=cities, val=["frankfurt", "lindau"], test=["berlin"])
    dataset = config("cityscapes", tmp_path)
    found = {split: {key.split("_")[0] for key in keys} for split, keys in splits(dataset).items()}
    assert found["test"] == {"frankfurt", "lindau"}
    assert found["val"] and found["train"] | found["val"] == set(cities)
    assert not found["train"] & found["val"]
    scan = dataset.source.scan(tmp_path)
    assert [(item.reason, "berlin" in item.file) for item in scan.rejected] == [(Reason.UNLISTED, True)] * 4
    assert all(entry.mask.endswith("_labelIds.png") for entry in scan.entries)
    assert {dict(entry.attributes)["attribute/city"] for entry in scan.entries} == {*cities, *found["test"]}


def test_cityscapes_label_ids_become_the_19_train_ids(tmp_path: Path) -> None:
    ids = class_ids(config("cityscapes", tmp_path), np.arange(34, dtype=np.uint8)[np.newaxis])[0]
    # The evaluated ids, in order. Source: cityscapesscripts/helpers/labels.py.
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    expected = np.full(34, IGNORE_LABEL)
    expected[evaluated] = np.arange(19)
    np.testing.assert_array_equal(ids, expected)
    assert len(LABEL_IDS) == 34 and len(TRAIN_CLASSES) == 19


def test_ade20k_counts_from_1_and_keeps_its_validation(tmp_path: Path) -> None:
    train, val = [f"ADE_train_{number:08d}" for number in range(12)], ["ADE_val_00000001"]
    for folder, names in (("training", train), ("validation", val)):
        draw(tmp_path, [f"images/{folder}/{name}.jpg" for name in names])
        draw(tmp_path, [f"annotations/{folder}/{name}.png" for name in names])
    dataset = config("ade20k", tmp_path)
    found = splits(dataset)
    assert found["test"] == set(val) and found["train"] | found["val"] == set(train)
    np.testing.assert_array_equal(
        class_ids(dataset, np.array([[0, 1, 150]], np.uint8)), [[IGNORE_LABEL, 0, 149]]
    )
    classes = dataset.label_set().names
    assert len(classes) == 150 and (classes[0], classes[12], classes[149]) == ("wall", "person", "flag")


def test_a_selection_of_a_known_sets_classes_ignores_the_rest(tmp_path: Path) -> None:
    dataset = config("ade20k", tmp_path, classes=["sky", "wall"])
    np.testing.assert_array_equal(class_ids(dataset, np.array([[0, 1, 2, 3]], np.uint8)), [[255, 1, 255, 0]])


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"layout": "voc", "classes": ["background", "unicorn"]}, "voc has no class 'unicorn'"),
        ({"layout": "voc", "masks": "*.png"}, "dataset.masks is for other layouts"),
        ({"layout": "cityscapes", "label_values": {"a": 1, "b": 2}}, "dataset.label_values is for other"),
        ({"layout": "coco"}, "layout coco needs dataset.classes"),
        ({"layout": "labelme"}, "layout labelme needs dataset.classes"),
        ({"layout": "tfds", "classes": ["a", "b"]}, "layout tfds needs dataset.name"),
        ({"layout": "coco", "classes": ["a", "b"], "masks": {"a": "x"}}, "for coco it is one text"),
        ({"layout": "folder", "name": "x"}, "dataset.name is for the layout 'tfds'"),
    ],
)
def test_keys_of_other_layouts_are_refused_by_name(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DatasetConfig.model_validate({"root": "x", **keys})
