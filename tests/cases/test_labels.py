"""What masks mean: label files read by themselves, and doubts where names and masks do not agree."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import first_recipe
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from components.image_mask_example_gen.config import DatasetConfig, RawLabel

Case = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]
THREE = {0: "background", 1: "square", 2: "disc"}


def init(images: Path, masks: Path, *more: str) -> DatasetConfig:
    """The dataset of the recipe as it is."""
    return first_recipe.init(images, masks, images.parents[1] / "r.yaml", *more).dataset


def refused(capsys: Capture, images: Path, masks: Path, *more: str) -> str:
    output = images.parents[1] / "r.yaml"
    line = first_recipe.refused(capsys, images, masks, output, *more)
    assert not output.exists()
    return line


def meaning(dataset: DatasetConfig) -> tuple[dict[RawLabel, str], frozenset[RawLabel]]:
    """Names and ignored raw labels, as the ingestion takes them."""
    return dataset.raw_labels()


@pytest.mark.parametrize("masks", ["annotations", "labels"])
@pytest.mark.parametrize("file", ["names.txt", "objectInfo.txt", "ids.txt", ""])
def test_names_of_ade20k_count_from_one(case: Case, capsys: Capture, file: str, masks: str) -> None:
    root = case("ade")
    (root / "annotations").rename(root / masks)
    more = ("--classes", str(root / file)) if file else ()
    names, ignored = meaning(init(root / "images", root / masks, *more))
    assert names == {1: "wall", 2: "building", 3: "sky", 4: "floor"}
    assert 0 in ignored and not ignored & names.keys()
    said = capsys.readouterr().out
    if masks == "labels":
        assert "Check: " in said
        assert ("classes from" in said) == (not file)
    else:
        assert "in the layout ade20k" in said


def test_a_head_is_no_class_and_colours_are_no_numbers(case: Case, capsys: Capture) -> None:
    root = case("hasty")
    folders = root / "images", root / "masks"
    for file in ("rgbhex.csv", "semicolon.csv"):
        line = refused(capsys, *folders, "--classes", str(root / file))
        assert "the file tells colours, but the masks hold numbers" in line
    for more in (
        ("--classes", str(root / "names_head.csv")),
        ("--classes", str(root / "label_classes.json")),
        (),
    ):
        assert meaning(init(*folders, *more)) == (THREE, set())
    assert "classes from" in capsys.readouterr().out


@pytest.mark.parametrize("named", [True, False])
def test_a_palette_tells_which_number_a_colour_is(case: Case, named: bool) -> None:
    root = case("cvat_palette")
    more = ("--classes", str(root / "labelmap.txt")) if named else ()
    # As the layout voc, which reads the colours themselves.
    names, _ = meaning(init(root / "JPEGImages", root / "SegmentationClass", *more))
    assert names == {(0, 0, 0): "background", (128, 0, 0): "square", (0, 128, 0): "disc"}
    (root / "SegmentationClass").rename(root / "masks")
    assert meaning(init(root / "JPEGImages", root / "masks", *more)) == (THREE, set())


def test_masks_of_single_objects_are_refused(case: Case, capsys: Capture) -> None:
    root = case("cvat")
    folders = root / "images", root / "SegmentationObject"
    line = refused(capsys, *folders, "--classes", str(root / "labelmap.txt"))
    assert "only background of the classes told stands in the masks" in line
    assert "name SegmentationClass beside it" in refused(capsys, *folders)
    names, ignored = meaning(init(root / "images", root / "SegmentationClass"))
    assert names == {(48, 112, 32): "Cat", (0, 0, 0): "background", (176, 112, 32): "Dog"}
    assert not ignored
    # Elsewhere nothing but the file speaks against them.
    objects = root / "masks"
    (root / "SegmentationObject").rename(objects)
    init(root / "images", objects)
    assert "labelmap.txt is not used: only background" in capsys.readouterr().out


def test_classes_of_deepglobe_are_read_from_beside_the_data(case: Case, capsys: Capture) -> None:
    root = case("deepglobe")
    for kind, suffix in (("sat", ".jpg"), ("mask", ".png")):
        (root / kind).mkdir()
        for path in (root / "train").glob(f"*_{kind}{suffix}"):
            path.rename(root / kind / path.name.replace(f"_{kind}", ""))
    dataset = init(root / "sat", root / "mask")
    names, _ = meaning(dataset)
    assert names == {(0, 255, 255): "urban_land", (255, 255, 0): "agriculture_land", (0, 0, 255): "water"}
    assert dataset.label_values is not None and len(dataset.label_values) == 7
    said = capsys.readouterr().out
    assert "class_dict.csv: [0, 255, 255] urban_land, [255, 255, 0] agriculture_land" in said
    assert "4 of 7 classes are in no mask, and left out: rangeland, forest_land, barren_land, unknown" in said


def test_numbers_of_supervisely_are_read_from_beside_the_data(case: Case, capsys: Capture) -> None:
    root = case("supervisely")
    assert meaning(init(root / "ds0" / "img", root / "ds0" / "masks_machine")) == (THREE, set())
    # It holds no classes, as it often does.
    assert "meta.json" not in capsys.readouterr().out


def test_a_class_that_no_training_image_shows_is_said(case: Case, capsys: Capture) -> None:
    root = case("imbalance")
    init(root / "images", root / "masks")
    assert "class_2 is in no training image, and no number of epochs can teach it" in capsys.readouterr().out


CAMVID = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Column_Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Sidewalk": (0, 0, 192),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
    "Void": (0, 0, 0),
}


@pytest.mark.parametrize("file", ["label_colors.txt", "class_dict.csv", ""])
def test_camvid_as_it_is_published_has_its_names_and_no_void(
    shared_data: Path, tmp_path: Path, capsys: Capture, file: str
) -> None:
    colors = np.asarray(list(CAMVID.values()), np.uint8)
    folders = tmp_path / "CamVid" / "701_StillsRaw_full", tmp_path / "CamVid" / "LabeledApproved_full"
    for folder in folders:
        folder.mkdir(parents=True)
    for path in sorted((shared_data / "camvid" / "val").iterdir())[::6]:
        (folders[0] / path.name).symlink_to(path)
        with Image.open(shared_data / "camvid" / "valannot" / path.name) as mask:
            Image.fromarray(colors[np.asarray(mask)]).save(folders[1] / f"{path.stem}_L.png")
    classes = {**CAMVID, "Animal": (64, 128, 64), "LaneMkgsDriv": (128, 0, 192)}
    lines = {
        "label_colors.txt": [f"{r} {g} {b}\t\t{name}" for name, (r, g, b) in classes.items()],
        "class_dict.csv": ["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in classes.items())],
    }
    if file:
        (tmp_path / "CamVid" / file).write_text("\n".join(lines[file]))
    dataset = init(*folders)
    names, ignored = meaning(dataset)
    assert names.keys() == set(CAMVID.values()) - {(0, 0, 0)}
    assert (0, 0, 0) in ignored
    if file:
        assert names == {color: name for name, color in CAMVID.items() if name != "Void"}
        assert ignored == {(0, 0, 0), (64, 128, 64), (128, 0, 192)}
        assert "2 of 13 classes are in no mask, and left out: Animal, LaneMkgsDriv" in capsys.readouterr().out


# What people have beside masks of 0, 1 and 2, or of three colours.

COLORS = {"background": (0, 0, 0), "square": (200, 10, 10), "disc": (10, 10, 200)}


def draw(root: Path, *, colors: bool = False, shift: int = 0) -> tuple[Path, Path]:
    rows, columns = np.mgrid[:48, :64]
    rng = np.random.default_rng(0)
    for index in range(9):
        ids = np.zeros((48, 64), np.uint8)
        ids[5:20, 5 + index : 20 + index] = 1
        ids[np.hypot(rows - 30, columns - 40) < 6 + index % 3] = 2
        mask = np.asarray(list(COLORS.values()), np.uint8)[ids] if colors else ids + np.uint8(shift)
        for folder, pixels in (("images", rng.integers(0, 256, (48, 64, 3), np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root / "images", root / "masks"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data/_classes.csv", "Pixel Value, Class\n0, background\n1, square\n2, disc\n"),
        ("data/masks/_classes.csv", "Pixel Value, Class\n0, background\n1, square\n2, disc\n"),
        (
            "data/annotations/label_classes.json",
            json.dumps([{"png_index": 1, "class_name": "square"}, {"png_index": 2, "class_name": "disc"}]),
        ),
        ("data/labels.txt", "background\nsquare\ndisc\n"),
        ("classes.txt", "square\ndisc\n"),
        ("data/class_names.txt", "1 square\n2 disc\n"),
        ("dataset.json", '{"labels": {"background": 0, "square": 1, "disc": 2}}'),
        ("data/data.yaml", "names: [background, square, disc]\n"),
        ("data/Labels.TXT", "0: background\n1: square\n2: disc\n"),
    ],
)
def test_numbers_have_names_beside_them(tmp_path: Path, capsys: Capture, file: str, text: str) -> None:
    images, masks = draw(tmp_path / "data")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert meaning(init(images, masks)) == (THREE, set())
    assert f"classes from {tmp_path / file}: 0 background, 1 square, 2 disc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\nsquare,200,10,10\ndisc,10,10,200\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsquare:200,10,10:a,b:\ndisc:10,10,200::\n"),
        (
            "meta.json",
            json.dumps(
                {"classes": [{"title": "square", "color": "#C80A0A"}, {"title": "disc", "color": "#0A0AC8"}]}
            ),
        ),
        ("label_colors.txt", "200 10 10\tsquare\n10 10 200\tdisc\n"),
        ("colormap.csv", "class;hex\nsquare;c80a0a\ndisc;0a0ac8\n"),
    ],
)
def test_colours_have_names_beside_them(tmp_path: Path, file: str, text: str) -> None:
    images, masks = draw(tmp_path / "data", colors=True)
    (tmp_path / "data" / file).write_text(text)
    names, ignored = meaning(init(images, masks))
    assert names == {color: name for name, color in COLORS.items()}
    assert not ignored


def test_names_in_a_matlab_file_are_read(tmp_path: Path) -> None:
    images, masks = draw(tmp_path / "data", shift=1)
    savemat(tmp_path / "names.mat", {"label_list": np.array(["background", "square", "disc"], object)})
    expected = {1: "background", 2: "square", 3: "disc"}
    assert meaning(init(images, masks, "--classes", str(tmp_path / "names.mat"))) == (expected, set())
    savemat(tmp_path / "names.mat", {"label_list": np.arange(3)})


def test_a_matlab_file_without_names_is_refused(tmp_path: Path, capsys: Capture) -> None:
    images, masks = draw(tmp_path / "data")
    file = tmp_path / "names.mat"
    savemat(file, {"numbers": np.arange(3)})
    assert "one list of strings; this one has none" in refused(capsys, images, masks, "--classes", str(file))
    file.write_bytes(b"\xf6 no MATLAB")
    assert "no MATLAB 5 file" in refused(capsys, images, masks, "--classes", str(file))


def test_a_label_file_of_other_masks_is_said_and_left(tmp_path: Path, capsys: Capture) -> None:
    images, masks = draw(tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text(
        "".join(f"name {n}\n" for n in range(40, 44)) + "7 seven\n"
    )
    (tmp_path / "data" / "labels.csv").write_text("name,id\nroad,11\ncar,26\n")
    names, _ = meaning(init(images, masks))
    assert list(names.values()) == ["class_0", "class_1", "class_2"]
    said = capsys.readouterr().out
    assert "labels.csv is not used: none of the classes told stands in the masks" in said
    assert "classes.txt is not used" in said


def test_a_class_in_no_mask_is_left_out_though_an_image_is_damaged(tmp_path: Path) -> None:
    images, masks = draw(tmp_path / "data")
    for index in range(9, 21):
        for folder in (images, masks):
            (folder / f"{index}.png").symlink_to(folder / f"{index % 9}.png")
    (images / "9.png").unlink()
    # Its header alone is whole.
    (images / "9.png").write_bytes((images / "0.png").read_bytes()[:200])
    (tmp_path / "data/class_dict.csv").write_text("name,id\nbackground,0\nsquare,1\ndisc,2\nriver,3\n")
    dataset = init(images, masks)
    assert dataset.classes == ("background", "square", "disc")
    assert dataset.label_values is not None and "river" in dataset.label_values


def test_numbers_at_the_ends_of_names_that_no_mask_holds_are_parts_of_them(tmp_path: Path) -> None:
    images, masks = draw(tmp_path / "data")
    names = ["Boeing 747", "Airbus 320", "Cessna 172"]
    file = tmp_path / "data" / "classes.txt"
    file.write_text("\n".join(names))
    for args in ((), ("--classes", str(file))):
        assert list(meaning(init(images, masks, *args))[0].values()) == names


def test_of_two_label_files_that_disagree_one_is_taken_and_said(tmp_path: Path, capsys: Capture) -> None:
    images, masks = draw(tmp_path / "data")
    (tmp_path / "data" / "_classes.csv").write_text("Pixel Value,Class\n0,background\n1,square\n2,disc\n")
    (tmp_path / "data" / "label_map.csv").write_text("name,id\nbackground,0\nsquare,2\ndisc,1\n")
    assert meaning(init(images, masks)) == (THREE, set())
    said = capsys.readouterr().out
    assert "label_map.csv says otherwise, 0 background, 2 square, 1 disc" in said
    shutil.copy(tmp_path / "data" / "_classes.csv", tmp_path / "data" / "label_map.csv")
    init(images, masks)
    assert "says otherwise" not in capsys.readouterr().out
