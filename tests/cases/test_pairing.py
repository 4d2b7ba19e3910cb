"""Names as people have them: which files belong together, which are merged, and what is said of the rest."""

import io
import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import first_recipe
import numpy as np
import pytest
from drawn_folders import photo
from first_recipe import class_ids, refused
from PIL import Image

from components.dataset import features
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Scan
from components.image_mask_example_gen.report import Reason
from components.image_mask_example_gen.suffixes import MASKS, PICTURES
from pipeline.init.files import find_files
from pipeline.init.listing import Pairing
from pipeline.init.pairing import pair

Case = Callable[[str], Path]
NFD_NAME = unicodedata.normalize("NFD", "größe")


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def folder(root: Path, images: str, masks: str | Mapping[str, str], **more: Any) -> DatasetConfig:
    keys = {"layout": "folder", "root": str(root), "images": images, "masks": masks}
    return DatasetConfig.model_validate({"classes": ["background", "thing"], **keys, **more})


def scan(root: Path, images: str, masks: str | Mapping[str, str], **more: Any) -> Scan:
    return folder(root, images, masks, **more).source.scan(root)


def named(files: Iterable[str], found: Scan) -> set[tuple[str, str]]:
    """The pairs by stems, and a check that nothing is left over."""
    assert not found.rejected
    return {(Path(entry.image).stem, Path(entry.mask).stem) for entry in found.entries}


def draw(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


# ---- ingestion ----


def test_what_an_operating_system_leaves_is_nobodys_data(tmp_path: Path) -> None:
    litter = ("Thumbs.db", "ehthumbs.db", "desktop.ini", "DESKTOP.INI", ".DS_Store", "__MACOSX/._a.jpg")
    touch(tmp_path, "i/a.jpg", "m/a.png", *(f"{side}/{name}" for side in "im" for name in litter))
    touch(tmp_path, "i/__MACOSX/b.jpg", "m/@eaDir/c.png")
    for images, masks in (("i/*", "m/*"), ("i/*.*", "m/*.*"), ("i/**/*", "m/**/*")):
        found = scan(tmp_path, images, masks)
        assert found.files == ["i/a.jpg", "m/a.png"] and not found.rejected


def test_an_open_suffix_means_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "i/b.PNG", "i/c", "i/d.001", "i/a.json", "i/a.txt", "i/labels.xml", "i/x.h5")
    touch(tmp_path, "m/a.png", "m/b.mat", "m/c.png", "m/d.png", "m/classes.csv")
    found = scan(tmp_path, "i/*", "m/*")
    assert [entry.key for entry in found.entries] == ["a", "b", "c", "d"] and not found.rejected


def test_names_meet_whatever_form_of_unicode_they_are_in(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", NFD_NAME)
    for images, masks in ((composed, NFD_NAME), (NFD_NAME, composed)):
        root = tmp_path / images
        touch(
            root, f"{images}/{images}.jpg", f"{images}/b.jpg", f"{masks}m/{masks}_ü.png", f"{masks}m/b_ü.png"
        )
        # The recipe was written on another machine than the files.
        found = scan(root, f"{masks}/*.jpg", f"{composed}m/*_ü.png")
        assert {entry.image for entry in found.entries} == {f"{images}/{images}.jpg", f"{images}/b.jpg"}
        assert {entry.key for entry in found.entries} == {composed, "b"} and not found.rejected


def test_upper_and_lower_case_do_not_part_names(tmp_path: Path) -> None:
    touch(tmp_path, "i/IMG_1.JPG", "i/img_2.jpg", "i/a_3.Jpg", "m/img_1_mask.png", "m/IMG_2_Mask.PNG")
    touch(tmp_path, "m/a_3_MASK.png")
    found = scan(tmp_path, "i/*.jpg", "m/*_mask.png")
    assert {(entry.key, entry.mask) for entry in found.entries} == {
        ("IMG_1", "m/img_1_mask.png"),
        ("img_2", "m/IMG_2_Mask.PNG"),
        ("a_3", "m/a_3_MASK.png"),
    }
    assert not found.rejected


def test_names_that_only_their_case_tells_apart_are_not_guessed_at(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "i/a.jpg",
        "i/A.jpg",
        "i/b.jpg",
        "m/a.png",
        "m/A.png",
        "m/B.png",
        "i/c.jpg",
        "i/C.jpg",
        "m/c.png",
    )
    unclear = {"i/Dd.jpg", "m/dd.png", "m/DD.png", "i/Ee.jpg", "i/EE.jpg", "m/ee.png"}
    touch(tmp_path, *unclear)
    found = scan(tmp_path, "i/*.jpg", "m/*.png")
    assert [(entry.image, entry.mask) for entry in found.entries] == [
        ("i/A.jpg", "m/A.png"),
        ("i/a.jpg", "m/a.png"),
        ("i/b.jpg", "m/B.png"),
        ("i/c.jpg", "m/c.png"),
    ]
    assert {item.file for item in found.rejected} == {"i/C.jpg", *unclear}


@pytest.mark.parametrize("ending", ["", "_mask"])
def test_masks_may_keep_the_whole_name_of_their_image(tmp_path: Path, ending: str) -> None:
    images = ("a.jpg", "b.png", "c.JPG", "d.png", "d.jpg")
    touch(tmp_path, *(f"i/{name}" for name in images), *(f"m/{name}{ending}.png" for name in images))
    found = scan(tmp_path, "i/*.*", f"m/*{ending}.png")
    assert {(entry.image, entry.mask) for entry in found.entries} == {
        (f"i/{name}", f"m/{name}{ending}.png") for name in images
    }
    assert not found.rejected


def test_pictures_that_are_not_read_are_named_rather_than_missed(tmp_path: Path) -> None:
    formats = (".heic", ".HEIF", ".avif", ".cr2", ".dng")
    touch(tmp_path, "i/a.jpg", "i/x.heic", *(f"i/{n}{suffix}" for n, suffix in enumerate(formats)))
    touch(tmp_path, "m/a.png", "i/a.heic", *(f"m/{number}.png" for number in range(len(formats))))
    for pattern in ("i/*.jpg", "i/*", "i/*.*", "i/*.{jpg,png}"):
        found = scan(tmp_path, pattern, "m/*.png")
        assert [entry.image for entry in found.entries] == ["i/a.jpg"]
        assert {item.file for item in found.rejected} == {f"i/{n}{s}" for n, s in enumerate(formats)}
        assert {item.reason for item in found.rejected} == {Reason.NOT_READ}
        assert (
            ".heic is not read here: save it as PNG or JPEG (m/0.png is left out" in found.rejected[0].found
        )


def test_a_picture_that_the_pattern_leaves_out_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "i/b.png", "m/a_l.png", "m/b_l.png", "i/c.jpg", "m/c_l.tif")
    by_file = {item.file: item for item in scan(tmp_path, "i/*.jpg", "m/*_l.png").rejected}
    assert by_file["m/b_l.png"].reason is Reason.MASK_WITHOUT_IMAGE
    assert "dataset.images does not match i/b.png" in by_file["m/b_l.png"].found
    assert "dataset.masks does not match m/c_l.tif" in by_file["i/c.jpg"].found


def test_two_masks_of_one_name_in_two_folders_are_an_error_that_says_what_may_be_meant(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "i/a.jpg", "m/disc/a.png", "m/square/a.png")
    with pytest.raises(StageError, match=r"m/disc/a\.png and m/square/a\.png.*pattern for each"):
        scan(tmp_path, "i/*.jpg", "m/*/*.png")


# ---- several masks for one image ----

LEFT, RIGHT = np.zeros((4, 6)), np.zeros((4, 6))
LEFT[:, :2], RIGHT[:, 4:] = 255, 255


@pytest.mark.parametrize(
    ("images", "masks", "image", "parts"),
    [
        ("i/*.png", "m/*_mask*.png", "i/{}.png", ("m/{}_mask.png", "m/{}_mask_1.png")),
        ("i/*.png", "m/*_*.png", "i/{}.png", ("m/{}_0.png", "m/{}_1.png")),
        ("i/*.png", "m/mask_*_*.png", "i/{}.png", ("m/mask_{}_0.png", "m/mask_{}_1.png")),
        ("i/img_*.png", "m/mask_*_*.png", "i/img_{}.png", ("m/mask_{}_0.png", "m/mask_{}_1.png")),
        ("*/images/*.png", "*/masks/*.png", "{}/images/{}.png", ("{}/masks/f00.png", "{}/masks/0ba.png")),
        ("i/*.png", "m/*/*.png", "i/{}.png", ("m/{}/f00.png", "m/{}/0ba.png")),
        ("*/i/*.png", "*/m/*/*.png", "s/i/{}.png", ("s/m/{}/f00.png", "s/m/{}/0ba.png")),
    ],
)
def test_a_mask_for_each_object_is_united(
    tmp_path: Path, images: str, masks: str, image: str, parts: tuple[str, str]
) -> None:
    for name in ("benign (1)", "benign (10)", "x_1"):
        draw(tmp_path / image.replace("{}", name), LEFT)
        for part, pixels in zip(parts, (LEFT, RIGHT), strict=True):
            draw(tmp_path / part.replace("{}", name), pixels)
    # One object has one file.
    draw(tmp_path / image.replace("{}", "single"), LEFT)
    draw(tmp_path / parts[1].replace("{}", "single"), RIGHT)
    dataset = folder(tmp_path, images, masks, label_values={"background": 0, "thing": 255})
    found = class_ids(dataset)
    assert len(found) == 4
    for key, ids in found.items():
        np.testing.assert_array_equal(ids, (RIGHT if "single" in key else LEFT + RIGHT) // 255)
    assert len(dataset.source.scan(tmp_path).files) == 11


def test_of_masks_that_overlap_the_later_by_name_lies_on_top(tmp_path: Path) -> None:
    draw(tmp_path / "i/a.png", LEFT)
    draw(tmp_path / "m/a_1.png", np.full((4, 6), 1))
    draw(tmp_path / "m/a_2.png", np.where(LEFT, 2, 0))
    dataset = folder(tmp_path, "i/*.png", "m/a*_*.png", classes=["background", "cell", "nucleus"])
    np.testing.assert_array_equal(class_ids(dataset)["a"], np.where(LEFT, 2, 1))


def test_masks_in_colours_are_united_where_they_are_not_black(tmp_path: Path) -> None:
    draw(tmp_path / "i/a.png", LEFT)
    for number, (pixels, color) in enumerate([(LEFT, (255, 0, 0)), (RIGHT, (0, 0, 9))]):
        draw(tmp_path / f"m/a_{number}.png", np.where(pixels[..., None] > 0, color, 0))
    values = {"background": [0, 0, 0], "red": [255, 0, 0], "blue": [0, 0, 9]}
    dataset = folder(tmp_path, "i/*.png", "m/*_*.png", label_values=values, classes=list(values))
    np.testing.assert_array_equal(class_ids(dataset)["a"], np.where(LEFT, 1, np.where(RIGHT, 2, 0)))


def test_a_mask_for_each_class_makes_the_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abc":
        draw(tmp_path / f"i/{name}.png", LEFT)
        draw(tmp_path / f"m/disc/{name}.png", LEFT)
    draw(tmp_path / "m/square/a.png", RIGHT)
    draw(tmp_path / "m/square/b.png", np.full((4, 6), 1))
    draw(tmp_path / "i/d.png", LEFT)
    masks = {"disc": "m/disc/*.png", "square": "m/square/*.png"}
    dataset = folder(tmp_path, "i/*.png", masks, classes=["rest", "square", "disc"])
    found = class_ids(dataset)
    np.testing.assert_array_equal(found["a"], np.where(LEFT, 2, np.where(RIGHT, 1, 0)))
    # The later in the recipe lies on top.
    np.testing.assert_array_equal(found["b"], np.full((4, 6), 1))
    np.testing.assert_array_equal(found["c"], np.where(LEFT, 2, 0))
    result = dataset.source.scan(tmp_path)
    assert [item.file for item in result.rejected] == ["i/d.png"]
    assert result.notes == ("images have a mask file of each class, but square in 2 of 3",)


def test_more_masks_than_a_byte_counts_keep_their_classes_where_they_are_merged(tmp_path: Path) -> None:
    draw(tmp_path / "i/a.png", LEFT)
    names = [f"kind{number}" for number in range(300)]
    for name, pixels in (("kind43", LEFT), ("kind299", RIGHT)):
        draw(tmp_path / f"m/{name}/a.png", pixels)
    masks = {name: f"m/{name}/*.png" for name in names}
    merged = dict.fromkeys(names[1:-1], "kind0")
    found = class_ids(folder(tmp_path, "i/*.png", masks, classes=names, merge_classes=merged, ignore_label=0))
    np.testing.assert_array_equal(found["a"], np.where(LEFT, 0, np.where(RIGHT, 1, features.IGNORE_LABEL)))


def test_a_class_without_a_name_is_ignored_and_so_is_what_no_mask_covers_if_asked_for(tmp_path: Path) -> None:
    draw(tmp_path / "i/a.png", LEFT)
    draw(tmp_path / "m/a_left.png", LEFT)
    draw(tmp_path / "m/a_right.png", RIGHT)
    masks = {"left": "m/*_left.png", "right": "m/*_right.png"}
    ignored = class_ids(folder(tmp_path, "i/*.png", masks, classes=["rest", "left"]))["a"]
    np.testing.assert_array_equal(ignored, np.where(LEFT, 1, np.where(RIGHT, features.IGNORE_LABEL, 0)))
    covered = class_ids(folder(tmp_path, "i/*.png", masks, classes=["left", "right"], ignore_label=0))["a"]
    np.testing.assert_array_equal(covered, np.where(LEFT, 0, np.where(RIGHT, 1, features.IGNORE_LABEL)))


def test_parts_that_do_not_fit_together_are_rejected_with_the_reason(tmp_path: Path) -> None:
    from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError

    draw(tmp_path / "i/a.png", LEFT)
    draw(tmp_path / "m/disc/a.png", LEFT)
    draw(tmp_path / "m/square/a.png", np.zeros((4, 5)))
    dataset = folder(
        tmp_path,
        "i/*.png",
        {"disc": "m/disc/*.png", "square": "m/square/*.png"},
        classes=["rest", "disc", "square"],
    )
    [entry] = dataset.source.scan(tmp_path).entries
    with pytest.raises(
        InputRejectedError, match=r"m/disc/a.png is 6 x 4 pixels, m/square/a.png.* 5 x 4"
    ) as caught:
        dataset.source.open_mask(tmp_path, entry, ANY_SIZE)
    assert caught.value.reason is Reason.SIZES_DIFFER
    draw(tmp_path / "m/square/a.png", np.arange(24).reshape(4, 6))
    with pytest.raises(InputRejectedError, match="holds 1, 2, 3, 4, 5, … besides 0"):
        dataset.source.open_mask(tmp_path, entry, ANY_SIZE).read(as_colors=False)


@pytest.mark.parametrize(
    ("masks", "more", "words"),
    [
        ({"disc": "m/*.png"}, {"classes": ["a", "b", "disc"]}, "no pattern for 'a', 'b'"),
        ({"disc": "m/*.png"}, {"label_values": {"disc": 1}}, "dataset.label_values"),
        ({"disc": ""}, {"classes": ["a", "disc"]}, "needs dataset.masks"),
        ({"disc": "../m/*.png"}, {"classes": ["a", "disc"]}, "must stay under"),
        ({}, {"classes": ["a", "disc"]}, "needs dataset.masks"),
    ],
)
def test_patterns_of_classes_that_make_no_sense_are_refused(
    tmp_path: Path, masks: dict[str, str], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        folder(tmp_path, "i/*.png", masks, **more)


# ---- init ----


def paired(images: Path, masks: Path | None = None) -> Pairing:
    return pair(find_files(images, PICTURES, "--images"), find_files(masks or images, MASKS, "--masks"))


def init(
    capsys: pytest.CaptureFixture[str], images: Path, masks: Path, *more: str
) -> tuple[DatasetConfig, str]:
    """Runs the command; returns the recipe's dataset, unchanged, and what was said, in one line."""
    output = images.parent / "my.yaml"
    dataset = first_recipe.init(images, masks, output, *more).dataset
    for written in (output, output.with_name("preview.png")):
        written.unlink()
    return dataset, " ".join(capsys.readouterr().out.split())


def pairs_of(dataset: DatasetConfig) -> set[tuple[str, tuple[str, ...]]]:
    """Names of each image and its masks, as ingestion pairs them without setting anything aside."""
    found = dataset.source.scan(Path(str(dataset.root)))
    assert not found.rejected
    return {(Path(e.image).name, tuple(Path(file).name for file in e.mask_files)) for e in found.entries}


def test_satellite_images_beside_their_masks(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("deepglobe")
    numbers = sorted(path.name.partition("_")[0] for path in root.glob("train/*_sat.jpg"))
    wanted = {(f"{number}_sat.jpg", (f"{number}_mask.png",)) for number in numbers}
    assert len(wanted) == 12
    for folder in (root / "train", root):
        dataset, said = init(capsys, folder, folder)
        assert pairs_of(dataset) == wanted
    assert "4 pictures that match no pattern are not used: 4 valid/*.jpg" in said


def test_of_two_observers_one_is_proposed_and_the_other_named(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("chase")
    dataset, said = init(capsys, root, root)
    assert len(pairs_of(dataset)) == 28
    assert dataset.masks == "*_1stHO.png" and "too: *_2ndHO.png; taken are *_1stHO.png" in said


def test_masks_that_keep_both_suffixes_of_their_images(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("supervisely")
    wanted = {(path.name, (f"{path.name}.png",)) for path in (root / "ds0/img").iterdir()}
    assert len(wanted) == 12
    for images, masks in (("ds0/img", "ds0/masks_machine"), ("ds0", "ds0"), (".", ".")):
        found = paired(root / images, root / masks)
        assert {(Path(e.image).name, (Path(e.mask).name,)) for e in found.entries} == wanted
        assert str(found.dataset["masks"]).endswith("masks_machine/*.png") and not found.unpaired
    assert any("masks_human" in note for note in found.notes)


def test_a_mask_for_each_lesion_is_united(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("busi_d")
    dataset, said = init(capsys, root / "images", root / "masks")
    assert "10 images have several masks, 20 files: what they mark is united" in said
    assert "nearly twice" not in said
    found = class_ids(dataset)
    assert len(found) == 100
    parts = [np.asarray(Image.open(root / f"masks/benign (10)_mask{n}.png")) > 0 for n in ("", "_1")]
    np.testing.assert_array_equal(found["benign (10)"], parts[0] | parts[1])
    assert sum(len(files) for _, files in pairs_of(dataset)) == len(list((root / "masks").iterdir()))


def test_a_folder_for_each_class_makes_the_classes(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("multi_perclass_folder")
    dataset, said = init(capsys, root / "images", root / "masks")
    assert dataset.masks == {"disc": "masks/disc/*.png", "square": "masks/square/*.png"}
    assert dataset.label_set().names == ("background", "disc", "square")
    assert "a mask file for each of 2 classes, by their names: disc, square" in said
    for name, ids in class_ids(dataset).items():
        disc, square = (
            np.asarray(Image.open(root / f"masks/{c}/{name}.png")) > 0 for c in ("disc", "square")
        )
        np.testing.assert_array_equal(ids, np.where(square, 2, np.where(disc, 1, 0)))
    named, _ = init(capsys, root / "images", root / "masks", "--classes", "square,rest,disc")
    assert named.label_set().names == ("square", "rest", "disc")
    assert np.array_equal(class_ids(named)["000"] == 2, class_ids(dataset)["000"] == 1)
    assert paired(root).dataset["masks"] == dataset.masks


def test_two_images_for_one_mask_are_named(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("samestem_flatmasks")
    line = refused(capsys, root / "images", root / "masks", root / "my.yaml")
    assert "Two images have the same name '000': images/a/000.jpg and images/b/000.jpg" in line


def test_names_of_all_sorts(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("names")
    images, masks = root / "Bilder 1", root / "Masken ü"
    dataset, said = init(capsys, images, masks)
    assert len(pairs_of(dataset)) == 12 and dataset.max_rejected_fraction == 0.01
    assert "Thumbs" not in said and "desktop" not in said
    assert {entry.key for entry in paired(root).entries} == {
        entry.key for entry in paired(images, masks).entries
    }


def test_names_in_two_forms_of_unicode(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    root = case("names_nfd")
    dataset, _ = init(capsys, root / "images", root / "masks")
    assert len(pairs_of(dataset)) == 12 and dataset.max_rejected_fraction == 0.01
    images = {entry.image for entry in dataset.source.scan(root).entries}
    assert images == {f"images/{path.name}" for path in (root / "images").iterdir()}


def test_formats_by_their_rarer_suffixes_are_read_and_foreign_ones_named(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("exts_left_out")
    dataset, said = init(capsys, root / "images", root / "masks")
    found = dataset.source.scan(root)
    assert len(found.entries) == 16 and dataset.max_rejected_fraction == 0.01
    assert {item.reason for item in found.rejected} == {Reason.NOT_READ}
    assert "4 files set aside, format not read here: images/002.heic" in said
    assert "without image" not in said


# ---- more of these kinds ----

DISC = np.hypot(*np.mgrid[-24:24, -32:32]) < 9
OBSERVED = np.roll(DISC, 1, axis=1)
LEFT_DISC, RIGHT_DISC = np.roll(DISC, -18, axis=1), np.roll(DISC, 18, axis=1)


def draw_kinds(
    root: Path, image: str, masks: Mapping[str, np.ndarray], names: Iterable[str] = "abcdefgh"
) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        draw(root / image.format(name), photo(rng))
        for file, pixels in masks.items():
            draw(root / file.format(name), pixels * 255)


@pytest.mark.parametrize(
    ("image", "one", "other", "taken"),
    [
        ("{}_training.tif", "{}_manual1.tif", "{}_manual2.tif", "*_manual1.tif"),
        ("{}.ppm", "{}.ah.ppm", "{}.vk.ppm", "*.ah.ppm"),
        ("Image_{}.png", "Image_{}_1stHO.png", "Image_{}_2ndHO.png", "*_1stHO.png"),
        ("{}.png", "{}_mask.png", "{}_mask_1.png", "*_mask.png"),
        ("images/{}.jpg", "masks/{}_mask.png", "masks/{}_mask_1.png", "masks/*_mask.png"),
        (
            "images/{}_test.tif",
            "1st_manual/{}_manual1.gif",
            "2nd_manual/{}_manual2.gif",
            "1st_manual/*_manual1.gif",
        ),
        ("images/{}.jpg", "masks/reader_a/{}.png", "masks/reader_b/{}.png", "masks/reader_a/*.png"),
        ("images/{}.jpg", "masks/{}/one.png", "masks/{}/two.png", "masks/*/one.png"),
    ],
)
def test_what_was_drawn_twice_is_not_united(
    tmp_path: Path, image: str, one: str, other: str, taken: str
) -> None:
    draw_kinds(tmp_path, image, {one: DISC, other: OBSERVED})
    found = paired(tmp_path)
    assert found.dataset["masks"] == taken
    assert {(entry.image, entry.mask) for entry in found.entries} == {
        (image.format(name), one.format(name)) for name in "abcdefgh"
    }
    assert not found.unpaired and all(not entry.parts for entry in found.entries)
    assert any("taken are" in note for note in found.notes)


@pytest.mark.parametrize(
    ("image", "left", "right"),
    [
        ("images/{}.jpg", "masks/{}_0.png", "masks/{}_1.png"),
        ("images/{}.jpg", "masks/{}_mask_1.png", "masks/{}_mask_2.png"),
        ("images/{}.jpg", "masks/{}/7.png", "masks/{}/8.png"),
        ("{}/images/{}.png", "{}/masks/7a.png", "{}/masks/7b.png"),
        ("benign/benign ({}).png", "benign/benign ({})_mask.png", "benign/benign ({})_mask_1.png"),
    ],
)
def test_a_mask_for_each_object_is_found_and_united(
    tmp_path: Path, image: str, left: str, right: str
) -> None:
    names = [f"cell{number}" for number in range(9)]
    image, left, right = (text.replace("{}", "{0}") for text in (image, left, right))
    draw_kinds(tmp_path, image, {left: LEFT_DISC, right: RIGHT_DISC}, names)
    (tmp_path / right.format("cell3")).unlink()
    found = paired(tmp_path)
    assert {(entry.image, entry.mask_files) for entry in found.entries} == {
        (
            image.format(name),
            tuple(file.format(name) for file in (left, right) if name != "cell3" or file == left),
        )
        for name in names
    }
    assert any(
        "8 images have several masks, 16 files: what they mark is united" in note for note in found.notes
    )


@pytest.mark.parametrize(
    ("image", "disc", "square"),
    [
        ("images/{}.jpg", "masks/disc/{}.png", "masks/square/{}.png"),
        ("images/{}.jpg", "disc/{}.png", "square/{}.png"),
        ("images/train/{}.jpg", "masks/train/disc/{}.png", "masks/train/square/{}.png"),
        ("images/{}.jpg", "masks/{}_disc.png", "masks/{}_square.png"),
        ("{}.jpg", "{}_mask_disc.png", "{}_mask_square.png"),
        ("images/{}.jpg", "masks/disc_{}.png", "masks/square_{}.png"),
    ],
)
def test_a_mask_for_each_class_is_found_and_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, disc: str, square: str
) -> None:
    draw_kinds(tmp_path, image, {disc: LEFT_DISC, square: RIGHT_DISC})
    (tmp_path / square.format("c")).unlink()
    dataset, said = init(capsys, tmp_path, tmp_path)
    assert list(dict(dataset.masks or {})) == ["disc", "square"]  # type: ignore[arg-type]
    found = {key.rpartition("/")[2]: ids for key, ids in class_ids(dataset).items()}
    assert len(found) == 8
    np.testing.assert_array_equal(found["a"], np.where(RIGHT_DISC, 2, np.where(LEFT_DISC, 1, 0)))
    np.testing.assert_array_equal(found["c"], np.where(LEFT_DISC, 1, 0))
    assert "images have a mask file of each class, but square in 7 of 8" in said


NAMES = ("a", "b_1", "IMG_02")


@pytest.mark.parametrize(
    ("files", "patterns"),
    [
        (("m/{}/leaf.png", "m/{}/stem.png"), ("m/*/leaf.png", "m/*/stem.png")),
        (("m/{}/leaf_0.png", "m/{}/leaf_1.png", "m/{}/stem_0.png"), ("m/*/leaf_*.png", "m/*/stem_*.png")),
        (("m/{}/leaf.png", "m/{}/leaf (1).png", "m/{}/stem.png"), ("m/*/leaf*.png", "m/*/stem.png")),
        (("m/{}_leaf_0.png", "m/{}_leaf_1.png", "m/{}_stem_0.png"), ("m/*_leaf_*.png", "m/*_stem_*.png")),
        (("m/{}_leaf_0.png", "m/{}_leaf_1.png", "m/{}_stem.png"), ("m/*_leaf_*.png", "m/*_stem.png")),
        (
            ("m/{}_leaf_1.png", "m/{}_leaf_2.png", "m/{}_leaf_tip_1.png"),
            ("m/*_leaf_[0-9]*.png", "m/*_leaf_tip_*.png"),
        ),
        (
            ("m/x/{}_leaf0.png", "m/x/{}_leaf1.png", "m/x/{}_stem0.png"),
            ("m/*/*_leaf*.png", "m/*/*_stem*.png"),
        ),
    ],
)
def test_words_beside_the_numbers_of_objects_are_classes(
    tmp_path: Path, files: tuple[str, ...], patterns: tuple[str, str]
) -> None:
    marked = (LEFT_DISC, RIGHT_DISC)
    stem = np.roll(DISC, 12, axis=0)
    shapes = (*marked[: len(files) - 1], stem)
    draw_kinds(tmp_path, "i/{}.jpg", dict(zip(files, shapes, strict=True)), NAMES)
    # Not every image has all of them.
    (tmp_path / files[0].format("a")).unlink()
    (tmp_path / files[-1].format("b_1")).unlink()
    found = paired(tmp_path / "i", tmp_path / "m")
    assert set(found.dataset["masks"].values()) == set(patterns) and not found.unpaired
    names = list(found.dataset["masks"])
    ids = class_ids(folder(tmp_path, "i/*.jpg", found.dataset["masks"], classes=["rest", *names]))
    word = "leaf_tip" if "tip" in files[-1] else "stem"
    union = np.any(shapes[:-1], axis=0)
    for name in NAMES:
        has_stem = stem & (name != "b_1")
        leaves = np.any(shapes[1:-1] or [np.zeros_like(DISC)], axis=0) if name == "a" else union
        np.testing.assert_array_equal(ids[name] == 1 + names.index(word), has_stem)
        np.testing.assert_array_equal(ids[name] == 1 + names.index("leaf"), leaves & ~has_stem)


@pytest.mark.parametrize(
    ("folders", "names"),
    [(("1", "2", "10"), ("class_1", "class_2", "class_10")), (("kind 1", "kind 2"), ("kind_1", "kind_2"))],
)
def test_folders_that_numbers_tell_apart_are_classes_that_may_be_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folders: tuple[str, ...], names: tuple[str, ...]
) -> None:
    shapes = (LEFT_DISC, RIGHT_DISC, np.roll(DISC, 16, axis=0))[: len(folders)]
    draw_kinds(
        tmp_path, "i/{}.jpg", {f"m/{k}/{{}}.png": shape for k, shape in zip(folders, shapes, strict=True)}
    )
    for kind in folders[1:]:
        (tmp_path / f"m/{kind}/a.png").unlink()
    dataset, said = init(capsys, tmp_path / "i", tmp_path / "m")
    assert dataset.masks == {name: f"m/{kind}/*.png" for name, kind in zip(names, folders, strict=True)}
    merged = dict.fromkeys(names[1:], names[0])
    written = ", ".join(f"{name}: {names[0]}" for name in names[1:])
    assert (
        f"Check: numbers tell the folders of masks apart, and what they mark lies apart: {names[0]} and"
        in said
    )
    assert f"if they are objects of one class, add merge_classes: {{{written}}}" in said
    ids = class_ids(dataset)
    np.testing.assert_array_equal(ids["a"], np.where(shapes[0], 1, 0))
    np.testing.assert_array_equal(ids["b"], sum(n * shape for n, shape in enumerate(shapes, start=1)))
    united = class_ids(dataset.model_copy(update={"merge_classes": merged}))
    np.testing.assert_array_equal(united["b"], np.any(shapes, axis=0))


def test_numbered_folders_of_what_was_drawn_twice_are_no_classes(tmp_path: Path) -> None:
    draw_kinds(tmp_path, "i/{}.jpg", {"m/1/{}.png": DISC, "m/2/{}.png": OBSERVED})
    found = paired(tmp_path / "i", tmp_path / "m")
    assert found.dataset["masks"] == "m/1/*.png" and not found.doubts


@pytest.mark.parametrize(
    ("files", "shapes"),
    [
        (("m/{}_one_0.png", "m/{}_one_1.png", "m/{}_two_0.png"), (LEFT_DISC, RIGHT_DISC, LEFT_DISC)),
        (("m/{}_mask_0.png", "m/{}_mask_1.png"), (LEFT_DISC, RIGHT_DISC)),
        (("m/{}/7a.png", "m/{}/7b.png"), (LEFT_DISC, RIGHT_DISC)),
        (("m/{}/one.png", "m/{}/two.png"), (DISC, OBSERVED)),
    ],
)
def test_words_of_what_was_drawn_twice_one_word_and_letters_that_count_up_are_no_classes(
    tmp_path: Path, files: tuple[str, ...], shapes: tuple[np.ndarray, ...]
) -> None:
    draw_kinds(tmp_path, "i/{}.jpg", dict(zip(files, shapes, strict=True)), NAMES)
    assert isinstance(paired(tmp_path / "i", tmp_path / "m").dataset["masks"], str)


def test_words_of_which_each_image_has_one_are_classes_where_objects_are_numbered(tmp_path: Path) -> None:
    for word, names in (("cat", "abc"), ("dog", "def")):
        files = {f"m/{{}}_{word}_0.png": LEFT_DISC, f"m/{{}}_{word}_1.png": RIGHT_DISC}
        draw_kinds(tmp_path, "i/{}.jpg", files, names)
    found = paired(tmp_path / "i", tmp_path / "m")
    assert found.dataset["masks"] == {"cat": "m/*_cat_*.png", "dog": "m/*_dog_*.png"}


@pytest.mark.parametrize("other", ["p_b", "b_p_1"])
def test_files_among_the_masks_that_have_the_names_of_images_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    draw_kinds(tmp_path, "i/{}.jpg", {"m/{}_a.png": LEFT_DISC}, "pqrstu")
    draw(tmp_path / f"m/{other}.png", RIGHT_DISC * 255)
    assert (
        "Check: files among the masks are not used, though their names hold those of images that have "
        f"others, m/{other}.png: what they mark counts as background"
    ) in init(capsys, tmp_path / "i", tmp_path / "m")[1]


@pytest.mark.parametrize("counts", [(4, 4), (5, 2)])
def test_words_of_which_each_image_has_one_are_classes(tmp_path: Path, counts: tuple[int, int]) -> None:
    for word, count in zip(("cat", "dog"), counts, strict=True):
        names = [f"{word[0]}{number}" for number in range(count)]
        draw_kinds(tmp_path, "i/{}.jpg", {f"m/{{}}_{word}.png": DISC}, names)
    found = paired(tmp_path / "i", tmp_path / "m")
    assert found.dataset["masks"] == {"cat": "m/*_cat.png", "dog": "m/*_dog.png"}
    assert len(found.entries) == sum(counts) and not found.unpaired


@pytest.mark.parametrize(
    ("folders", "names"), [(("leaf", "stem"), ("leaf", "stem")), ("12", ("class_1", "class_2"))]
)
def test_folders_of_classes_may_hold_a_file_for_each_object(
    tmp_path: Path, folders: Sequence[str], names: tuple[str, str]
) -> None:
    first, second = (f"m/{folder}/{{}}_" for folder in folders)
    files = {
        f"{first}0.png": LEFT_DISC,
        f"{first}1.png": RIGHT_DISC,
        f"{second}0.png": np.roll(DISC, 16, axis=0),
    }
    draw_kinds(tmp_path, "i/{}.jpg", files)
    found = paired(tmp_path / "i", tmp_path / "m")
    assert found.dataset["masks"] == {
        name: f"m/{folder}/*_*.png" for name, folder in zip(names, folders, strict=True)
    }
    ids = class_ids(folder(tmp_path, "i/*.jpg", found.dataset["masks"], classes=["rest", *names]))["a"]
    np.testing.assert_array_equal(ids, np.where(files[f"{second}0.png"], 2, LEFT_DISC | RIGHT_DISC))


def draw_folders(root: Path, image: str, mask: str, kinds: Iterable[str], value: int = 255) -> None:
    """Four pairs for each of the kinds, whose names tell the kind by their first letter."""
    for kind in kinds:
        for number in range(4):
            draw(root / image.format(kind, number), photo(np.random.default_rng(number)))
            draw(root / mask.format(kind, number), DISC * value)


@pytest.mark.parametrize(
    ("image", "mask", "open_name"),
    [
        ("i/{0}{1}.jpg", "m/{0}/{0}{1}.png", ""),
        ("i/{0}/{0}{1}.jpg", "m/{0}/{0}{1}.png", ""),
        ("i/{0}/{1}.jpg", "m/{0}/{1}.png", "*"),
    ],
)
def test_folders_of_which_each_image_has_one_may_be_classes(
    tmp_path: Path, image: str, mask: str, open_name: str
) -> None:
    draw_folders(tmp_path, image, mask, ("cat", "dog"))
    found = paired(tmp_path / "i", tmp_path / "m")
    masks = {kind: f"m/{kind}{open_name}/*.png" for kind in ("cat", "dog")}
    assert len(found.entries) == 8 and found.may_be_classes == masks
    written = folder(tmp_path, found.dataset["images"], masks, classes=["background", "cat", "dog"])
    assert sorted(ids.max() for ids in class_ids(written).values()) == [1] * 4 + [2] * 4


@pytest.mark.parametrize("kinds", [("train", "val"), ("p1", "p2"), ("cat",)])
def test_folders_of_splits_or_with_numbers_are_no_classes(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    draw_folders(tmp_path, "i/{0}{1}.jpg", "m/{0}/{0}{1}.png", kinds)
    assert not paired(tmp_path / "i", tmp_path / "m").may_be_classes


def test_folders_that_may_be_classes_are_asked_about_unless_their_masks_hold_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, "i/{0}{1}.jpg", "m/{0}/{0}{1}.png", ("cat", "dog"))
    _, said = init(capsys, tmp_path / "i", tmp_path / "m")
    assert (
        "Check: the masks lie in folders, cat, dog, and hold 0 and 255 alike: if these are classes, write "
        "masks: {cat: 'm/cat/*.png', dog: 'm/dog/*.png'} and classes: [background, cat, dog] in place"
    ) in said
    draw_folders(tmp_path, "i/{0}{1}.jpg", "m/{0}/{0}{1}.png", ("dog",), value=100)
    assert "if these are classes" not in init(capsys, tmp_path / "i", tmp_path / "m")[1]


def test_of_classes_inside_each_other_the_smaller_lies_on_top(tmp_path: Path) -> None:
    cup = np.hypot(*np.mgrid[-24:24, -32:32]) < 4
    draw_kinds(tmp_path, "i/{}.jpg", {"m/{}_cup.png": cup, "m/{}_disc.png": DISC})
    found = paired(tmp_path / "i", tmp_path / "m")
    assert list(found.dataset["masks"]) == ["disc", "cup"]
    assert any("the later of dataset.masks counts" in note for note in found.notes)


@pytest.mark.parametrize("folders", ["scene_{}", "day/scene_{}"])
def test_a_folder_for_each_scene_has_pictures_of_the_same_names(tmp_path: Path, folders: str) -> None:
    files = {f"{folders}/seg.png": np.where(DISC, 2, 0), f"{folders}/depth.png": np.arange(48)[:, None] / 255}
    draw_kinds(tmp_path, f"{folders}/rgb.png", files, map(str, range(12)))
    (tmp_path / folders.format(3) / "seg.png").unlink()
    found = paired(tmp_path)
    start = "*/" * (1 + folders.count("/"))
    assert found.dataset["images"] == f"{start}rgb.png" and found.dataset["masks"] == f"{start}seg.png"
    assert len(found.entries) == 11 and len(found.unpaired) == 1
    assert any("depth.png; taken are" in note for note in found.notes)


@pytest.mark.parametrize(("image", "pattern"), [("{}/rgb.jpg", "*/*.jpg"), ("{}/rgb.png", "*/rgb.png")])
def test_a_folder_for_each_scene_may_have_a_mask_for_each_class(
    tmp_path: Path, image: str, pattern: str
) -> None:
    draw_kinds(tmp_path, image, {"{}/leaf.png": LEFT_DISC, "{}/stem.png": RIGHT_DISC}, "abcdefghijkl")
    found = paired(tmp_path)
    assert found.dataset["masks"] == {"leaf": "*/leaf.png", "stem": "*/stem.png"}
    assert found.dataset["images"] == pattern and len(found.entries) == 12 and not found.unpaired


def test_objects_among_the_images_of_scenes_are_not_united_without_a_word(tmp_path: Path) -> None:
    draw_kinds(tmp_path, "{}/rgb.jpg", {"{}/1.png": LEFT_DISC, "{}/2.png": RIGHT_DISC}, "abcdefghijkl")
    found = paired(tmp_path)
    assert any(
        "12 images have several masks, 24 files: what they mark is united" in note for note in found.notes
    )


def test_scenes_side_by_side_are_no_kinds_of_pictures(tmp_path: Path) -> None:
    for scene in ("day", "night"):
        draw_kinds(tmp_path / scene, f"{scene} ({{}}).png", {f"{scene} ({{}})_mask.png": DISC})
    found = paired(tmp_path)
    assert len(found.entries) == 16 and all(e.mask == e.image.replace(").", ")_mask.") for e in found.entries)


def test_nothing_is_passed_by_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_kinds(tmp_path, "i/{}.jpg", {"m/{}.png": DISC})
    draw_kinds(tmp_path, "i/test/{}x.jpg", {})
    touch(tmp_path, "i/a.json", "i/b.json", "m/readme.txt", "i/z.CR2", "i/y.heic")
    dataset, said = init(capsys, tmp_path / "i", tmp_path / "m")
    assert len(pairs_of(dataset)) == 8
    assert "8 pictures that match no pattern are not used: 8 i/test/*.jpg (such as i/test/ax.jpg)" in said
    assert "2 pictures in formats that are not read here are not used: 1 i/*.heic, 1 i/*.CR2" in said
    assert "3 other files are not used: 2 .json, 1 .txt" in said


def test_label_files_and_split_lists_that_were_used_are_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_kinds(tmp_path, "{}.jpg", {"{}_mask.png": DISC})
    (tmp_path / "classes.txt").write_text("0 ground\n255 disc\n")
    (tmp_path / "labels.csv").write_text("value,name\n0,ground\n255,disc\n")
    (tmp_path / "test.txt").write_text("a\nb\n")
    (tmp_path / "readme.md").touch()
    dataset, said = init(capsys, tmp_path, tmp_path)
    assert "1 other files are not used: 1 .md" in said and "classes.txt" in said and dataset.splits.declared
    _, said = init(capsys, tmp_path, tmp_path, "--classes", str(tmp_path / "classes.txt"))
    assert "2 other files are not used: 1 .csv, 1 .md" in said


def test_what_does_not_meet_is_not_made_to_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_kinds(tmp_path, "i/{}.jpg", {"m/{}.png": DISC}, "abcdefghijklmnopqrst")
    for name in "abc":
        (tmp_path / f"m/{name}.png").rename(tmp_path / f"m/other_{name}{name}.png")
    line = refused(capsys, tmp_path / "i", tmp_path / "m", tmp_path / "my.yaml")
    assert "6 of 23 pairs cannot be used, more than the 5% that a recipe may pass over" in line
    assert "image without mask (such as i/a.jpg" in line and not (tmp_path / "my.yaml").exists()


def test_ingestion_writes_what_was_merged_under_the_names_of_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ingested import ingest, read_split

    rng, root = np.random.default_rng(0), tmp_path / "data"
    composed = unicodedata.normalize("NFC", NFD_NAME)
    for name in "abcd":
        draw(root / f"i/{NFD_NAME}{name}.jpg", photo(rng))
        draw(root / f"m/disc/{composed}{name}.png", LEFT_DISC * 255)
    draw(root / f"m/square/{composed.upper()}A.png", RIGHT_DISC * 255)
    touch(root, "i/Thumbs.db", "m/disc/desktop.ini", "i/x.heic")
    draw(root / "m/disc/x.png", DISC)
    masks = {"disc": "m/disc/*", "square": "m/square/*"}
    dataset = folder(root, "i/*", masks, classes=["rest", "disc", "square"])
    with caplog.at_level(logging.INFO):
        report = ingest(dataset, tmp_path / "out")
    assert [(item.file, item.reason) for item in report.rejected] == [("i/x.heic", "format not read here")]
    assert "1 set aside, format not read here (i/x.heic)" in caplog.text
    assert "images have a mask file of each class, but square in 1 of 4" in caplog.text
    examples = {
        name: e for split in features.SPLITS for name, e in read_split(tmp_path / "out", split).items()
    }
    assert examples.keys() == {f"i/{NFD_NAME}{name}.jpg" for name in "abcd"}
    for name, square in ((f"i/{NFD_NAME}a.jpg", 2), (f"i/{NFD_NAME}b.jpg", 0)):
        ids = np.asarray(Image.open(io.BytesIO(examples[name][features.MASK_ENCODED])))
        np.testing.assert_array_equal(ids, np.where(RIGHT_DISC, square, np.where(LEFT_DISC, 1, 0)))


def test_pictures_left_over_that_could_be_the_masks_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        split = "test" if number < 3 else "training"
        draw(tmp_path / f"{split}/images/{number}_{split}.tif", photo(rng))
        draw(tmp_path / f"{split}/mask/{number}_{split}_mask.gif", np.kron([[0, 255]], np.ones((48, 32))))
        draw(tmp_path / f"{split}/1st_manual/{'abcdefgh'[number]}.gif", photo(rng)[..., 0] > 200)
    _, said = init(capsys, tmp_path, tmp_path)
    assert (
        "1st_manual/*.gif" in said
        and "if the masks are there, not at {test,training}/mask/*_mask.gif" in said
    )
