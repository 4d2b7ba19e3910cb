"""Names as people have them: which files belong together, which are merged, and what is said of the rest."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.dataset import features
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Scan
from components.image_mask_example_gen.report import Reason

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


def class_ids(dataset: DatasetConfig) -> dict[str, np.ndarray]:
    """The masks by their keys as ingestion reads and maps them, uint8 [height, width]."""
    from components.image_mask_example_gen.label_mapping import LabelMapping

    root = Path(str(dataset.root))
    names, ignored = dataset.raw_labels()
    mapping = LabelMapping(names, ignored, dataset.label_set().names)
    return {
        entry.key: mapping.class_ids(
            dataset.source.open_mask(root, entry, dataset.max_pixels).read(mapping.of_colors)
        )
        for entry in dataset.source.scan(root).entries
    }


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
    touch(tmp_path, "i/Dd.jpg", "m/dd.png", "m/DD.png")
    found = scan(tmp_path, "i/*.jpg", "m/*.png")
    assert [(entry.image, entry.mask) for entry in found.entries] == [
        ("i/A.jpg", "m/A.png"),
        ("i/a.jpg", "m/a.png"),
        ("i/b.jpg", "m/B.png"),
        ("i/c.jpg", "m/c.png"),
    ]
    assert {item.file for item in found.rejected} == {"i/C.jpg", "i/Dd.jpg", "m/dd.png", "m/DD.png"}


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
    assert result.notes == ("of 3 images have a mask of each class but square in 2",)


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
