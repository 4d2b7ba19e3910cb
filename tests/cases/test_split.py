"""The user's own split: found by init, written into the recipe, and kept by ingestion byte for byte."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from conftest import disc_pair
from ingested import ingest, names_of
from PIL import Image

from components.dataset.features import SPLITS
from pipeline.config import Recipe, load_recipe
from pipeline.init.__main__ import main
from pipeline.init.splits import folder_pattern, split_name

Case = Callable[[str], Path]
Names = Mapping[str, set[str]]


def init(images: Path, masks: Path, output: Path, *more: str) -> Recipe:
    """Runs the command and loads the recipe without a change."""
    argv = ["--images", str(images), "--masks", str(masks), "--output", str(output), "--force", *more]
    assert main(argv) == 0
    return load_recipe(str(output))


def ingested(recipe: Recipe, out: Path) -> Names:
    """Runs the ingestion, and returns the image names of each split as the Examples hold them."""
    ingest(recipe.dataset, out)
    return names_of(out)


def draw(root: Path, paths: Iterable[tuple[str, str]]) -> None:
    """Draws pairs of image and mask, and images alone where the mask is empty."""
    for seed, (image, mask) in enumerate(paths):
        pair = disc_pair(seed)
        for path, pixels in ((image, pair.image), (mask, pair.class_ids % 255)):
            if path:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)


def below(root: Path, *folders: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def listed(root: Path, path: str, form: str) -> set[str]:
    return {form.format(line) for line in (root / path).read_text().split()}


def test_folders_of_images_and_masks_keep_their_splits(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("presplit_b")
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    said = capsys.readouterr().out
    assert "train: 12 pairs, folder images/train" in said and "test: 4 pairs, folder images/test" in said
    assert ingested(recipe, tmp_path / "out") == {split: below(root, f"images/{split}") for split in SPLITS}


def test_the_lists_of_voc_divide_its_images(case: Case, tmp_path: Path) -> None:
    root = case("voc")
    recipe = init(root / "JPEGImages", root / "SegmentationClass", tmp_path / "r.yaml")
    train, val = (
        listed(root, f"ImageSets/Segmentation/{name}.txt", "JPEGImages/{}.jpg") for name in ("train", "val")
    )
    found = ingested(recipe, tmp_path / "out")
    assert found["test"] == val and found["train"] | found["val"] == train
    assert found["val"] and not found["train"] & found["val"]


@pytest.mark.parametrize(
    ("name", "images", "masks", "train", "val"),
    [
        ("cityscapes", "leftImg8bit", "gtFine", "leftImg8bit/train", "leftImg8bit/val"),
        ("ade", "images", "annotations", "images/training", "images/validation"),
    ],
)
def test_where_only_val_is_official_it_is_the_test(
    case: Case,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    images: str,
    masks: str,
    train: str,
    val: str,
) -> None:
    root = case(name)
    found = ingested(init(root / images, root / masks, tmp_path / "r.yaml"), tmp_path / "out")
    assert found["test"] == below(root, val) and found["train"] | found["val"] == below(root, train)
    assert "of val, as it has none of test" in capsys.readouterr().out


COUNTS = {"train": 7, "val": 3, "test": 4}
FORMS = [
    # --images, --masks, image, mask; the names begin anew in each split.
    ("images", "masks", "images/{split}/{n}.jpg", "masks/{split}/{n}.png"),
    ("", "", "images/{split}/{n}.jpg", "masks/{split}/{n}.png"),
    ("", "", "{split}/images/{n}.jpg", "{split}/masks/{n}.png"),
    ("", "", "{split}/{n}.jpg", "{split}annot/{n}.png"),
    ("", "", "{split}/{n}.jpg", "{split}_labels/{n}.png"),
    ("", "", "{split}_images/{n}.jpg", "{split}_masks/{n}.png"),
    ("", "", "images_{split}/{n}.jpg", "labels_{split}/{n}.png"),
    ("", "", "data/{split}/{n}.jpg", "data/{split}/{n}_mask.png"),
    ("images", "labels", "images/{split}2017/{n}.jpg", "labels/{split}2017/{n}.png"),
    ("imgs", "gt", "imgs/{split}/city/{n}.png", "gt/{split}/city/{n}.png"),
    ("", "", "D2018_Task1_{split}_Input/{n}.jpg", "D2018_Task1_{split}_GroundTruth/{n}_seg.png"),
]
SPELLINGS = [
    {"train": "train", "val": "val", "test": "test"},
    {"train": "training", "val": "validation", "test": "testing"},
    {"train": "Train", "val": "Valid", "test": "Test"},
]


@pytest.mark.parametrize(
    ("form", "spelt"), zip(FORMS, itertools.cycle(SPELLINGS), strict=False), ids=[form[2] for form in FORMS]
)
def test_every_form_of_split_folders_is_kept(
    tmp_path: Path, form: tuple[str, str, str, str], spelt: Mapping[str, str]
) -> None:
    images, masks, image, mask = form
    root = tmp_path / "data"
    wanted: dict[str, set[str]] = {split: set() for split in SPLITS}
    paths = []
    for split, count in COUNTS.items():
        for number in range(count):
            path = image.format(split=spelt[split], n=f"{number:04d}")
            wanted[split].add(path)
            paths.append((path, mask.format(split=spelt[split], n=f"{number:04d}")))
    draw(root, paths)
    recipe = init(root / images, root / masks, tmp_path / "r.yaml")
    prefix = "" if recipe.dataset.root == str(root) else images + "/"
    found = planned(recipe)
    assert {split: {prefix + name for name in names} for split, names in found.items()} == wanted


def planned(recipe: Recipe) -> Names:
    """Image names of each split, as the ingestion is going to divide them."""
    from components.image_mask_example_gen.plan import plan_ingestion

    names: dict[str, set[str]] = {split: set() for split in SPLITS}
    for shard in plan_ingestion(recipe.dataset, Path(str(recipe.dataset.root))).shards:
        names[shard.split] |= {entry.image for entry in shard.entries}
    return names


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("train", "train", "{}"),
        ("Validation", "val", "{}"),
        ("valid", "val", "{}"),
        ("trainval", "trainval", "{}"),
        ("trainannot", "train", "{}annot"),
        ("test_images", "test", "{}_images"),
        ("train2017", "train", "{}2017"),
        ("imagesTr", "train", "images{}"),
        ("labelsTs", "test", "labels{}"),
        ("ISIC2018_Task1-2_Training_Input", "train", "ISIC2018_Task1-2_{}_Input"),
        ("x_train", "train", "x_{}"),
        ("maskstrain", "train", "masks{}"),
    ],
)
def test_a_name_may_hold_a_split(name: str, split: str, rest: str) -> None:
    found = split_name(name)
    assert found and (found[0], found[2]) == (split, rest)


@pytest.mark.parametrize(
    "name", ["trainee", "valley", "contest", "testimony", "strain", "images", "interval", "0001"]
)
def test_a_word_that_holds_the_letters_of_a_split_is_none(name: str) -> None:
    assert split_name(name) is None


def test_folders_side_by_side_have_one_pattern() -> None:
    assert folder_pattern(["trainannot", "testannot", "trainannot"]) == "{test,train}annot"
    assert folder_pattern(["train", "trainannot"]) == "*"
    assert folder_pattern(["a", "a"]) == "a" and folder_pattern(["a", "b"]) == "*"
