"""Known sets and tools' exports: init takes them as what they are, and ingestion reads them so."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from first_recipe import class_ids, recipe_of, refused
from ingested import ingest, names_of, read_split
from PIL import Image, ImageDraw
from tiny_tfds import COUNTS, TinyPets, Unnamed, picture, prepare

from components.dataset.features import MASK_ENCODED
from components.image_mask_example_gen.layouts import coco
from pipeline.config import Recipe
from pipeline.init.__main__ import main

Case = Callable[[str], Path]
SQUARE = [[4, 4], [30, 4], [30, 30], [4, 30]]


def init(output: Path, *argv: str | Path) -> Recipe:
    return recipe_of(output / "r.yaml", *argv)


def photo(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(path)


def test_voc_has_its_own_classes_lists_and_void(case: Case, tmp_path: Path) -> None:
    root = case("voc")
    recipe = init(tmp_path, "--images", root / "JPEGImages", "--masks", root / "SegmentationClass")
    assert recipe.dataset.layout == "voc"
    assert recipe.dataset.label_set().names == ("background", "car", "motorbike")
    ingest(recipe.dataset, tmp_path / "out")
    found = names_of(tmp_path / "out")
    listed = {
        split: {
            f"JPEGImages/{name}.jpg"
            for name in (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()
        }
        for split in ("train", "val")
    }
    assert found["test"] == listed["val"] and found["train"] | found["val"] == listed["train"]
    for key, ids in class_ids(recipe.dataset).items():
        raw = np.asarray(Image.open(root / f"SegmentationClass/{key}.png"))
        np.testing.assert_array_equal(ids, np.select([raw == 7, raw == 14, raw == 255], [1, 2, 255], 0))


@pytest.mark.parametrize("told", [(), ("--classes", "labelmap.txt")])
def test_cvats_label_map_tells_the_classes_by_colour(
    case: Case, tmp_path: Path, told: tuple[str, ...]
) -> None:
    root = case("cvat_palette")
    more = [str(root / word) if word.endswith(".txt") else word for word in told]
    recipe = init(tmp_path, "--images", root / "JPEGImages", "--masks", root / "SegmentationClass", *more)
    assert recipe.dataset.layout == "voc"
    assert recipe.dataset.label_set().names == ("background", "square", "disc")
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
    for key, ids in class_ids(recipe.dataset).items():
        shown = np.asarray(Image.open(root / f"SegmentationClass/{key}.png").convert("RGB"))
        np.testing.assert_array_equal(colors[ids], shown)


def test_cityscapes_reads_label_ids_and_groups_by_city(case: Case, tmp_path: Path) -> None:
    root = case("cityscapes")
    recipe = init(tmp_path, "--images", root / "leftImg8bit", "--masks", root / "gtFine")
    assert recipe.dataset.layout == "cityscapes"
    assert recipe.dataset.label_set().names == ("road", "person", "car")
    assert recipe.dataset.splits.group == "^([^_]+)_" and recipe.evaluation.slices == ("city",)
    ingest(recipe.dataset, tmp_path / "out")
    cities = {
        split: {name.split("/")[2] for name in names} for split, names in names_of(tmp_path / "out").items()
    }
    assert cities["test"] == {path.name for path in (root / "leftImg8bit/val").iterdir()}
    assert not cities["train"] & cities["val"]


@pytest.mark.parametrize(
    ("name", "layout"), [("voc", "voc"), ("cityscapes", "cityscapes"), ("ade", "ade20k")]
)
@pytest.mark.parametrize("options", [("--data",), ("--images", "--masks")], ids=["data", "both folders"])
@pytest.mark.parametrize("above", [False, True], ids=["itself", "the folder above"])
def test_a_known_set_is_found_by_its_root(
    case: Case, tmp_path: Path, name: str, layout: str, options: tuple[str, ...], above: bool
) -> None:
    root = case(name)
    named = root
    if above:
        named = tmp_path / "unpacked"
        named.mkdir()
        root = root.rename(named / name)
    dataset = init(tmp_path, *(word for option in options for word in (option, named))).dataset
    assert (dataset.layout, dataset.root) == (layout, str(root))


def test_ade20k_counts_from_one(case: Case, tmp_path: Path) -> None:
    root = case("ade")
    recipe = init(tmp_path, "--images", root / "images", "--masks", root / "annotations")
    assert recipe.dataset.layout == "ade20k"
    assert recipe.dataset.raw_labels() == (
        {1: "wall", 2: "building", 3: "sky", 4: "floor"},
        {value for value in range(151) if value not in (1, 2, 3, 4)},
    )


def test_names_of_ade20k_keep_their_values_whichever_are_given(case: Case, tmp_path: Path) -> None:
    folders = "--images", case("ade") / "images", "--masks", tmp_path / "ade/annotations"
    recipe = init(tmp_path, *folders, "--classes", "sky,wall")
    assert recipe.dataset.raw_labels()[0] == {3: "sky", 1: "wall"}


def test_labelmes_polygons_are_drawn(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("labelme")
    recipe = init(tmp_path, "--images", root, "--masks", root)
    assert "12 pairs" in capsys.readouterr().out
    assert recipe.dataset.layout == "labelme"
    assert recipe.dataset.label_set().names == ("background", "square")
    for key, ids in class_ids(recipe.dataset).items():
        [shape] = json.loads((root / f"{key}.json").read_text())["shapes"]
        expected = Image.new("L", (64, 48))
        ImageDraw.Draw(expected).polygon([tuple(point) for point in shape["points"]], fill=1, outline=1)
        np.testing.assert_array_equal(ids, np.asarray(expected))


def test_labelme_with_its_files_in_a_folder_of_their_own(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("labelme")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for path in root.glob("*.*"):
        path.rename(root / ("images" if path.suffix == ".jpg" else "labels") / path.name)
    recipe = init(tmp_path, "--images", root / "images", "--masks", root / "labels")
    assert recipe.dataset.layout == "labelme" and len(class_ids(recipe.dataset)) == 12
    assert "in neither folder" not in capsys.readouterr().out
    (root / "other").mkdir()
    for path in (root / "labels").glob("*1.json"):
        path.rename(root / "other" / path.name)
    init(tmp_path, "--images", root / "images", "--masks", root / "labels", "--force")
    assert f"labelme lie below {root} and in neither folder" in capsys.readouterr().out


def coco_set(root: Path, lists: Mapping[str, list[str]]) -> None:
    """Draws images, and lists of a cup on a table in each; category 1 is used nowhere."""
    names = ["supercategory", "table", "cup"]
    for path, images in lists.items():
        content: dict[str, Any] = {
            "images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(names)]
        }  # fmt: skip
        for number, image in enumerate(images):
            photo(root / image)
            record = {"id": number, "file_name": Path(image).name, "height": 48, "width": 64}
            content["images"].append(record)
            for category, end in ((2, 20), (1, 44)):
                outline = [2, 2, end, 2, end, end, 2, end]
                annotation = {"id": 2 * number + category, "image_id": number, "category_id": category}
                content["annotations"].append({**annotation, "iscrowd": 0, "segmentation": [outline]})
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps(content))


ROBOFLOW = {
    f"{folder}/_annotations.coco.json": [
        f"{folder}/{number}_jpg.rf.ab{number}.jpg" for number in range(count)
    ]
    for folder, count in (("train", 9), ("valid", 3), ("test", 4))
}
OFFICIAL = {
    "annotations/instances_train2017.json": [f"train2017/{number:012d}.jpg" for number in range(12)],
    "annotations/instances_val2017.json": [f"val2017/{number:012d}.jpg" for number in range(100, 104)],
}


@pytest.mark.parametrize(
    ("lists", "images", "masks", "test", "val"),
    [
        (ROBOFLOW, ".", ".", "test", "valid"),
        (OFFICIAL, "train2017", "annotations", "val2017", None),
        (OFFICIAL, ".", "annotations", "val2017", None),
        (OFFICIAL, ".", ".", "val2017", None),
    ],
    ids=["Roboflow", "COCO by folders", "COCO by root", "COCO by root alone"],
)
def test_coco_lists_are_drawn_and_divided_as_they_are(
    tmp_path: Path, lists: Mapping[str, list[str]], images: str, masks: str, test: str, val: str | None
) -> None:
    root = tmp_path / "set"
    coco_set(root, lists)
    recipe = init(tmp_path, "--images", root / images, "--masks", root / masks)
    assert recipe.dataset.layout == "coco" and recipe.dataset.root == str(root)
    assert recipe.dataset.label_set().names == ("background", "table", "cup")
    ids = next(iter(class_ids(recipe.dataset).values()))
    assert (ids[5, 5], ids[30, 30], ids[46, 60]) == (2, 1, 0)
    ingest(recipe.dataset, tmp_path / "out")
    found = names_of(tmp_path / "out")
    everything = {image for images in lists.values() for image in images}
    assert found["test"] == {image for image in everything if image.startswith(test)}
    if val:
        assert found["val"] == {image for image in everything if image.startswith(val)}
    assert set().union(*found.values()) == everything


@pytest.mark.parametrize("names", [(), ("--classes", "background,table,cup")], ids=["told", "given"])
def test_brush_masks_that_a_list_calls_crowds_are_classes_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...]
) -> None:
    root, path = tmp_path / "set", "annotations/instances_default.json"
    coco_set(root, {path: [f"images/default/{number}.jpg" for number in range(12)]})
    content = json.loads((root / path).read_text())
    for annotation in content["annotations"]:
        if annotation["category_id"] == 2:
            runs = [2 * 48 + 2, *[20, 28] * 19, 20]
            runs += [48 * 64 - sum(runs)]
            annotation |= {"iscrowd": 1, "segmentation": {"size": [48, 64], "counts": runs}}
    (root / path).write_text(json.dumps(content))
    folders = "--images", root / "images/default", "--masks", root / "annotations"
    recipe = init(tmp_path, *folders, *names)
    said = capsys.readouterr().out
    assert "marked as crowds (iscrowd), and drawn as other objects are: 12 of cup" in said
    assert "in no mask" not in said and recipe.dataset.classes == ("background", "table", "cup")
    with_table = init(tmp_path, *folders, "--classes", "background,table", "--force")
    assert with_table.dataset.classes == ("background", "table")
    assert "iscrowd" not in capsys.readouterr().out
    ids = next(iter(class_ids(recipe.dataset).values()))
    assert (ids[5, 5], ids[30, 30]) == (2, 1)


@pytest.mark.parametrize(
    ("folder", "is_of_a_tool"), [("annotations {1,2}", True), ("annotations/of/all/kinds", False)]
)
def test_one_coco_list_can_be_named_as_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, is_of_a_tool: bool
) -> None:
    # However deep it lies, and of a kind that is not looked for.
    name = f"{folder}/stuff_train2017.json"
    train, val = OFFICIAL
    coco_set(tmp_path / "set", {name: OFFICIAL[train], val: OFFICIAL[val]})
    chosen = tmp_path / "set" / name
    read_json = Mock(wraps=coco.read_json)
    monkeypatch.setattr(coco, "read_json", read_json)
    if is_of_a_tool:
        # As V7 writes it, whose own JSON holds no masks that are read.
        content = {"info": {"url": "https://darwin.v7labs.com/"}, **json.loads(chosen.read_text())}
        chosen.write_text(json.dumps(content))
    recipe = init(tmp_path, "--images", tmp_path / "set/train2017", "--masks", chosen)
    assert is_of_a_tool or read_json.call_count == 1
    assert recipe.dataset.masks == name.replace("{", "[{]")
    assert {key.split("/")[0] for key in class_ids(recipe.dataset)} == {"train2017"}


def test_annotations_elsewhere_in_a_home_are_not_taken_for_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coco_set(tmp_path / "mine", {f"{kind}.json": [f"{kind}/{n}.jpg" for n in range(9)] for kind in "ab"})
    coco_set(tmp_path / "other", {"notes.json": [f"images/{number}.jpg" for number in range(12)]})
    (tmp_path / "other/notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = init(tmp_path, "--images", tmp_path / "other/images", "--masks", tmp_path / "mine")
    assert recipe.dataset.masks == "mine/{a,b}.json" and len(class_ids(recipe.dataset)) == 18
    capsys.readouterr()
    line = refused(capsys, tmp_path / "other/images", tmp_path / "empty", tmp_path / "empty/r.yaml")
    assert "holds 1 files" in line


@pytest.mark.parametrize(
    ("lists", "pattern", "pairs"),
    [
        (["a.json"], "mine/a.json", 9),
        (["lists/a.json", "lists/b.json", "lists/captions_b.json"], "mine/lists/{a,b}.json", 18),
        (
            ["lists/a,1.json", "lists/{b}.json", "lists/captions_a.json"],
            "mine/lists/{a[,]1,[{]b[}]}.json",
            18,
        ),
        (["a/all.json", "b/all.json", "b/captions_b.json"], "mine/**/all.json", 18),
    ],
)
def test_of_coco_lists_those_of_the_named_folder_alone_are_taken(
    tmp_path: Path, lists: list[str], pattern: str, pairs: int
) -> None:
    coco_set(tmp_path / "other", {"notes.json": [f"images/{number}.jpg" for number in range(12)]})
    own = [path for path in lists if "captions" not in path]
    named = {path: [f"mine/{Path(path).parent}/{i}_{n}.jpg" for n in range(9)] for i, path in enumerate(own)}
    coco_set(tmp_path, {f"mine/{path}": images for path, images in named.items()})
    for path in set(lists) - set(own):
        (tmp_path / "mine" / path).write_text(json.dumps({"images": [], "annotations": []}))
    (tmp_path / "images").mkdir()
    recipe = init(tmp_path, "--images", tmp_path / "images", "--masks", tmp_path / "mine")
    assert recipe.dataset.masks == pattern and len(class_ids(recipe.dataset)) == pairs


def test_a_prepared_tfds_set_has_its_names_and_splits(tmp_path: Path) -> None:
    prepare(TinyPets, tmp_path / "data")
    recipe = init(tmp_path, "--layout", "tfds", "--data", tmp_path / "data/tiny_pets")
    assert (recipe.dataset.root, recipe.dataset.name) == (str(tmp_path / "data"), "tiny_pets:3.2.0")
    assert recipe.dataset.label_set().names == ("pet", "background", "border")
    ingest(recipe.dataset, tmp_path / "out")
    test = read_split(tmp_path / "out", "test")
    assert len(test) == COUNTS["test"]
    assert {split: len(names) for split, names in names_of(tmp_path / "out").items()} == {
        "train": 8,
        "val": 1,
        "test": 4,
    }
    import tensorflow as tf

    for example in test.values():
        ids = tf.io.decode_png(example[MASK_ENCODED]).numpy()
        np.testing.assert_array_equal(ids, picture("test", ids.shape[0] - 20)[1])


def test_of_a_tfds_set_without_names_the_values_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(Unnamed, tmp_path / "data")
    recipe = init(tmp_path, "--data", tmp_path / "data", "--classes", "pet,ground,border")
    assert recipe.dataset.layout == "tfds"
    assert list(recipe.dataset.raw_labels()[0].values()) == ["pet", "ground", "border"]
    assert "none of train, val, test" in capsys.readouterr().out


def test_libraries_say_nothing_on_the_terminal(tmp_path: Path) -> None:
    prepare(TinyPets, tmp_path / "data")
    command = [sys.executable, "-m", "pipeline.init", "--data", str(tmp_path / "data")]
    done = subprocess.run([*command, "--output", str(tmp_path / "r.yaml")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_folders_of_the_same_names_that_are_no_known_set_stay_folders(tmp_path: Path) -> None:
    for number in range(12):
        photo(tmp_path / f"set/JPEGImages/{number}.jpg")
        mask = Image.new("L", (64, 48))
        ImageDraw.Draw(mask).rectangle([5, 5, 20 + number, 30], fill=3)
        (tmp_path / "set/SegmentationClass").mkdir(exist_ok=True)
        mask.save(tmp_path / f"set/SegmentationClass/{number}.png")
    folders = "--images", tmp_path / "set/JPEGImages", "--masks", tmp_path / "set/SegmentationClass"
    dataset = init(tmp_path, *folders).dataset
    assert dataset.layout == "folder" and list(dataset.raw_labels()[0]) == [0, 3]


def test_masks_beside_a_coco_list_are_taken_where_they_pair(tmp_path: Path) -> None:
    coco_set(
        tmp_path / "set", {"masks/_annotations.coco.json": [f"images/{number}.jpg" for number in range(12)]}
    )
    for number in range(12):
        mask = Image.new("L", (64, 48))
        ImageDraw.Draw(mask).rectangle([5, 5, 20 + number, 30], fill=1)
        mask.save(tmp_path / f"set/masks/{number}.png")
    dataset = init(tmp_path, "--images", tmp_path / "set/images", "--masks", tmp_path / "set/masks").dataset
    assert dataset.layout == "folder"


def test_a_damaged_coco_list_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_set(tmp_path / "set", OFFICIAL)
    broken = tmp_path / "set/annotations/instances_val2017.json"
    broken.write_text(broken.read_text()[:-40])
    line = refused(capsys, tmp_path / "set/val2017", tmp_path / "set/annotations", tmp_path / "r.yaml")
    assert "annotations/instances_val2017.json: no JSON" in line


FOREIGN = {
    "Label Studio": (
        "a.json",
        [{"id": 1, "file_upload": "a.jpg", "annotations": []}],
        "Brush labels to COCO",
    ),
    "Label Studio, small": ("a.json", [{"image": "a.jpg", "annotation_id": 3, "annotator": 1}], "'COCO'"),
    "CVAT": (
        "annotations.xml",
        "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>",
        "1.1",
    ),
    "Supervisely": (
        "a.jpg.json",
        {"tags": [], "size": {"height": 4, "width": 4}, "objects": [{"classTitle": "cat", "bitmap": {}}]},
        "masks_machine",
    ),
    "Supervisely, nothing drawn": (
        "a.jpg.json",
        {"description": "", "tags": [], "size": {"height": 4, "width": 4}, "objects": []},
        "masks_machine",
    ),
    "Label Studio's brushes": ("task-1-annotation-2-by-1-tag-Road-0.png", "", "Brush labels to COCO"),
    "YOLO's polygons": ("a.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5\n", "COCO JSON"),
    "YOLO's boxes": ("a.txt", "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.2\n", "boxes outline nothing"),
    "VGG Image Annotator": ("via.json", {"_via_settings": {}, "_via_img_metadata": {}}, "COCO format"),
    "VGG Image Annotator's table": ("via.csv", "filename,region_shape_attributes\n", "COCO format"),
    "Darwin": (
        "a.json",
        {"version": "2.0", "schema_ref": "https://darwin-public.s3/schema"},
        "Semantic mask",
    ),
    "Hasty": ("a.json", {"project_name": "x", "label_classes": []}, "Semantic segmentation PNG"),
    "Labelbox": ("a.ndjson", '{"data_row": {"id": "c"}}\n', "labelbox"),
    "boxes": ("a.xml", "<annotation><object><bndbox/></object></annotation>", "boxes outline nothing"),
    "run lengths": ("train.csv", "ImageId,EncodedPixels\na.jpg,1 3\n", "draw each into a PNG"),
    "GIS": ("a.geojson", {"type": "FeatureCollection", "features": []}, "gdal_rasterize"),
    "NumPy": ("a.npy", "\x93NUMPY", "save each as a PNG"),
}


@pytest.mark.parametrize("tool", FOREIGN)
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "beside the images"])
def test_annotations_that_hold_no_masks_are_named_with_what_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, apart: bool
) -> None:
    name, content, advice = FOREIGN[tool]
    images = tmp_path / "images"
    masks = tmp_path / "labels" if apart else images
    masks.mkdir()
    for letter in "abc":
        photo(images / f"{letter}.jpg")
    (masks / name).write_text(content if isinstance(content, str) else json.dumps(content))
    line = refused(capsys, images, masks, tmp_path / "r.yaml")
    assert f"({name}), from which no masks are read" in line and advice in line


def test_labels_that_differ_in_capitals_or_blanks_alone_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, label in enumerate(["traffic light", "Traffic_Light", "traffic light ", "car"] * 3):
        photo(tmp_path / f"set/{number}.jpg")
        shape = {"label": label, "shape_type": "rectangle", "points": [[4, 4], [40, 30]]}
        content = {"shapes": [shape], "imagePath": f"{number}.jpg", "imageHeight": 48, "imageWidth": 64}
        (tmp_path / f"set/{number}.json").write_text(json.dumps({"version": "5", "flags": {}, **content}))
    init(tmp_path, "--data", tmp_path / "set")
    said = capsys.readouterr().out
    assert (
        "'Traffic_Light' and 'traffic light' and 'traffic light ' differ in capitals or blanks alone" in said
    )


def test_masks_of_other_classes_in_the_folders_of_a_known_set_are_not_all_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, city in enumerate(["aachen", "bonn", "celle", "dover"] * 3):
        split, stem = ("val" if city == "dover" else "train"), f"{city}_{number:06d}_000019"
        photo(tmp_path / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
        mask = tmp_path / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron([[0, 1, 2, 0]], np.ones((48, 16))).astype(np.uint8)).save(mask)
    folders = ("--images", tmp_path / "leftImg8bit", "--masks", tmp_path / "gtFine")
    dataset = init(tmp_path, *folders).dataset
    assert dataset.layout == "folder" and len(dataset.label_set().names) == 3
    said = capsys.readouterr().out
    assert "the masks are none of cityscapes: no class of it stands in them; they hold 0 (50.0%)" in said
    output = ["--output", str(tmp_path / "other.yaml"), "--preview", str(tmp_path / "other.png")]
    assert main(["--layout", "cityscapes", "--data", str(tmp_path), *output]) == 2
