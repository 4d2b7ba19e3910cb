"""COCO's JSON: every form of a segment, the order of overlap, images where tools put them, hostile lists."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pydantic import ValidationError

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.drawn_masks import _decompressed
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.inputs import fingerprint_contents, fingerprint_inputs, opened_root
from components.image_mask_example_gen.layouts import coco
from components.image_mask_example_gen.layouts.layout import IGNORED, Entry
from components.image_mask_example_gen.plan import plan_ingestion
from components.image_mask_example_gen.report import Reason

HEIGHT, WIDTH = 40, 56
CATEGORIES = [{"id": 3, "name": "table"}, {"id": 7, "name": "cup"}, {"id": 9, "name": "dog"}]
CLASSES = ("background", "table", "cup")
"""Dogs are left out, and so ignored."""
SQUARE = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]


def record(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}


def segment(image: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def write(root: Path, path: str, content: Any, *images: str) -> None:
    """Writes a list, and images for it."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content if isinstance(content, str) else json.dumps(content))
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / image)


def coco_list(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    numbered = [{"id": number, **each} for number, each in enumerate(annotations, start=1)]
    return {"info": {}, "images": images, "annotations": numbered, "categories": CATEGORIES}


def config(root: Path, **keys: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({"layout": "coco", "root": str(root), "classes": CLASSES, **keys})


def entries(dataset: DatasetConfig) -> dict[str, Entry]:
    return {entry.key: entry for entry in dataset.source.scan(Path(str(dataset.root))).entries}


def mask_of(dataset: DatasetConfig, key: str) -> np.ndarray:
    return dataset.source.open_mask(Path(str(dataset.root)), entries(dataset)[key], 10**6).read(False)


def one_image(root: Path, *annotations: dict[str, Any], **keys: Any) -> np.ndarray:
    write(root, "a.json", coco_list([record(1, "x.jpg")], list(annotations)), "x.jpg")
    return mask_of(config(root, **keys), "x")


def random_segment(rng: np.random.Generator) -> Any:
    """A segment in one of the four forms that lists have."""
    polygons = [
        np.clip(rng.uniform(-5, 60, 2) + rng.uniform(-18, 18, (rng.integers(3, 9), 2)), -20, 80).ravel()
        for _ in range(rng.integers(1, 3))
    ]
    match rng.integers(3):
        case 0:
            return [polygon.tolist() for polygon in polygons]
        case 1:
            [encoded] = coco_mask.frPyObjects([polygons[0].tolist()], HEIGHT, WIDTH)
            return {"size": encoded["size"], "counts": encoded["counts"].decode()}
        case _:
            inside = (rng.random((HEIGHT, WIDTH)) < 0.3).ravel(order="F")
            edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).tolist()
            counts = np.diff([0, *edges, inside.size]).tolist()
            return {"size": [HEIGHT, WIDTH], "counts": counts}


def test_masks_are_what_pycocotools_draws_larger_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [record(number, f"{number:03d}.jpg") for number in range(12)]
    annotations = [
        segment(number, int(rng.choice([3, 7, 9])), random_segment(rng), iscrowd=int(rng.random() < 0.2))
        for number in range(12)
        for _ in range(rng.integers(0, 7))
    ]
    write(tmp_path, "a.json", coco_list(images, annotations), *(image["file_name"] for image in images))
    dataset = config(tmp_path)
    coco = COCO(str(tmp_path / "a.json"))
    values = {3: 1, 7: 2, 9: IGNORED}
    for number in range(12):
        drawn = [(each, coco.annToMask(each).astype(bool)) for each in coco.imgToAnns[number]]
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for each, inside in sorted(drawn, key=lambda item: -item[1].sum()):
            expected[inside] = values[each["category_id"]]
        np.testing.assert_array_equal(mask_of(dataset, f"{number:03d}"), expected)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int, share: float) -> None:
    inside = np.random.default_rng(seed).random((23, 31)) < share
    encoded = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    counts = _decompressed(encoded["counts"].decode())
    runs = np.repeat(np.arange(len(counts)) % 2, counts)
    np.testing.assert_array_equal(runs.reshape(inside.shape, order="F"), inside)


def test_a_cup_on_a_table_stays_a_cup_in_any_order(tmp_path: Path) -> None:
    table = segment(1, 3, [[0.0, 0.0, 50.0, 0.0, 50.0, 38.0, 0.0, 38.0]])
    cup = segment(1, 7, SQUARE)
    found = one_image(tmp_path, cup, table)
    assert found[10, 10] == 2 and found[30, 30] == 1 and found[39, 55] == 0
    np.testing.assert_array_equal(found, one_image(tmp_path, table, cup))


def test_a_brush_mask_that_is_called_a_crowd_is_of_its_category(tmp_path: Path) -> None:
    table = segment(1, 3, [[0.0, 0.0, 50.0, 0.0, 50.0, 38.0, 0.0, 38.0]])
    encoded = coco_mask.merge(coco_mask.frPyObjects(SQUARE, HEIGHT, WIDTH))
    brush = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    found = one_image(tmp_path, segment(1, 7, brush, iscrowd=1), table)
    assert found[10, 10] == 2 and found[30, 30] == 1


def test_without_a_background_class_what_no_segment_covers_counts_nowhere(tmp_path: Path) -> None:
    found = one_image(tmp_path, segment(1, 7, SQUARE), classes=("table", "cup"))
    assert found[10, 10] == 1 and found[30, 30] == IGNORED


def test_each_of_many_lists_is_read_once_and_forgotten_with_the_folder(tmp_path: Path) -> None:
    for number in range(12):
        names = [f"{number}/images/{image}.jpg" for image in range(3)]
        listed = [record(image, Path(name).name) for image, name in enumerate(names)]
        write(
            tmp_path, f"{number}/instances_{number}.json", coco_list(listed, [segment(0, 3, SQUARE)]), *names
        )
    dataset = config(tmp_path)
    coco._load_unchanged.cache_clear()
    with opened_root(dataset) as root:
        for shard in plan_ingestion(dataset, root).shards:
            for entry in shard.entries:
                dataset.source.open_mask(root, entry, 10**6)
        assert coco._load_unchanged.cache_info().misses == 12
    assert coco._load_unchanged.cache_info().currsize == 0


def test_an_image_without_annotations_is_background(tmp_path: Path) -> None:
    assert (one_image(tmp_path) == 0).all()


@pytest.mark.parametrize(
    ("lists", "images"),
    [
        pytest.param(
            {"annotations/instances_train2017.json": "1.jpg", "annotations/instances_val2017.json": "2.jpg"},
            {"train": "train2017/1.jpg", "val": "val2017/2.jpg"},
            id="as COCO unpacks",
        ),
        pytest.param(
            {"annotations/instances_train2017.json": "1.jpg", "annotations/instances_val2017.json": "2.jpg"},
            {"train": "images/train2017/1.jpg", "val": "images/val2017/2.jpg"},
            id="images in a folder of their own",
        ),
        pytest.param(
            {
                "train/_annotations.coco.json": "1.jpg",
                "valid/_annotations.coco.json": "2.jpg",
                "test/_annotations.coco.json": "3.jpg",
            },
            {"train": "train/1.jpg", "val": "valid/2.jpg", "test": "test/3.jpg"},
            id="Roboflow",
        ),
        pytest.param(
            {"annotations/instances_default.json": "sub/1.jpg"}, {None: "images/sub/1.jpg"}, id="CVAT"
        ),
        pytest.param({"result.json": "images\\1.jpg"}, {None: "images/1.jpg"}, id="Label Studio on Windows"),
        pytest.param({"labels.json": "1.jpg"}, {None: "data/1.jpg"}, id="FiftyOne"),
        pytest.param({"annotations.json": "JPEGImages/1.jpg"}, {None: "JPEGImages/1.jpg"}, id="labelme2coco"),
        pytest.param({"a.json": "/home/other/pictures/1.jpg"}, {None: "images/1.jpg"}, id="elsewhere"),
        pytest.param({"train.json": "1.jpg"}, {"train": "images/1.jpg"}, id="named after the split"),
    ],
)
def test_images_are_found_where_tools_put_them_and_splits_are_kept(
    tmp_path: Path, lists: Mapping[str, str], images: Mapping[str | None, str]
) -> None:
    for number, (path, name) in enumerate(lists.items()):
        write(tmp_path, path, coco_list([record(number, name)], []))
    for image in images.values():
        write(tmp_path, f"{image}.unrelated", "", image)
    scan = config(tmp_path).source.scan(tmp_path)
    assert not scan.rejected
    assert {entry.official_split: entry.image for entry in scan.entries} == images
    assert set(scan.files) == {*lists, *images.values()}


def test_keypoints_and_captions_beside_instances_are_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path, "annotations/instances_val2017.json", coco_list([record(1, "1.jpg")], []), "val2017/1.jpg"
    )
    for other in ("captions_val2017", "person_keypoints_val2017", "panoptic_val2017", "image_info_test2017"):
        write(tmp_path, f"annotations/{other}.json", '{"info": {}}')
    assert list(entries(config(tmp_path))) == ["val2017/1"]


@pytest.mark.parametrize("path", ["annotations/stuff_val2017.json", "a/b/c/d/captions_val2017.json"])
def test_a_list_that_is_named_is_taken_whatever_its_name_and_depth(tmp_path: Path, path: str) -> None:
    write(tmp_path, path, coco_list([record(1, "1.jpg")], []), "val2017/1.jpg")
    assert list(entries(config(tmp_path, masks=path))) == ["val2017/1"]


def test_what_has_no_image_is_rejected_and_what_no_list_has_is_set_aside(tmp_path: Path) -> None:
    images = [record(1, "1.jpg"), record(2, "gone.jpg"), record(3, "../outside.jpg")]
    write(tmp_path / "set", "a.json", coco_list(images, []), "1.jpg", "new.jpg")
    write(tmp_path, "unrelated.json", "", "outside.jpg")
    scan = config(tmp_path / "set").source.scan(tmp_path / "set")
    assert [(item.file, item.reason) for item in scan.rejected] == [
        ("a.json#2", Reason.MASK_WITHOUT_IMAGE),
        ("a.json#3", Reason.MASK_WITHOUT_IMAGE),
        ("new.jpg", Reason.UNLISTED),
    ]


@pytest.mark.parametrize("missing", ["5.jpg", "9.jpg", "val/9.jpg"])
def test_an_image_that_is_missing_in_a_split_s_folder_is_not_found_in_another_s(
    tmp_path: Path, missing: str
) -> None:
    train = [f"{number}.jpg" for number in range(6)]
    write(
        tmp_path,
        "annotations/instances_train.json",
        coco_list([record(number, name) for number, name in enumerate(train)], []),
        *(f"train/{name}" for name in (*train, "9.jpg")),
    )
    val = coco_list([record(1, "0.jpg"), record(2, missing)], [])
    write(tmp_path, "annotations/instances_val.json", val, "val/0.jpg")
    scan = config(tmp_path).source.scan(tmp_path)
    assert [entry.image for entry in scan.entries if entry.official_split == "val"] == ["val/0.jpg"]
    assert {item.file: item.reason for item in scan.rejected} == {
        "annotations/instances_val.json#2": Reason.MASK_WITHOUT_IMAGE,
        "train/9.jpg": Reason.UNLISTED,
    }


def test_a_list_in_its_split_s_folder_has_its_images_there(tmp_path: Path) -> None:
    for split, there in (("train", ["1.jpg", "2.jpg"]), ("valid", ["3.jpg"])):
        listed = coco_list([record(number, name) for number, name in enumerate(("2.jpg", *there[:1]))], [])
        write(tmp_path, f"{split}/_annotations.coco.json", listed, *(f"{split}/{name}" for name in there))
    scan = config(tmp_path).source.scan(tmp_path)
    assert {entry.image: entry.official_split for entry in scan.entries} == {
        "train/1.jpg": "train",
        "train/2.jpg": "train",
        "valid/3.jpg": "val",
    }
    assert [item.file for item in scan.rejected] == ["valid/_annotations.coco.json#0"]


def test_a_split_s_folder_without_pictures_holds_none_of_its_images(tmp_path: Path) -> None:
    write(tmp_path, "annotations/instances_val.json", coco_list([record(1, "1.jpg")], []), "train/1.jpg")
    (tmp_path / "val").mkdir()
    (tmp_path / "val/readme.txt").touch()
    assert [entry.image for entry in config(tmp_path).source.scan(tmp_path).entries] == ["train/1.jpg"]


def test_lists_of_splits_may_share_a_folder_named_after_one(tmp_path: Path) -> None:
    for split, name in (("train", "1.jpg"), ("val", "2.jpg")):
        write(tmp_path, f"{split}.json", coco_list([record(1, name)], []), f"train/{name}")
    scan = config(tmp_path).source.scan(tmp_path)
    assert {entry.image: entry.official_split for entry in scan.entries} == {
        "train/1.jpg": "train",
        "train/2.jpg": "val",
    }


def test_pictures_whose_names_differ_in_the_suffix_alone_are_two(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "b.jpg", "c.png", "c.png.jpg"]
    write(tmp_path, "a.json", coco_list([record(i, name) for i, name in enumerate(names)], []), *names)
    found = entries(config(tmp_path))
    assert {key: entry.image for key, entry in found.items()} == {
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "b": "b.jpg",
        "c": "c.png",
        "c.png.jpg": "c.png.jpg",
    }


def test_one_picture_in_two_lists_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path, f"{split}.json", coco_list([record(1, "1.jpg")], []), "images/1.jpg")
    with pytest.raises(StageError, match=r"images/1.jpg is in train.json#1 and in val.json#1"):
        config(tmp_path).source.scan(tmp_path)
    assert list(entries(config(tmp_path, masks="val.json"))) == ["images/1"]


@pytest.mark.parametrize("layout", ["coco", "labelme"])
def test_more_names_than_a_drawn_mask_tells_apart_are_refused_though_they_are_merged(
    tmp_path: Path, layout: str
) -> None:
    names = [f"kind{number}" for number in range(256)]
    keys = {"layout": layout, "merge_classes": dict.fromkeys(names[2:], "kind0")}
    assert len(config(tmp_path, **keys | {"classes": names[:-1], "merge_classes": {}}).source.classes) == 256
    with pytest.raises(ValidationError, match="has 256 names, and a drawn mask tells 255"):
        config(tmp_path, classes=names, **keys)


def test_a_class_that_no_list_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.json", coco_list([record(1, "1.jpg")], []), "1.jpg")
    with pytest.raises(StageError, match=r"no category 'plate'; it has cup, dog, table"):
        config(tmp_path, classes=("background", "plate")).source.scan(tmp_path)


def test_panoptic_segments_and_crowds_have_their_category_and_void_counts_nowhere(tmp_path: Path) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[:10], ids[10:20], ids[20:30] = 70_000, 300, 12
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65_536], axis=-1).astype(np.uint8)
    infos = [
        {"id": 70_000, "category_id": 3, "iscrowd": 0},
        {"id": 300, "category_id": 7, "iscrowd": 0},
        {"id": 12, "category_id": 7, "iscrowd": 1},
    ]
    annotation = {"image_id": 1, "file_name": "x.png", "segments_info": infos}
    content = {"images": [record(1, "x.jpg")], "annotations": [annotation], "categories": CATEGORIES}
    write(tmp_path, "annotations/panoptic_val2017.json", content, "val2017/x.jpg")
    (tmp_path / "annotations/panoptic_val2017").mkdir()
    Image.fromarray(colors).save(tmp_path / "annotations/panoptic_val2017/x.png")
    found = mask_of(config(tmp_path, classes=("table", "cup")), "val2017/x")
    expected = np.repeat([0, 1, 1, IGNORED], 10)[:, np.newaxis]
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    assert "annotations/panoptic_val2017/x.png" in config(tmp_path).source.scan(tmp_path).files


@pytest.mark.parametrize("fingerprint", [fingerprint_inputs, fingerprint_contents])
def test_a_missing_panoptic_picture_rejects_its_pair_and_does_not_end_the_run(
    tmp_path: Path, fingerprint: Callable[[DatasetConfig], str]
) -> None:
    annotation = {"image_id": 1, "file_name": "x.png", "segments_info": [{"id": 1, "category_id": 3}]}
    content = {"images": [record(1, "x.jpg")], "annotations": [annotation], "categories": CATEGORIES}
    write(tmp_path, "panoptic.json", content, "x.jpg")
    dataset = config(tmp_path)
    missing = fingerprint(dataset)
    with pytest.raises(InputRejectedError, match="No such file"):
        mask_of(dataset, "x")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "x.png")
    assert fingerprint(dataset) != missing


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"images": ', "no JSON"),
        ('{"images": "no"}', '"annotations" or "categories" is missing'),
        ('{"images": [], "annotations": {}, "categories": []}', "is missing or no list"),
        ('{"images": ' + "[" * 100_000, "nested deeper"),
        ('{"images": [1], "annotations": [], "categories": []}', "an image without id"),
        ('{"images": [{"id": 1, "file_name": "x", "height": -1, "width": 9}]}', '"annotations"'),
        (
            json.dumps(coco_list([{"id": 1, "file_name": "x", "height": -1, "width": 9}], [])),
            "without id, file_name, height and width",
        ),
        (json.dumps(coco_list([record(1, "x.jpg")] * 2, [])), "two images have the id 1"),
        (json.dumps(coco_list([record(1, "x.jpg")], [segment(2, 3, SQUARE)])), "not in the list"),
        (json.dumps(coco_list([record(1, "x.jpg")], [segment(1, 99, SQUARE)])), "99, which has no name"),
        (json.dumps(coco_list([record(1, "x.jpg")], [{"image_id": 1}])), "an annotation without"),
        (json.dumps(coco_list([record(1, "x.jpg")], [segment(1, 3, [["a"]])])), "an annotation without"),
        (b'{"images": "\xff"}', "not UTF-8"),
        (json.dumps(coco_list([record(1, "x.jpg")], [segment(1, 3, [])])), "boxes outline nothing"),
        (json.dumps(coco_list([record(1, "x.jpg")], [segment(1, 3, None)])), "boxes outline nothing"),
    ],
    ids=range(15),
)
def test_a_list_that_is_none_ends_in_one_line(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    (tmp_path / "a.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=complaint) as error:
        config(tmp_path).source.scan(tmp_path)
    assert str(error.value).startswith("a.json: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "hostile",
    [
        [[0.0, 0.0, 1e12, 0.0, 1e12, 1e12]],
        [[0.0, 0.0, float("nan"), 0.0, 5.0, 5.0]],
        [[0.0, 0.0, 1.0]],
        [[0.0, 0.0, 500.0, 0.0] * 50_000],
        {"size": [HEIGHT, WIDTH], "counts": [0, 10**15]},
        {"size": [HEIGHT, WIDTH], "counts": [5, -3]},
        {"size": [HEIGHT, WIDTH], "counts": [True]},
        {"size": [HEIGHT, WIDTH], "counts": "oooooooooooooooooo"},
        {"size": [HEIGHT, WIDTH], "counts": "é"},
        {"size": [HEIGHT, WIDTH]},
        {"size": [10**9, 10**9], "counts": [0, 1]},
    ],
    ids=range(11),
)
def test_a_hostile_segment_is_rejected_with_its_image(tmp_path: Path, hostile: Any) -> None:
    with pytest.raises(InputRejectedError, match="a segment cannot be drawn"):
        one_image(tmp_path, segment(1, 3, hostile))


def test_run_lengths_of_a_picture_on_its_side_are_refused(tmp_path: Path) -> None:
    on_its_side = {"size": [WIDTH, HEIGHT], "counts": [4, 10, HEIGHT * WIDTH - 14]}
    with pytest.raises(InputRejectedError, match=r"run lengths for \[56, 40\], the image has \[40, 56\]"):
        one_image(tmp_path, segment(1, 3, on_its_side))


def test_an_object_without_outline_is_not_taken_for_background(tmp_path: Path) -> None:
    with pytest.raises(InputRejectedError, match="a box and no outline"):
        one_image(tmp_path, segment(1, 3, SQUARE), segment(1, 7, []))


def test_a_picture_said_to_be_huge_is_rejected_before_it_is_drawn(tmp_path: Path) -> None:
    huge = {"id": 1, "file_name": "x.jpg", "height": 10**6, "width": 10**6}
    write(tmp_path, "a.json", coco_list([huge], []), "x.jpg")
    with pytest.raises(InputRejectedError) as rejected:
        mask_of(config(tmp_path), "x")
    assert rejected.value.reason is Reason.TOO_MANY_PIXELS
