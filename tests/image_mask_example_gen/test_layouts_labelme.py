"""LabelMe's JSON: shapes in their order, images by what the file says, damaged files in one line."""

import base64
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.layouts import json_file
from components.image_mask_example_gen.layouts.labelme import LabelMe
from components.image_mask_example_gen.layouts.layout import IGNORED, Scan
from components.image_mask_example_gen.report import Reason

HEIGHT, WIDTH = 30, 40
CLASSES = ("background", "disc", "square")


def shape(label: str, points: list[list[Any]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    return shape(label, [[left, top], [right, bottom]], "rectangle")


def annotate(root: Path, name: str, *shapes: dict[str, Any], image: str | None = None, **more: Any) -> None:
    """Writes the JSON of an image, and the image."""
    content: dict[str, Any] = {"version": "5.0", "shapes": shapes}
    content |= {"imagePath": image or f"{Path(name).name}.jpg", "imageData": None}
    content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, **more}))
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"{name}.jpg")


def config(root: Path, **keys: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({"layout": "labelme", "root": str(root), "classes": CLASSES, **keys})


def scan(root: Path) -> Scan:
    return config(root).source.scan(root)


def drawn(root: Path, *shapes: dict[str, Any], **keys: Any) -> np.ndarray:
    """The mask of one image, uint8 [height, width]."""
    annotate(root, "a", *shapes)
    layout = config(root, **keys).source
    [entry] = layout.scan(root).entries
    return layout.open_mask(root, entry, 10**6).read(False)


def png_text(pixels: np.ndarray) -> str:
    """The PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def filled(value: int, rows: slice, columns: slice, ground: int = 0) -> np.ndarray:
    mask = np.full((HEIGHT, WIDTH), ground, np.uint8)
    mask[rows, columns] = value
    return mask


def test_later_shapes_lie_over_earlier_ones(tmp_path: Path) -> None:
    found = drawn(tmp_path, box("disc", 2, 3, 20, 15), box("square", 5, 5, 8, 9))
    expected = filled(1, slice(3, 16), slice(2, 21))
    expected[5:10, 5:9] = 2
    np.testing.assert_array_equal(found, expected)


def test_polygons_take_in_their_outline_as_labelme_draws_them(tmp_path: Path) -> None:
    found = drawn(tmp_path, shape("square", [[4, 6], [12, 6], [12, 11], [4, 11]]))
    np.testing.assert_array_equal(found, filled(2, slice(6, 12), slice(4, 13)))


def test_a_circle_is_told_by_its_centre_and_a_point_on_it(tmp_path: Path) -> None:
    found = drawn(tmp_path, shape("disc", [[20, 15], [20, 25]], "circle"))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - 15, columns - 20)
    assert (found[distance < 9.4] == 1).all() and (found[distance > 10.6] == 0).all()


@pytest.mark.parametrize("kind", ["line", "linestrip"])
def test_lines_are_ten_pixels_wide(tmp_path: Path, kind: str) -> None:
    found = drawn(tmp_path, shape("disc", [[0, 15], [39, 15]], kind))
    assert ((found == 1).sum(axis=0) == 10).all()


def test_a_point_is_a_small_disc(tmp_path: Path) -> None:
    found = drawn(tmp_path, shape("disc", [[20, 15]], "point"))
    assert found[15, 20] == found[10, 20] == 1 and found[8, 20] == 0 and (found == 1).sum() < 11**2


def test_a_stamped_mask_lies_where_its_box_begins(tmp_path: Path) -> None:
    stamp = np.zeros((4, 6), bool)
    stamp[1:3, 2:5] = True
    found = drawn(tmp_path, shape("disc", [[10, 20], [15, 23]], "mask", mask=png_text(stamp)))
    np.testing.assert_array_equal(found, filled(1, slice(21, 23), slice(12, 15)))


def test_a_stamp_may_be_of_zeros_and_ones(tmp_path: Path) -> None:
    encoded = png_text(np.ones((4, 6), np.uint8))
    found = drawn(tmp_path, shape("disc", [[10, 20], [15, 23]], "mask", mask=encoded))
    np.testing.assert_array_equal(found, filled(1, slice(20, 24), slice(10, 16)))


@pytest.mark.parametrize("corners", [(4, 6, 12, 11), (12, 11, 4, 6), (12, 6, 4, 11), (4, 11, 12, 6)])
def test_a_rectangle_may_be_drawn_from_any_corner(tmp_path: Path, corners: tuple[int, int, int, int]) -> None:
    found = drawn(tmp_path, box("square", *corners))
    np.testing.assert_array_equal(found, filled(2, slice(6, 12), slice(4, 13)))


def test_without_a_background_class_what_no_shape_covers_counts_nowhere(tmp_path: Path) -> None:
    found = drawn(tmp_path, box("square", 4, 6, 12, 11), classes=("disc", "square"))
    np.testing.assert_array_equal(found, filled(1, slice(6, 12), slice(4, 13), ground=IGNORED))


def test_what_is_no_class_and_what_is_to_be_ignored_counts_nowhere(tmp_path: Path) -> None:
    for label in ("triangle", "__ignore__"):
        found = drawn(tmp_path, box(label, 0, 0, 9, 9))
        np.testing.assert_array_equal(found, filled(IGNORED, slice(0, 10), slice(0, 10)))


def test_labelmes_own_background_erases(tmp_path: Path) -> None:
    found = drawn(tmp_path, box("disc", 0, 0, 9, 9), box("_background_", 5, 0, 9, 9))
    np.testing.assert_array_equal(found, filled(1, slice(0, 10), slice(0, 5)))


def test_labels_are_those_of_all_files_in_order(tmp_path: Path) -> None:
    annotate(tmp_path, "a", box("square", 0, 0, 1, 1), box("__ignore__", 0, 0, 1, 1))
    annotate(tmp_path, "deep/b", box("disc", 0, 0, 1, 1), box("_background_", 0, 0, 1, 1))
    assert LabelMe().labels(tmp_path) == CLASSES


def test_images_are_those_that_the_files_name_and_splits_those_of_their_folders(tmp_path: Path) -> None:
    annotate(tmp_path, "train/a")
    annotate(tmp_path, "train/b", image="..\\elsewhere\\b.jpg")
    annotate(tmp_path, "val/c", image="../images/other.jpg")
    annotate(tmp_path, "val/d", image="d.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "val/c.jpg").rename(tmp_path / "images/other.jpg")
    (tmp_path / "val/d.jpg").rename(tmp_path / "images/d.jpg")
    found = scan(tmp_path)
    assert not found.rejected
    assert [(entry.image, entry.mask, entry.official_split) for entry in found.entries] == [
        ("train/a.jpg", "train/a.json", "train"),
        ("train/b.jpg", "train/b.json", "train"),
        ("images/other.jpg", "val/c.json", "val"),
        ("images/d.jpg", "val/d.json", "val"),
    ]


def test_a_picture_elsewhere_is_not_taken_for_one_that_was_renamed_with_its_file(tmp_path: Path) -> None:
    annotate(tmp_path, "siteB/B_0001", image="0001.jpg")
    annotate(tmp_path, "json/0002")
    annotate(tmp_path, "json/0003_gt", image="0003.jpg")
    (tmp_path / "raw").mkdir()
    annotate(tmp_path, "siteC/C_0004", image="0004.jpeg")
    for name in ("0001.jpg", "0002.jpg", "0003.jpg", "0004.jpeg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"raw/{name}")
    # What was drawn of it, say, under the name of the JSON file.
    for name in ("0002", "0003_gt"):
        (tmp_path / f"json/{name}.jpg").rename(tmp_path / f"json/{name}.png")
    found = scan(tmp_path)
    assert {entry.mask: entry.image for entry in found.entries} == {
        "siteB/B_0001.json": "siteB/B_0001.jpg",
        "json/0002.json": "raw/0002.jpg",
        "json/0003_gt.json": "raw/0003.jpg",
        "siteC/C_0004.json": "siteC/C_0004.jpg",
    }


@pytest.mark.parametrize(("named", "found"), [("a.jpg", []), ("../night/a.jpg", ["night/a.jpg"])])
def test_of_two_pictures_elsewhere_only_one_whose_folder_is_told_is_taken(
    tmp_path: Path, named: str, found: list[str]
) -> None:
    annotate(tmp_path, "json/a", image=named)
    (tmp_path / "json/a.jpg").unlink()
    for folder in ("day", "night"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / folder / "a.jpg")
    assert [entry.image for entry in scan(tmp_path).entries] == found


def test_a_picture_may_be_embedded_before_the_shapes(tmp_path: Path) -> None:
    # Tools that write keys in alphabetical order put it there.
    annotate(tmp_path, "a", box("disc", 2, 2, 8, 8))
    path = tmp_path / "a.json"
    embedded = json.loads(path.read_text()) | {"imageData": "x" * (1 << 17)}
    path.write_text(json.dumps(embedded, sort_keys=True))
    found = scan(tmp_path)
    assert ([entry.mask for entry in found.entries], found.rejected) == (["a.json"], [])
    assert LabelMe().labels(tmp_path) == ("background", "disc")


def test_images_without_a_file_are_set_aside_and_files_without_image_rejected(
    tmp_path: Path,
) -> None:
    annotate(tmp_path, "a")
    annotate(tmp_path, "b")
    (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    found = scan(tmp_path)
    assert [entry.key for entry in found.entries] == ["a"]
    assert [(item.file, item.reason) for item in found.rejected] == [
        ("b.json", Reason.MASK_WITHOUT_IMAGE),
        ("c.jpg", Reason.UNLISTED),
    ]


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    annotate(tmp_path, "a")
    annotate(tmp_path, "b", image="a.jpg")
    with pytest.raises(StageError, match=r"a.json and b.json are both of the image a.jpg"):
        scan(tmp_path)


def test_old_files_that_tell_no_size_have_that_of_their_image(tmp_path: Path) -> None:
    annotate(tmp_path, "a", imageHeight=None, imageWidth=None)
    layout = config(tmp_path).source
    [entry] = layout.scan(tmp_path).entries
    mask = layout.open_mask(tmp_path, entry, 10**6)
    assert (mask.height, mask.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "damaged",
    [
        shape("disc", [[0, 0], [1, 1]]),
        shape("disc", [[0, 0], [1, "a"], [2, 2]]),
        shape("disc", [[0, 0], [1e9, 0], [0, 1e9]]),
        shape("disc", [[0, 0], [float("nan"), 0], [0, 5]]),
        shape("disc", [[0, 0], [1, 1]], "mask", mask="no picture"),
        shape("disc", [[0, 0], [1, 1]], "mask"),
        shape("disc", [[0, 0], [1, 1]], "spiral"),
        shape("disc", [[0, 0]], "circle"),
    ],
    ids=range(8),
)
def test_a_shape_that_cannot_be_drawn_rejects_its_image(tmp_path: Path, damaged: dict[str, Any]) -> None:
    with pytest.raises(InputRejectedError):
        drawn(tmp_path, damaged)


def test_a_file_that_the_machine_does_not_let_be_read_is_not_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    annotate(tmp_path, "a", box("disc", 2, 2, 8, 8))
    monkeypatch.setattr(json_file, "open_file", refuse)
    with pytest.raises(StageError, match=r"a\.json cannot be read: Too many open files, which is no fault"):
        scan(tmp_path)


def test_a_damaged_file_is_rejected_by_itself(tmp_path: Path) -> None:
    annotate(tmp_path, "a")
    annotate(tmp_path, "b")
    (tmp_path / "b.json").write_text('{"shapes": [')
    annotate(tmp_path, "c", shapes=[{"label": 3}])
    assert [(item.file, item.reason) for item in scan(tmp_path).rejected][:2] == [
        ("b.json", Reason.NOT_DECODABLE),
        ("c.json", Reason.NOT_DECODABLE),
    ]
