"""Pairing by name: what is added to the names of masks is found, and the ingestion agrees."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.image_mask_example_gen.suffixes import MASKS, PICTURES
from pipeline.init import InitError
from pipeline.init.files import find_files
from pipeline.init.listing import Pairing
from pipeline.init.pairing import pair

PICTURE = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))


def lay_out(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def paired(root: Path, images: str = "images", masks: str = "masks") -> Pairing:
    return pair(find_files(root / images, PICTURES, "--images"), find_files(root / masks, MASKS, "--masks"))


@pytest.mark.parametrize(
    ("image", "mask", "patterns"),
    [
        ("images/{}.jpg", "masks/{}.png", ("images/*.jpg", "masks/*.png")),
        ("images/{}.jpg", "masks/{}_mask.png", ("images/*.jpg", "masks/*_mask.png")),
        ("images/{}.png", "masks/{}_L.png", ("images/*.png", "masks/*_L.png")),
        ("images/{}.jpg", "masks/{}.label.png", ("images/*.jpg", "masks/*.label.png")),
        ("images/{}.jpg", "masks/{}.jpg.png", ("images/*.jpg", "masks/*.jpg.png")),
        ("images/{}_sat.jpg", "masks/{}_mask.png", ("images/*_sat.jpg", "masks/*_mask.png")),
        ("images/{}_0000.png", "masks/{}.png", ("images/*_0000.png", "masks/*.png")),
        ("images/train/{}.jpg", "masks/train/{}_gt.png", ("images/*/*.jpg", "masks/*/*_gt.png")),
        ("images/a/b/{}.jpg", "masks/{}.png", ("images/*/*/*.jpg", "masks/*.png")),
        ("images/{}.JPG", "masks/{}.mat", ("images/*.JPG", "masks/*.mat")),
        ("images/{}.jpg", "masks/mask_{}.png", ("images/*.jpg", "masks/mask_*.png")),
        ("images/img_{}.jpg", "masks/mask_{}.png", ("images/img_*.jpg", "masks/mask_*.png")),
    ],
)
def test_names_with_additions_meet(tmp_path: Path, image: str, mask: str, patterns: tuple[str, str]) -> None:
    # Parts of some names are the names of others.
    names = ["1", "2", "12", "scene_a", "x.1", "x.12"]
    lay_out(tmp_path, *(pattern.format(name) for name in names for pattern in (image, mask)))
    found = paired(tmp_path)
    assert (found.dataset["images"], found.dataset["masks"]) == patterns
    assert {(entry.image, entry.mask) for entry in found.entries} == {
        (image.format(name), mask.format(name)) for name in names
    }
    assert not found.unpaired


def test_root_is_the_deepest_common_folder(tmp_path: Path) -> None:
    lay_out(tmp_path, "deep/er/photos/a.jpg", "deep/er/labels/png/a.png")
    found = paired(tmp_path, "deep/er/photos", "deep/er/labels/png")
    assert found.root == tmp_path / "deep/er"
    assert found.dataset["masks"] == "labels/png/*.png"


@pytest.mark.parametrize("images", ["7.png", "b7.png"])
def test_masks_among_their_images_are_told_apart(tmp_path: Path, images: str) -> None:
    names = [images.replace("7", str(number)) for number in range(5)]
    lay_out(tmp_path, *(f"all/{name}" for name in names))
    lay_out(tmp_path, *(f"all/{name.replace('.', '_mask.')}" for name in names))
    found = paired(tmp_path, "all", "all")
    assert len(found.entries) == 5
    assert not found.unpaired


def test_images_and_masks_of_one_name_are_told_apart_by_their_format(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"all/{name}" for n in range(5) for name in (f"{n}.jpg", f"{n}.png")))
    found = paired(tmp_path, "all", "all")
    assert (found.dataset["images"], found.dataset["masks"]) == ("*.jpg", "*.png")
    assert len(found.entries) == 5


def test_masks_in_a_folder_inside_the_images_are_no_images(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"data/{n}.png" for n in range(5)), *(f"data/masks/{n}.png" for n in range(5)))
    found = paired(tmp_path, "data", "data/masks")
    assert (found.dataset["images"], found.dataset["masks"]) == ("*.png", "masks/*.png")
    assert len(found.entries) == 5


def test_images_of_several_formats_are_all_taken(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/a.jpg", "images/b.png", "images/c.jpeg")
    lay_out(tmp_path, *(f"masks/{name}.png" for name in "abc"))
    assert len(paired(tmp_path).entries) == 3


def test_of_two_images_with_one_name_the_usual_format_is_taken(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/a.jpg", "images/b.jpg", "images/a.png", "masks/a.png", "masks/b.png")
    assert paired(tmp_path).dataset["images"] == "images/*.jpg"


@pytest.mark.parametrize("names", [("photos", "truth"), ("b", "a")])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_in_one_folder_for_both_the_names_of_folders_tell_them_apart(
    tmp_path: Path, names: tuple[str, str], ending: str
) -> None:
    for scene in ("day", "night"):
        for kind in names:
            (tmp_path / scene / kind).mkdir(parents=True)
        for number in range(3):
            PICTURE.save(tmp_path / scene / names[0] / f"{number}.png")
            labels = PICTURE.point(lambda value: value % 4)
            labels.save(tmp_path / scene / names[1] / f"{number}{ending}.png")
    found = paired(tmp_path, ".", ".")
    assert found.dataset["images"] == f"*/{names[0]}/*.png"
    assert found.dataset["masks"] == f"*/{names[1]}/*{ending}.png"
    assert [entry.key for entry in found.entries] == [f"{s}/{n}" for s in ("day", "night") for n in range(3)]
    assert not found.unpaired


def test_images_and_masks_in_folders_side_by_side_are_told_apart(tmp_path: Path) -> None:
    lay_out(tmp_path, "photos/a.png", "labels/a.png", "photos/b.png", "labels/b.png")
    for name in "ab":
        Image.merge("RGB", [PICTURE, PICTURE.rotate(90), PICTURE]).save(tmp_path / f"photos/{name}.png")
        PICTURE.point(lambda value: value % 4).save(tmp_path / f"labels/{name}.png")
    found = paired(tmp_path, ".", ".")
    assert (found.dataset["images"], found.dataset["masks"]) == ("photos/*.png", "labels/*.png")


def test_files_without_a_partner_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"images/{n}.jpg" for n in "abcd"), *(f"masks/{n}_m.png" for n in "bcde"))
    found = paired(tmp_path)
    assert [entry.key for entry in found.entries] == ["b", "c", "d"]
    assert [item.file for item in found.unpaired] == ["images/a.jpg", "masks/e_m.png"]


def test_of_several_kinds_of_masks_the_plainest_is_taken(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name in "abcd":
        PICTURE.save(tmp_path / f"images/{name}_img.png")
        PICTURE.point(lambda value: value % 4).save(tmp_path / f"masks/{name}_labels_ids.png")
        PICTURE.save(tmp_path / f"masks/{name}_instances.png")
        Image.merge("RGB", [PICTURE, PICTURE.rotate(90), PICTURE]).save(tmp_path / f"masks/{name}_c.png")
    found = paired(tmp_path)
    assert found.dataset["masks"] == "masks/*_labels_ids.png"
    assert found.notes == (
        "images have masks of other kinds, too: masks/*_c.png, masks/*_instances.png; "
        "taken are masks/*_labels_ids.png",
    )


def test_names_without_anything_in_common_are_shown(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"images/cat{n}.jpg" for n in "abcd"), *(f"masks/dog{n}.png" for n in "efgh"))
    with pytest.raises(InitError) as caught:
        paired(tmp_path)
    line = str(caught.value)
    assert "cata.jpg, catb.jpg, catc.jpg, … (4); masks doge.png, dogf.png, dogg.png, … (4)" in line
    assert "cata.jpg would match cata.png" in line and "\n" not in line


def test_a_hidden_file_is_none(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/a.jpg", "images/._a.jpg", "masks/a.png", "masks/.b/a.png")
    assert len(paired(tmp_path).entries) == 1


def draw_retinas(root: Path, image: str, **masks: str) -> None:
    """Pictures and masks named by a number and the split: vessels differ, the field of view does not."""
    rows, columns = np.mgrid[:32, :32] - 16
    view = rows**2 + columns**2 < 200
    for number in range(1, 13):
        rng = np.random.default_rng(number)
        vessels = view & (rng.random((32, 32)) < 0.2)
        # A second observer draws a little less.
        drawn = {"view": view, "vessels": vessels, "second": vessels & (rng.random((32, 32)) < 0.8)}
        pictures = {image: Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))}
        pictures |= {name: Image.fromarray(drawn[kind]).convert("L") for kind, name in masks.items()}
        for name, picture in pictures.items():
            path = root / name.format(number, split="test" if number > 6 else "training")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


@pytest.mark.parametrize("second", [{}, {"second": "{split}/2nd_manual/{:02}_manual2.gif"}])
@pytest.mark.parametrize("view", [{}, {"view": "{split}/mask/{:02}_{split}_mask.gif"}])
def test_images_that_are_named_by_their_split_meet_masks_that_are_not_and_no_field_of_view(
    tmp_path: Path, view: dict[str, str], second: dict[str, str]
) -> None:
    draw_retinas(
        tmp_path,
        "{split}/images/{:02}_{split}.tif",
        vessels="{split}/1st_manual/{:02}_manual1.gif",
        **view | second,
    )
    found = paired(tmp_path, ".", ".")
    assert found.dataset["images"] == "{test,training}/images/*_{test,training}.tif"
    assert found.dataset["masks"] == "{test,training}/1st_manual/*_manual1.gif"
    assert len(found.entries) == 12 and not found.unpaired
    for entry in found.entries:
        assert Path(entry.image).name[:2] == Path(entry.mask).name[:2]
    said = any(
        "(12) mark the same in every picture, as a camera's field of view does" in n for n in found.notes
    )
    assert said == bool(view)
    # A part of it as well.
    found = paired(tmp_path, "training", "training")
    assert found.dataset["images"] == "images/*_training.tif"
    assert found.dataset["masks"] == "1st_manual/*_manual1.gif"
    assert len(found.entries) == 6 and not found.unpaired


def test_what_lies_still_before_a_fixed_camera_is_a_class(tmp_path: Path) -> None:
    masks = {name: np.zeros((32, 32), bool) for name in ("road", "sidewalk", "car")}
    masks["road"][8:], masks["sidewalk"][:8] = True, True
    for number in range(4):
        masks["car"] = np.roll(np.pad(np.ones((6, 6), bool), ((20, 6), (0, 26))), 5 * number, axis=1)
        for name, mask in masks.items():
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).convert("L").save(tmp_path / f"masks/{number}_{name}.png")
    lay_out(tmp_path, *(f"images/{number}.jpg" for number in range(4)))
    assert paired(tmp_path).dataset["masks"].keys() == masks.keys()


def test_a_split_of_few_images_is_found_by_their_names(tmp_path: Path) -> None:
    splits = ["train"] * 80 + ["val"] * 12 + ["test"] * 2
    lay_out(tmp_path, *(f"images/{n}_{split}.jpg" for n, split in enumerate(splits)))
    lay_out(tmp_path, *(f"masks/{n}.png" for n in range(len(splits))))
    found = paired(tmp_path)
    assert found.dataset["images"] == "images/*_{test,train,val}.jpg"
    assert len(found.entries) == len(splits) and not found.unpaired


def test_a_field_of_view_is_no_mask_beside_masks_of_the_images_names(tmp_path: Path) -> None:
    draw_retinas(
        tmp_path, "images/{:02}_dr.jpg", vessels="manual1/{:02}_dr.tif", view="mask/{:02}_dr_mask.tif"
    )
    assert paired(tmp_path, ".", ".").dataset["masks"] == "manual1/*.tif"
    # Where somebody wants it, it is there.
    assert paired(tmp_path, "images", "mask").dataset["masks"] == "mask/*_mask.tif"
