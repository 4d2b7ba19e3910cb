"""The user's own split: found by init, written into the recipe, and kept by ingestion byte for byte."""

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import pytest
from conftest import disc_pair
from first_recipe import init, refused
from ingested import ingest, names_of
from PIL import Image

from components import text_files
from components.dataset.features import SPLITS
from components.folders import open_file
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.split_lists import PairNames
from components.image_mask_example_gen.split_names import innermost_split, split_name
from components.image_mask_example_gen.splits import SplitConfig, declare
from pipeline.config import Recipe
from pipeline.init.name_patterns import folder_pattern
from pipeline.init.splits import FoundSplits, find_splits

Case = Callable[[str], Path]
Names = Mapping[str, set[str]]


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
    # Doubled braces are literal: a recipe's patterns read "{1,2}".
    ("", "", "run{{1,2}}/{split}/images/{n}.jpg", "run{{1,2}}/{split}/masks/{n}.png"),
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


def test_of_several_telling_parts_of_a_path_the_innermost_counts() -> None:
    assert innermost_split(("train", "images", "instances_val2017")) == "val"
    assert innermost_split(("imagesTr", "0001")) == "train"
    assert innermost_split(("images", "0001")) is None


@pytest.mark.parametrize(
    "name", ["trainee", "valley", "contest", "testimony", "strain", "images", "interval", "0001"]
)
def test_a_word_that_holds_the_letters_of_a_split_is_none(name: str) -> None:
    assert split_name(name) is None


def test_folders_side_by_side_have_one_pattern() -> None:
    assert folder_pattern(["trainannot", "testannot", "trainannot"]) == "{test,train}annot"
    assert folder_pattern(["train", "trainannot"]) == "*"
    assert folder_pattern(["a", "a"]) == "a" and folder_pattern(["a", "b"]) == "*"
    assert folder_pattern(["{a,b}"]) == "[{]a,b}"
    assert folder_pattern(["{a,b}_train", "{a,b}_val"]) == "[{]a,b}_{train,val}"


def flat(count: int = 12) -> list[tuple[str, str]]:
    """Images and masks that lie in two folders and do not say where they belong."""
    return [(f"images/{number:03d}.jpg", f"masks/{number:03d}.png") for number in range(count)]


def images(*numbers: int) -> set[str]:
    return {f"images/{number:03d}.jpg" for number in numbers}


TRAIN, VAL, TEST = range(6), range(6, 9), range(9, 12)


@pytest.mark.parametrize(
    ("folder", "form", "line"),
    [
        ("", "{}.txt", "{n}"),
        ("splits", "{}.txt", "{n}.jpg"),
        ("lists", "{}_list.txt", "/home/me/data/images/{n}.jpg /home/me/data/masks/{n}.png"),
        ("ImageSets/Segmentation", "{}.txt", "{n}"),
        ("meta", "ids_{}.lst", "images/{n}.jpg\tmasks/{n}.png"),
        ("splits/fold0", "{}.txt", "{n}"),
        ("images", "{}.txt", "{n}.png"),
        ("", "{}.csv", "{n}.jpg,{n}.png"),
        ("splits", "{}_set.tsv", "17\t/home/me/my data/{n}.jpg\t5"),
    ],
)
def test_lists_beside_the_data_divide_it(tmp_path: Path, folder: str, form: str, line: str) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    (root / folder).mkdir(parents=True, exist_ok=True)
    for split, numbers in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        lines = [line.format(n=f"{number:03d}") for number in numbers]
        (root / folder / form.format(split)).write_text("\n".join(lines) + "\n")
    (root / "readme.txt").write_text("train on this")
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert planned(recipe) == {"train": images(*TRAIN), "val": images(*VAL), "test": images(*TEST)}


def test_headings_of_a_table_are_no_missing_name_and_its_cells_may_have_blanks(tmp_path: Path) -> None:
    root = tmp_path / "data"
    names = [f"my photo {number}" for number in range(12)]
    draw(root, [(f"images/{name}.jpg", f"masks/{name}.png") for name in names])
    of_split = {"train": names[:6], "val": names[6:9], "test": names[9:]}
    for split, members in of_split.items():
        rows = ["image;mask", *(f"{name}.jpg;{name}.png" for name in members)]
        (root / f"{split}.csv").write_text("\n".join(rows))
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert ingested(recipe, tmp_path / "out") == {
        split: {f"images/{name}.jpg" for name in members} for split, members in of_split.items()
    }


def test_trainval_is_what_train_and_val_are_shares_of(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    write_lists(root, trainval=range(9), test=TEST)
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert (
        found["test"] == images(*TEST) and found["train"] | found["val"] == images(*range(9)) and found["val"]
    )


def test_trainval_beside_train_and_val_says_nothing_new(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    write_lists(root, train=TRAIN, val=VAL, trainval=range(9), test=TEST)
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found == {"train": images(*TRAIN), "val": images(*VAL), "test": images(*TEST)}


def write_lists(root: Path, **lists: Iterable[int]) -> None:
    for name, numbers in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{number:03d}\n" for number in numbers))


def test_the_lists_that_speak_of_these_pairs_are_taken(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    for folder, train, val in (("Main", range(40), range(40, 80)), ("Segmentation", range(9), TEST)):
        (root / "ImageSets" / folder).mkdir(parents=True)
        write_lists(root / "ImageSets" / folder, train=train, val=val)
    (root / "ImageSets/Main/cat_train.txt").write_text("".join(f"{n:03d} -1\n" for n in range(12)))
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found["test"] == images(*TEST) and found["train"] | found["val"] == images(*range(9))


def test_pairs_in_no_list_are_set_aside_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    draw(root, flat(14))
    write_lists(root, train=TRAIN, val=VAL, test=TEST)
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert set().union(*found.values()) == images(*range(12))
    assert (
        "2 pairs are in no split that lists declare, and set aside: images/012.jpg" in capsys.readouterr().out
    )


def test_lists_that_overlap_stop_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    write_lists(root, train=range(8), val=VAL, test=TEST)
    line = refused(capsys, root / "images", root / "masks", root / "r.yaml")
    assert "images/006.jpg is in train (list train.txt) and in val (list val.txt)" in line


@pytest.mark.parametrize(
    ("heading", "row", "words"),
    [
        ("file,split", "{n}.jpg,{w}", ("train", "val", "test")),
        ("id;name;Set", "{i};images/{n}.jpg;{w}", ("Training", "Validation", "Testing")),
        ("split\tmask", "{w}\t{n}.png", ("TRAIN", "VALID", "TEST")),
        # The number of the row is the name of another file.
        (",file,split", "{row},{n}.jpg,{w}", ("train", "val", "test")),
        (",id,split", "{row},{n},{w}", ("train", "val", "test")),
    ],
)
def test_a_table_with_a_column_of_splits_divides_it(
    tmp_path: Path, heading: str, row: str, words: tuple[str, ...]
) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    rows = [
        row.format(i=100 + number, row=f"{11 - number:03d}", n=f"{number:03d}", w=word)
        for numbers, word in zip((TRAIN, VAL, TEST), words, strict=True)
        for number in numbers
    ]
    (root / "meta.csv").write_text("\n".join([heading, *rows]) + "\n")
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert planned(recipe) == {"train": images(*TRAIN), "val": images(*VAL), "test": images(*TEST)}


@pytest.mark.parametrize(
    "others", [[f"run{number:02d}/metrics.csv" for number in range(24)], ["old/split.csv"]]
)
def test_a_table_right_around_the_data_comes_before_those_of_folders_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[str]
) -> None:
    root = tmp_path / "data"
    draw(root, [(f"raw/images/{n:03d}.jpg", f"derived/masks/{n:03d}.png") for n in range(12)])
    rows = [f"{n:03d}.jpg,{'test' if n in TEST else 'train'}" for n in range(12)]
    own = root / "raw/split.csv"
    own.write_text("\n".join(["file,split", *rows]))
    swapped = [row.replace("test", "-").replace("train", "test").replace("-", "train") for row in rows]
    for path in others:
        (root / "analysis" / path).parent.mkdir(parents=True, exist_ok=True)
        content = ["file,split", *swapped] if "split" in path else ["loss,epoch", "0.5,1"]
        (root / "analysis" / path).write_text("\n".join(content))
    folders = (root / "raw/images", root / "derived/masks", tmp_path / "r.yaml")
    assert planned(init(*folders))["test"] == {f"raw/images/{n:03d}.jpg" for n in TEST}
    capsys.readouterr()
    if len(others) > 1:
        (root / "analysis/run23/deep").mkdir()
        own.rename(root / "analysis/run23/deep/split.csv")
        assert not init(*folders).dataset.splits.declared
        assert (
            "1 tables were not read for splits, as 24 others lie nearer to the data "
            "(analysis/run23/deep/split.csv)"
        ) in capsys.readouterr().out


def test_a_table_in_which_two_columns_may_be_the_names_is_said_and_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    draw(root, [(f"images/{number}.jpg", f"masks/{number}.png") for number in range(12)])
    rows = [f"{number * 5 % 12},{number},{'test' if number in TEST else 'train'}" for number in range(12)]
    (root / "meta.csv").write_text("\n".join(["patient,image,split", *rows]))
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert not recipe.dataset.splits.declared
    said = capsys.readouterr().out
    assert said.count("not used for the splits: meta.csv: column patient and column image both") == 1


@pytest.mark.parametrize(
    ("heading", "yes", "no"),
    [("is_valid", "True", "False"), ("is_test", "1", "0"), ("is_train", "no", "yes")],
)
def test_a_column_may_say_yes_or_no(tmp_path: Path, heading: str, yes: str, no: str) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    rows = [f"{number:03d}.jpg,{yes if number in TEST else no}" for number in range(12)]
    (root / "labels.csv").write_text("\n".join([f"fname,{heading}", *rows]))
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found["test"] == images(*TEST) and found["train"] | found["val"] == images(*range(9))


def test_splits_in_json_are_said_as_none_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    (root / "splits.json").write_text('{"train": ["000", "001"], "val": ["002"]}')
    (root / "other.json").write_text('{"training": {"epochs": 3}, "names": ["a"]}')
    init(root / "images", root / "masks", tmp_path / "r.yaml")
    said = capsys.readouterr().out
    assert "splits.json seems to divide the data" in said and "other.json seems" not in said


@pytest.mark.parametrize("form", ["lists", "table"])
def test_lists_outside_of_the_data_are_said_as_no_recipe_can_name_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    if form == "lists":
        (tmp_path / "splits").mkdir()
        write_lists(tmp_path / "splits", train=TRAIN, val=VAL, test=TEST)
    else:
        rows = [f"data/images/{n:03d}.jpg,{'test' if n in TEST else 'train'}" for n in range(12)]
        (tmp_path / "metadata.csv").write_text("\n".join(["path,split", *rows]))
    init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert f"seem to divide these pairs, and are not used: move them into {root}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "home"),
    [
        ("", False),
        ("other", False),
        ("other/splits", True),
        ("other/ImageSets/Segmentation", False),
        ("Downloads/old", False),
    ],
)
def test_lists_of_another_set_are_not_taken_for_those_of_the_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    home: bool,
) -> None:
    if home:
        monkeypatch.setenv("HOME", str(tmp_path))
    draw(tmp_path, [(f"photos/{n:03d}.jpg", f"Downloads/labels/{n:03d}.png") for n in range(12)])
    draw(
        tmp_path, [(f"{name}/images/000.jpg", f"{name}/masks/000.png") for name in ("other", "Downloads/old")]
    )
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write_lists(tmp_path / place, train=TRAIN, val=VAL, test=TEST)
    output = tmp_path / "r.yaml"
    recipe = init(tmp_path / "photos", tmp_path / "Downloads/labels", output)
    # What lies right in the folder above both is theirs.
    assert ("splits:" in output.read_text() and "list:" in output.read_text()) == (place == "")
    assert sum(map(len, planned(recipe).values())) == 12
    # What else lies in a home is not even looked at.
    assert ("seem to divide these pairs, and are not used" in capsys.readouterr().out) == bool(
        place and not home
    )


@pytest.mark.parametrize(
    ("images", "masks", "place", "others"),
    [
        (
            "VOC2012/JPEGImages",
            "SegmentationClassAug",
            "VOC2012/ImageSets/Segmentation",
            ["SegmentationClass"],
        ),
        ("data/images", "labels/masks", "data/splits", []),
        ("images", "masks", "z/lists", [f"folder{number:02d}" for number in range(24)]),
    ],
)
def test_lists_beside_any_folder_around_images_and_masks_divide_them(
    tmp_path: Path, images: str, masks: str, place: str, others: list[str]
) -> None:
    root = tmp_path / "data"
    draw(root, [(f"{images}/{n:03d}.jpg", f"{masks}/{n:03d}.png") for n in range(12)])
    draw(root, [("", f"{Path(images).parent}/{name}/000.png") for name in others])
    (root / place).mkdir(parents=True)
    write_lists(root / place, train=TRAIN, val=VAL, test=TEST)
    found = planned(init(root / images, root / masks, tmp_path / "r.yaml"))
    assert {split: len(names) for split, names in found.items()} == {"train": 6, "val": 3, "test": 3}


def test_lists_right_around_the_data_come_before_those_of_folders_beside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root, [(f"raw/images/{n:03d}.jpg", f"derived/masks/{n:03d}.png") for n in range(12)])
    write_lists(root / "raw", train=TRAIN, val=VAL, test=TEST)
    for number in range(24):
        (root / f"analysis/run{number:02d}").mkdir(parents=True)
        write_lists(root / f"analysis/run{number:02d}", train=TEST, val=VAL, test=TRAIN)
    found = planned(init(root / "raw/images", root / "derived/masks", tmp_path / "r.yaml"))
    assert found["test"] == {f"raw/images/{n:03d}.jpg" for n in TEST}


def test_lists_beside_another_form_of_the_masks_are_said_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    draw(root, [*flat(), *(("", f"annotations/trimaps/{n:03d}.png") for n in range(12))])
    write_lists(root / "annotations", train=TRAIN, val=VAL, test=TEST)
    init(root / "images", root / "masks", tmp_path / "r.yaml")
    line = f"annotations/val.txt seem to divide these pairs, and are not used: move them into {root}"
    assert line in capsys.readouterr().out
    (root / "xml").mkdir()
    for number in range(3):
        (root / f"xml/{number}.xml").touch()
    monkeypatch.setattr("pipeline.init.split_files._MOST_FILES_OF_ONE", 2)
    init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert f"{root}/xml: too many files to look for lists of splits" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["lists", "table"])
def test_a_cell_may_be_as_long_as_a_mask_in_runs(tmp_path: Path, form: str) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    write_tables(root, form, long_cell="1 2 " * 40_000)
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found == {"train": images(*TRAIN), "val": images(*VAL), "test": images(*TEST)}


@pytest.mark.parametrize(
    ("form", "file", "obstacle", "why"),
    [
        ("lists", "test.csv", "dead link", "cannot be read under {root}: No such file or directory"),
        ("lists", "test.csv", "refused", "cannot be read under {root}: Permission denied"),
        ("table", "meta.csv", "refused", "cannot be read under {root}: Permission denied"),
        ("table", "meta.csv", "size", "has more than 64 MiB"),
    ],
)
def test_what_divides_and_cannot_be_read_is_said_and_nothing_else_divides_in_its_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    file: str,
    obstacle: str,
    why: str,
) -> None:
    root = tmp_path / "data"
    draw(root, flat())
    write_tables(root, form)
    if obstacle == "dead link":
        (root / file).unlink()
        (root / file).symlink_to("elsewhere.csv")
    elif obstacle == "size":
        os.truncate(root / file, (64 << 20) + 1)
    else:
        # Whoever is root may read any file.
        def open_others(path: Path) -> IO[bytes]:
            if path.name == file:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return open_file(path)

        monkeypatch.setattr(text_files, "open_file", open_others)
    recipe = init(root / "images", root / "masks", tmp_path / "r.yaml")
    assert not recipe.dataset.splits.declared
    said = capsys.readouterr().out
    assert said.count(f"not used for the splits: {file} {why.format(root=root)}") == 1
    assert ("not used for the splits: train.csv, val.csv, as test.csv belongs to them" in said) == (
        form == "lists"
    )


@pytest.mark.parametrize(
    ("obstacle", "why"),
    [
        ("size", "has more than 64 MiB"),
        ("dead link", "cannot be read under {root}: No such file or directory"),
    ],
)
@pytest.mark.parametrize("beside", ["train", "trainval"])
def test_lists_divide_though_a_table_beside_one_of_them_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], obstacle: str, why: str, beside: str
) -> None:
    """A table of masks, as Kaggle's train.csv, is no list that they lack."""
    root = tmp_path / "data"
    draw(root, flat())
    write_lists(root, train=TRAIN, val=VAL, test=TEST)
    table = root / f"{beside}.csv"
    if obstacle == "size":
        table.touch()
        os.truncate(table, (64 << 20) + 1)
    else:
        table.symlink_to("elsewhere.csv")
    declared = init(root / "images", root / "masks", tmp_path / "r.yaml").dataset.splits.declared
    assert {name: split.list for name, split in declared.items()} == {
        name: (f"{name}.txt",) for name in ("train", "val", "test")
    }
    said = capsys.readouterr().out
    assert said.count(f"not used for the splits: {beside}.csv {why.format(root=root)}") == 1
    assert "belongs to them" not in said


def write_tables(root: Path, form: str, long_cell: str = "1 2") -> None:
    """Writes a table for each split, or one with a column of splits; the last cell may be a long one."""
    rows = {
        split: [f"{n:03d}.jpg,{split},1 2" for n in numbers]
        for split, numbers in (("train", TRAIN), ("val", VAL), ("test", TEST))
    }
    rows["test"][-1] = rows["test"][-1].removesuffix("1 2") + long_cell
    if form == "table":
        rows = {"meta": [row for each in rows.values() for row in each]}
    for name, each in rows.items():
        (root / f"{name}.csv").write_text("\n".join(["image,split,runs", *each]))


UMLAUTS = [f"{word}_{n}" for n, word in enumerate(["Straße", "Gebäude", "Fluß", "Feld"] * 3)]


def found_in(root: Path, files: Mapping[str, bytes]) -> FoundSplits:
    """Looks for splits of twelve pairs with umlauts in their names, the last three of them the test's."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for path, content in files.items():
        (root / path).write_bytes(content)
    entries = [Entry(name, f"images/{name}.png", f"masks/{name}.png") for name in UMLAUTS]
    found = find_splits(root, [root / "images", root / "masks"], entries, [])
    if found.keys:
        config = SplitConfig.model_validate(found.keys)
        splits = {
            entry.key: entry.official_split
            for entry in declare(Scan(entries, [], []), config, root).scan.entries
        }
        assert splits == {name: split_of(n) for n, name in enumerate(UMLAUTS)}
    return found


def split_of(number: int) -> str:
    return "train" if number in TRAIN else "val" if number in VAL else "test"


def encoded_lists(**encodings: str) -> dict[str, bytes]:
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, name in enumerate(UMLAUTS):
        lists[split_of(number)].append(f"{name}.png\r\n")
    return {
        f"{split}.txt": "".join(names).encode(encodings.get(split, "utf-8")) for split, names in lists.items()
    }


def encoded_table(encoding: str) -> bytes:
    rows = [f"{name};{split_of(number)};Übung" for number, name in enumerate(UMLAUTS)]
    return "\r\n".join(["Datei;Satz;Größe", *rows]).encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
@pytest.mark.parametrize("form", ["lists", "one list", "table"])
def test_lists_and_tables_may_be_encoded_as_windows_does(tmp_path: Path, form: str, encoding: str) -> None:
    one = {"test": encoding}
    files = {
        "lists": encoded_lists(**dict.fromkeys(SPLITS, encoding)),
        "one list": encoded_lists(**one),
        "table": {"meta.csv": encoded_table(encoding)},
    }
    found = found_in(tmp_path / "data", files[form])
    assert found.keys.keys() == set(SPLITS) and not found.notes


@pytest.mark.parametrize(
    ("files", "notes"),
    [
        (
            encoded_lists(test="utf-16-le"),
            [
                "test.txt names no pair, and has zero bytes, as UTF-16 without its mark: save it as UTF-8",
                "train.txt, val.txt, as test.txt belongs to them",
            ],
        ),
        (
            encoded_lists(**dict.fromkeys(SPLITS, "utf-16-le")),
            [
                "test.txt, train.txt, val.txt name no pair, and has zero bytes, as UTF-16 without its mark: "
                "save it as UTF-8"
            ],
        ),
        (
            encoded_lists() | {"test.txt": b"\xff\xfea"},
            [
                "test.txt begins as UTF-16 and is none: truncated data",
                "train.txt, val.txt, as test.txt belongs to them",
            ],
        ),
        (
            encoded_lists() | {"test.txt": b"of another set"},
            ["test.txt names no pair", "train.txt, val.txt, as test.txt belongs to them"],
        ),
        (
            {"meta.csv": encoded_table("cp850")},
            [
                "meta.csv tells splits in the column Satz, but names 3 of 12 pairs, and is no UTF-8: "
                "save it as that"
            ],
        ),
        (
            {"meta.csv": encoded_table("cp1252").replace(b"Satz", b"f\xfcr")},
            [r"meta.csv tells splits in the column f\xfcr, and is no UTF-8: save it as that"],
        ),
    ],
)
def test_lists_and_tables_that_name_nothing_are_said_and_do_not_divide(
    tmp_path: Path, files: Mapping[str, bytes], notes: list[str]
) -> None:
    found = found_in(tmp_path / "data", files)
    assert not found.keys
    assert found.notes == tuple(f"not used for the splits: {note}" for note in notes)


def test_a_list_of_pictures_that_are_not_there_leaves_the_others(tmp_path: Path) -> None:
    lists = encoded_lists()
    lists["val.txt"] += lists["test.txt"]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for path, content in (lists | {"test.txt": b"withheld_1\nwithheld_2\n"}).items():
        (tmp_path / path).write_bytes(content)
    entries = [Entry(name, f"images/{name}.png", f"masks/{name}.png") for name in UMLAUTS]
    found = find_splits(tmp_path, [tmp_path / "images", tmp_path / "masks"], entries, [])
    assert found.keys == {"train": {"list": "train.txt"}, "test": {"list": "val.txt"}}


def test_names_of_bytes_that_are_no_utf8_are_found_by_these_bytes() -> None:
    entries = [Entry(key, f"images/{key}.png", f"masks/{key}.png") for key in ("a\udce4", "aä", "b\udcfc")]
    names = PairNames(entries)
    assert names.find("a\udce4") == ["images/a\udce4.png"] and names.find("aä") == ["images/aä.png"]


def test_a_word_may_be_written_together_with_a_split_in_names(tmp_path: Path) -> None:
    root, counts = tmp_path / "data", {"train": 22, "test": 8}
    names = [f"{split}img{number:03d}" for split, count in counts.items() for number in range(count)]
    draw(root, [(f"images/{name}.jpg", f"masks/{name}.png") for name in names])
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found["test"] == {f"images/testimg{number:03d}.jpg" for number in range(8)}
    assert len(found["train"] | found["val"]) == 22


def test_a_letter_may_follow_a_split_in_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    names = [f"{kind}_{number}" for kind in ("train", "testA", "testB") for number in range(6)]
    draw(root, [(f"{name}.bmp", f"{name}_anno.bmp") for name in names])
    found = planned(init(root, root, tmp_path / "r.yaml"))
    assert found["test"] == {f"{name}.bmp" for name in names if name.startswith("test")}


def test_the_names_of_the_files_may_divide_them(tmp_path: Path) -> None:
    root, counts = tmp_path / "data", {"train": 7, "val": 3, "test": 4}
    names = [f"{split}_{number:02d}" for split, count in counts.items() for number in range(count)]
    draw(root, [(f"images/{name}.jpg", f"masks/{name}.png") for name in names])
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found == {
        split: {f"images/{name}.jpg" for name in names if name.startswith(split)} for split in counts
    }


@pytest.mark.parametrize("form", [form for form in FORMS if form[2] != form[3]], ids=lambda form: form[2])
def test_a_test_set_without_masks_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, str, str, str]
) -> None:
    folder_of_images, folder_of_masks, image, mask = form
    root = tmp_path / "data"
    paths = [
        (
            image.format(split=split, n=f"{n:04d}"),
            mask.format(split=split, n=f"{n:04d}") if split != "test" else "",
        )
        for split, count in COUNTS.items()
        for n in range(count)
    ]
    draw(root, paths)
    recipe = init(root / folder_of_images, root / folder_of_masks, tmp_path / "r.yaml")
    prefix = "" if recipe.dataset.root == str(root) else folder_of_images + "/"
    found = planned(recipe)
    assert {prefix + name for name in found["test"]} == {
        image.format(split="val", n=f"{n:04d}") for n in range(COUNTS["val"])
    }
    assert len(found["train"] | found["val"]) == COUNTS["train"]
    said = capsys.readouterr().out
    folder = image.format(split="test", n="").rpartition("/")[0].removeprefix(f"{folder_of_images}/")
    [line] = re.findall(
        "^Look at this: 4 (?:files set aside, unlisted|pictures .* are not used): .*$", said, re.M
    )
    assert f"{folder}/" in line
    assert recipe.dataset.max_rejected_fraction <= 0.05


def test_one_split_alone_is_divided_as_any_folder_and_its_neighbours_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    draw(root, [(f"{s}/images/{n}.jpg", f"{s}/masks/{n}.png") for s in ("train", "test") for n in range(8)])
    recipe = init(root / "train/images", root / "train/masks", tmp_path / "r.yaml")
    assert not recipe.dataset.splits.declared and sum(map(len, planned(recipe).values())) == 8
    assert "beside train lie test" in capsys.readouterr().out


def test_lists_may_divide_what_folders_call_train(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(
        root,
        [(f"images/{s}/{s}{n}.jpg", f"masks/{s}/{s}{n}.png") for s in ("train", "test") for n in range(8)],
    )
    for split, numbers in (("train", range(5)), ("val", range(5, 8))):
        (root / f"{split}.txt").write_text("".join(f"train{n}\n" for n in numbers))
    assert planned(init(root / "images", root / "masks", tmp_path / "r.yaml")) == {
        "train": {f"images/train/train{n}.jpg" for n in range(5)},
        "val": {f"images/train/train{n}.jpg" for n in range(5, 8)},
        "test": {f"images/test/test{n}.jpg" for n in range(8)},
    }


def test_lists_that_contradict_the_folders_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    draw(
        root,
        [(f"images/{s}/{s}{n}.jpg", f"masks/{s}/{s}{n}.png") for s in ("train", "test") for n in range(6)],
    )
    (root / "train.txt").write_text("".join(f"test{n}\n" for n in range(6)))
    (root / "test.txt").write_text("".join(f"train{n}\n" for n in range(6)))
    found = planned(init(root / "images", root / "masks", tmp_path / "r.yaml"))
    assert found["test"] == {f"images/test/test{n}.jpg" for n in range(6)}
    assert "lists divide these pairs otherwise than folders" in capsys.readouterr().out


def test_images_and_labels_of_nnunet_are_not_swapped(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(
        root,
        [
            (f"images{s}/{n}_0000.png", f"labels{s}/{n}.png")
            for s, k in (("Tr", 8), ("Ts", 4))
            for n in range(k)
        ],
    )
    found = planned(init(root, root, tmp_path / "r.yaml"))
    assert found["test"] == {f"imagesTs/{n}_0000.png" for n in range(4)}
    assert found["train"] | found["val"] == {f"imagesTr/{n}_0000.png" for n in range(8)}


def test_folders_of_classes_are_no_splits(tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(
        root,
        [(f"images/{c}/{n}.jpg", f"masks/{c}/{n}.png") for c in ("train", "car", "bus") for n in range(5)],
    )
    assert not init(root / "images", root / "masks", tmp_path / "r.yaml").dataset.splits.declared


def test_masks_of_another_split_stop_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    draw(
        root,
        [
            (f"images/{s}/{s}_{n}.jpg", f"masks/{t}/part/{s}_{n}.png")
            for s, t in (("train", "val"), ("val", "train"))
            for n in range(5)
        ],
    )
    assert "names alone would mix the splits" in refused(
        capsys, root / "images", root / "masks", root / "r.yaml"
    )


def test_nothing_to_train_on_stops_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    draw(root, [(f"images/{s}/{n}.jpg", f"masks/{s}/{n}.png") for s in ("val", "test") for n in range(5)])
    assert "none is for training" in refused(capsys, root / "images", root / "masks", root / "r.yaml")


def test_camvid_as_it_is_published_keeps_its_splits(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    names = sorted(path.name for path in (shared_data / "camvid/val").iterdir())[::3]
    wanted = {"train": names[:20], "val": names[20:27], "test": names[27:]}
    for split, members in wanted.items():
        for kind in ("", "annot"):
            (root / f"{split}{kind}").mkdir(parents=True)
            for name in members:
                (root / f"{split}{kind}" / name).symlink_to(shared_data / f"camvid/val{kind}" / name)
        lines = [f"/SegNet/CamVid/{split}/{n} /SegNet/CamVid/{split}annot/{n}\n" for n in members]
        (root / f"{split}.txt").write_text("".join(lines))
    recipe = init(root, root, tmp_path / "r.yaml")
    assert ingested(recipe, tmp_path / "out") == {
        split: {f"{split}/{name}" for name in members} for split, members in wanted.items()
    }
