"""Raw labels: found with their shares in every encoding, and given a meaning."""

import contextlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import blocks, save_gray
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from components.image_mask_example_gen.config import DatasetConfig, RawLabel
from components.image_mask_example_gen.plan import stable_rank
from pipeline.init import InitError
from pipeline.init.classes import Labels, as_meant, propose_labels
from pipeline.init.label_files import SUFFIXES, ClassNames, read_class_names, read_label_file
from pipeline.init.label_values import RawLabels, read_raw_labels
from pipeline.init.shapes import Shape
from pipeline.init.voids import looks_void

Drawing = tuple[str, list[RawLabel], int]
BYTES = st.integers(0, 255)


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    """An encoding, the raw labels to draw with, and a seed."""
    encoding = draw(st.sampled_from(["gray", "palette", "16 bit", "rgb", "rgba", "mat"]))
    seed = draw(st.integers(0, 2**32 - 1))
    if encoding in ("rgb", "rgba"):
        # One colour at least is none of the grays, which could be taken for numbers.
        colors = st.lists(st.tuples(BYTES, BYTES, BYTES), min_size=2, max_size=30, unique=True)
        return encoding, list(draw(colors.filter(_has_a_color))), seed
    largest = 65_535 if encoding in ("16 bit", "mat") else 255
    numbers = st.lists(st.integers(0, largest), min_size=2, max_size=30, unique=True)
    return encoding, list(draw(numbers)), seed


def _has_a_color(colors: list[tuple[int, int, int]]) -> bool:
    return any(len(set(color)) > 1 for color in colors)


def save(encoding: str, raw: np.ndarray, path: Path) -> Path:
    if encoding == "mat":
        savemat(path.with_suffix(".mat"), {"groundtruth": raw.astype(np.uint16)})
        return path.with_suffix(".mat")
    if encoding == "rgba":
        alpha = np.random.default_rng(0).integers(128, 256, (*raw.shape[:2], 1))
        raw = np.concatenate([raw, alpha], axis=2)
    picture = Image.fromarray(raw.astype(np.uint16 if encoding == "16 bit" else np.uint8))
    if encoding == "palette":
        picture = Image.fromarray(raw.astype(np.uint8), "P")
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(path.with_suffix(".png"))
    return path.with_suffix(".png")


@settings(max_examples=50, deadline=None)
@given(drawings())
def test_any_mask_is_recognised_with_its_values_and_shares(drawing: Drawing) -> None:
    encoding, raws, seed = drawing
    rng = np.random.default_rng(seed)
    pixels: Counter[RawLabel] = Counter()
    masks: Counter[RawLabel] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index in range(3):
            ids = blocks(rng, len(raws) if index == 0 else int(rng.integers(1, len(raws) + 1)))
            counts = {raws[i]: int(count) for i, count in enumerate(np.bincount(ids.ravel())) if count}
            pixels.update(counts)
            masks.update(counts.keys())
            paths.append(save(encoding, np.asarray(raws)[ids], Path(folder, str(index))))
        found = read_raw_labels(paths, dict.fromkeys(paths, "PNG"))
    assert found.values == tuple(sorted(raws))
    assert found.pixels == pixels
    assert found.masks == masks
    assert found.in_colors == (encoding in ("rgb", "rgba"))
    for raw in raws:
        assert found.share(raw) == pytest.approx(pixels[raw] / (3 * ids.size))


def holding(*values: RawLabel, first: int = 100) -> RawLabels:
    """What a reading of masks finds, with these raw labels in 100 pixels each, but for the first."""
    counts = dict.fromkeys(values, 100)
    return RawLabels(
        masks_read=1,
        in_colors=isinstance(values[0], tuple),
        pixels=counts | {values[0]: first},
        masks=dict.fromkeys(values, 1),
        shapes={},
        contents=(),
        unreadable=(),
    )


def named(found: RawLabels, *names: str) -> Labels:
    return propose_labels(found, ClassNames(names))


def test_numbers_get_names_of_their_own() -> None:
    labels = propose_labels(holding(0, 1, 2), None)
    assert labels.dataset_keys() == {"classes": ["class_0", "class_1", "class_2"]}
    assert any("names are made up" in doubt for doubt in labels.doubts)


@pytest.mark.parametrize("value", [1, 255])
def test_two_values_are_background_and_object(value: int) -> None:
    assert propose_labels(holding(0, value), None).values == {"background": 0, "object": value}


@pytest.mark.parametrize(
    ("values", "ignored"),
    [
        ((0, 1, 2, 255), (255,)),
        ((0, 7, 11, 20, 33, 255), (255,)),
        ((0, 1, 65535), (65535,)),
        # Shades, not ids.
        ((0, 128, 255), ()),
        ((0, 255), ()),
    ],
)
def test_the_highest_value_beside_small_ids_is_ignored(values: tuple[int, ...], ignored: tuple[int]) -> None:
    labels = propose_labels(holding(*values), None)
    assert labels.ignored == ignored
    assert tuple(labels.values.values()) == tuple(value for value in values if value not in ignored)


@pytest.mark.parametrize(
    ("values", "names", "expected", "ignored"),
    [
        ((0, 1, 2), "abc", {"a": 0, "b": 1, "c": 2}, ()),
        # Trimaps count from one.
        ((1, 2, 3), "abc", {"a": 1, "b": 2, "c": 3}, ()),
        ((0, 255), "ab", {"a": 0, "b": 255}, ()),
        # A class that no mask read holds keeps its place.
        ((0, 2), "abc", {"a": 0, "b": 1, "c": 2}, ()),
        ((0, 1, 2, 255), "abc", {"a": 0, "b": 1, "c": 2}, (255,)),
        ((50, 100, 150), "abc", {"a": 50, "b": 100, "c": 150}, ()),
        (((0, 0, 0), (9, 9, 0)), "ab", {"a": (0, 0, 0), "b": (9, 9, 0)}, ()),
    ],
)
def test_names_are_dealt_out_in_order(
    values: tuple[RawLabel, ...], names: str, expected: dict[str, RawLabel], ignored: tuple[int, ...]
) -> None:
    labels = named(holding(*values), *names)
    assert labels.values == expected
    assert labels.ignored == ignored


@pytest.mark.parametrize(
    ("first", "values", "ignored", "question"),
    [
        (
            400,
            {"background": 0, "a": 1, "b": 2, "c": 3},
            (),
            r"0 \(57.1%\) has no name and was taken as background",
        ),
        (10, {"a": 1, "b": 2, "c": 3}, (0,), "0 has no name: taken as not labelled"),
    ],
)
def test_names_fewer_than_values_by_one_count_from_one(
    first: int, values: dict[str, RawLabel], ignored: tuple[int, ...], question: str
) -> None:
    labels = named(holding(0, 1, 2, 3, first=first), "a", "b", "c")
    assert (labels.values, labels.ignored) == (values, ignored)
    assert any(re.match(question, doubt) for doubt in labels.doubts)


def test_names_that_begin_with_a_background_count_from_zero() -> None:
    labels = named(holding(0, 1, 2, 3, first=400), "background", "b", "c")
    assert labels.values == {"background": 0, "b": 1, "c": 2}
    assert labels.ignored == (3,)
    assert any("3 has no name" in doubt for doubt in labels.doubts)


def test_a_rare_0_with_a_name_is_asked_about() -> None:
    # As where ADE20K's last class is in no mask: nothing else says that its names count from 1.
    rare = named(holding(0, 1, 2, 3, first=5), "wall", "building", "sky", "floor")
    assert any("counted from 0, so that wall is 0" in doubt for doubt in rare.doubts)
    assert not named(holding(0, 1, 2, 3, first=5), "background", "a", "b", "c").doubts


def test_the_names_of_ade20k_count_from_one() -> None:
    names = ("wall", *(f"thing {number}" for number in range(149)))
    labels = named(holding(0, 1, 5, 149), *names)
    assert labels.values == {name: value for value, name in enumerate(names, 1)}
    assert labels.ignored == (0,)


def test_a_name_of_nothing_is_ignored() -> None:
    labels = named(holding(0, 1, 2), "a", "Void", "c")
    assert labels.values == {"a": 0, "c": 2}
    assert labels.ignored == (1,) and "Void" in labels.reason
    doubtful = named(holding(0, 1, 2), "a", "unknown", "c")
    assert doubtful.values == {"a": 0, "unknown": 1, "c": 2}
    assert any("by its name, unknown means not labelled" in doubt for doubt in doubtful.doubts)


def test_black_beside_the_colours_of_street_scenes_is_void() -> None:
    streets = holding((0, 0, 0), (128, 0, 0), (128, 64, 128), (128, 128, 128))
    assert propose_labels(streets, None).ignored == ((0, 0, 0),)


def test_colours_are_looked_up_in_a_palette() -> None:
    given = ClassNames(("cat", "dog"), colors={"cat": (9, 0, 0), "dog": (0, 9, 0)})
    palette = {0: (0, 0, 0), 1: (0, 9, 0), 2: (9, 0, 0), 3: (9, 0, 0), 4: (0, 0, 0)}
    labels = propose_labels(holding(0, 1, 2, first=800), given, palette)
    assert labels.values == {"background": 0, "cat": 2, "dog": 1}
    with pytest.raises(InitError, match="whose palette shows other colours"):
        propose_labels(holding(0, 1, 2), given, {1: (1, 1, 1), 2: (2, 2, 2)})


def test_classes_that_the_masks_do_not_hold_are_refused() -> None:
    given = ClassNames(("background", "cat"), values={"background": 0, "cat": 7})
    with pytest.raises(InitError, match="only background of the classes told stands in the masks"):
        propose_labels(holding(0, 1, 2), given)


def test_numbers_of_single_objects_are_pointed_out() -> None:
    found = holding(0, 1, 2, 3, 4)
    counted = tuple((Path(str(last)), frozenset(range(last + 1))) for last in range(5))
    assert any(
        "single objects" in doubt for doubt in propose_labels(replace(found, contents=counted), None).doubts
    )
    classes = ((Path("a"), frozenset({0, 2, 4})), *counted)
    assert not any(
        "single objects" in doubt for doubt in propose_labels(replace(found, contents=classes), None).doubts
    )


@pytest.mark.parametrize(
    ("pixels", "beside", "masks", "asked"),
    [
        ((700, 300, 80), 0, 14, True),
        ((700, 300, 8), 0, 14, False),  # A tumour is smaller than its organ.
        ((700, 300, 80), 1, 14, False),  # It lies in it.
        ((350, 200, 80), 0, 9, False),
    ],
)
def test_numbers_of_few_objects_are_told_from_classes_that_come_only_with_others(
    pixels: tuple[int, ...], beside: int, masks: int, asked: bool
) -> None:
    lasts = [3, 2, 2, *[1] * 11][:masks]
    values = range(1, 4)
    held: dict[RawLabel, int] = {value: sum(last >= value for last in lasts) for value in range(4)}
    found = replace(
        holding(0, 1, 2, 3),
        pixels={0: 9000, **dict(zip(values, pixels, strict=True))},
        masks=held,
        contents=tuple((Path(str(n)), frozenset(range(last + 1))) for n, last in enumerate(lasts)),
        shapes={value: Shape(50, 9, 9, 9, 0, Counter({0: 20, value % 3 + 1: beside})) for value in values},
    )
    assert any("single objects" in doubt for doubt in propose_labels(found, None).doubts) == asked


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((1, 2), (127, 254), True),
        ((1, 2, 3), (85, 170, 255), True),
        ((1,), (128,), True),
        ((1, 2), (3, 4), False),
        ((1, 2), (100, 254), False),
        ((1, 2), (127,), False),
    ],
)
def test_classes_written_on_two_scales_are_pointed_out(
    one: tuple[int, ...], other: tuple[int, ...], said: bool
) -> None:
    contents = tuple(
        (Path(f"{number}"), frozenset((0, *(one if number % 2 else other)))) for number in range(6)
    )
    found = replace(holding(0, *one, *other), contents=contents)
    assert any("written in two ways" in doubt for doubt in propose_labels(found, None).doubts) == said
    together = (*contents, (Path("both"), frozenset((*one, *other))))
    doubts = propose_labels(replace(found, contents=together), None).doubts
    assert not any("written in two ways" in doubt for doubt in doubts)


def test_a_number_of_names_that_fits_nothing_is_refused() -> None:
    with pytest.raises(InitError, match=r"2 names, but the masks read hold 5 values: 0 \(20.0%\)"):
        named(holding(0, 1, 2, 3, 4), "a", "b")


def test_what_several_raw_labels_without_a_class_become_is_a_valid_block() -> None:
    labels = propose_labels(holding(3, 5, 7, 9), ClassNames(("a", "b"), {"a": 7, "b": 3}))
    keys = {"layout": "folder", "root": "/r", "images": "*.jpg", "masks": "*.png", **labels.dataset_keys()}
    names, ignored = DatasetConfig.model_validate(keys).raw_labels()
    assert names == {7: "a", 3: "b"}
    assert ignored == {5, 9}


def test_a_border_is_pointed_out_and_left_a_class(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:96, :128]
    paths = []
    for index in range(3):
        distance = np.hypot(rows - 48, columns - 50 - 10 * index)
        trimap = np.where(distance < 28, 1, np.where(distance < 31, 3, 2))
        save_gray(tmp_path / str(index), trimap)
        paths.append(tmp_path / f"{index}.png")
    labels = propose_labels(read_raw_labels(paths, {}), None)
    assert labels.ignored == ()
    assert any("3, the highest value, lies in thin strips" in doubt for doubt in labels.doubts)


def streets(rng: np.random.Generator, void: int, pole: int) -> np.ndarray:
    """A street scene: areas, things, and poles in front of all; void outlines all but these."""
    rows, columns = np.mgrid[:96, :128]
    horizon = 40 + rng.integers(-5, 5)
    scene = np.where(rows < 15 + rng.integers(0, 5), 0, np.where(rows < horizon, 1, 2))
    scene = np.where((rows > horizon) & (columns < 30 + rng.integers(-9, 9)), 3, scene)
    for kind in (4, 5):
        for row, column in zip(rng.integers(20, 90, 4), rng.integers(0, 128, 4), strict=True):
            scene[row : row + 18, column : column + 22] = kind
    steps = (scene != np.roll(scene, 1, 0)) | (scene != np.roll(scene, 1, 1))
    scene = np.where(ndimage.binary_dilation(steps), void, scene)
    for column in rng.integers(2, 126, 4):
        scene[10:80, column : column + 2] = pole
    return scene


@pytest.mark.parametrize(("void", "pole"), [(7, 6), (6, 7)])
def test_the_outline_of_everything_is_told_from_thin_things(tmp_path: Path, void: int, pole: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(12):
        save_gray(tmp_path / str(index), streets(rng, void, pole))
    found = read_raw_labels(sorted(tmp_path.iterdir()), {})
    assert [value for value in found.values if looks_void(value, found)] == [void]


@pytest.mark.parametrize(
    ("folder", "voids"),
    [
        ("camvid/*annot", [11]),
        ("oxford_iiit_pet/annotations/trimaps", [3]),
        ("kitti_semantics/training/semantic", []),
        ("clothing_co_parsing/annotations/pixel-level", []),
    ],
)
def test_void_is_found_in_real_masks_and_nothing_else_is(
    shared_data: Path, folder: str, voids: list[int]
) -> None:
    [masks] = shared_data.glob(folder)
    paths = sorted(path for path in masks.iterdir() if path.suffix in (".png", ".mat"))
    paths.sort(key=lambda path: stable_rank(path.stem, "survey"))
    found = read_raw_labels(paths[:50], {})
    assert len(found.values) > 1
    assert [value for value in found.values if looks_void(value, found)] == voids


@pytest.mark.parametrize(
    ("text", "raws"),
    [
        ("# ids\n0 sky\n 7: road, wet\n", {"sky": 0, "road, wet": 7}),
        ("sky,0\nzone 1\t7\n", {"sky": 0, "zone 1": 7}),
        # What columns are called, in any order and among others.
        ("id,name\n0,sky\n7,road\n", {"sky": 0, "road": 7}),
        ("Pixel Value, Class\n0, sky\n7, road\n", {"sky": 0, "road": 7}),
        ("Idx\tRatio\tStuff\tName\n1\t0.2\t1\twall\n2\t0.1\t1\tfloor, flooring\n", {"wall": 1, "floor": 2}),
        ('Idx,Ratio,Stuff,Name\n1,0.2,1,wall\n2,0.1,1,"floor;flooring"\n', {"wall": 1, "floor": 2}),
        (
            "name,id,trainId,category\nego,-1,255,void\nroad,7,0,flat\ncar,26,13,vehicle\n",
            {"road": 7, "car": 26},
        ),
        ("name,r,g,b\nsky,1,2,3\nroad,4,5,6\n", {"sky": (1, 2, 3), "road": (4, 5, 6)}),
        ("name; r; g; b\nsky;1;2;3\n", {"sky": (1, 2, 3)}),
        ("name,hex\nsky,#010203\nroad,FF0000\n", {"sky": (1, 2, 3), "road": (255, 0, 0)}),
        ("unheard,of,it,all\nsky,1,2,3\nroad,4,5,6\n", {"sky": (1, 2, 3), "road": (4, 5, 6)}),
        # CVAT's parts and actions are no classes.
        (
            "# label:color_rgb:parts:actions\nroad:128,64,128:wheel,door:\nsky:0,0,9::\n",
            {"road": (128, 64, 128), "sky": (0, 0, 9)},
        ),
        ("128 64 128 road\n0 0 0\tvoid\n", {"road": (128, 64, 128), "void": (0, 0, 0)}),
        ("#804080 road\nsky 0x000009\n", {"road": (128, 64, 128), "sky": (0, 0, 9)}),
        ("[128, 64, 128], road\nsky: (0, 0, 9)\n", {"road": (128, 64, 128), "sky": (0, 0, 9)}),
    ],
)
def test_a_file_of_names_may_tell_values_or_colours(
    tmp_path: Path, text: str, raws: dict[str, RawLabel]
) -> None:
    assert told(written(tmp_path / "classes.txt", text)) == raws


@pytest.mark.parametrize(
    ("tree", "raws"),
    [
        ([{"png_index": 1, "class_name": "cat", "color": "#010203"}], {"cat": 1}),
        ({"classes": [{"title": "cat", "shape": "bitmap", "color": "#010203"}]}, {"cat": (1, 2, 3)}),
        ({"cat": [3, 3, 3], "dog": [4, 4, 4]}, {"cat": 3, "dog": 4}),
        ({"labels": {"background": 0, "tumor": 1}, "numTraining": 9}, {"background": 0, "tumor": 1}),
        ({"id2label": {"0": "sky", "1": "road"}}, {"sky": 0, "road": 1}),
        (
            {"labels": [{"name": "a--b", "readable": "B", "color": [1, 2, 3], "evaluate": True}]},
            {"a--b": (1, 2, 3)},
        ),
        ({"categories": [{"id": 3, "name": "cat", "supercategory": "pet"}]}, {"cat": 3}),
    ],
)
def test_json_may_tell_values_or_colours(tmp_path: Path, tree: object, raws: dict[str, RawLabel]) -> None:
    assert told(written(tmp_path / "x.json", json.dumps(tree))) == raws


def test_numbers_go_with_colours_where_a_file_has_both(tmp_path: Path) -> None:
    read = read_label_file(written(tmp_path / "both.csv", "1,road,128,64,128\n2,sky,0,0,9\n"))
    assert read.values == {"road": 1, "sky": 2}
    assert read.colors == {"road": (128, 64, 128), "sky": (0, 0, 9)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "road\nzone 1\nzone 2\n"),
        ("a.csv", "\ufeffclass_name\nroad\nzone 1\nzone 2\n"),
        ("a.json", '["road", "zone 1", "zone 2"]'),
        ("data.yaml", "nc: 3\nnames: [road, zone 1, zone 2]\n"),
    ],
)
def test_a_file_may_hold_names_alone(tmp_path: Path, name: str, text: str) -> None:
    assert read_label_file(written(tmp_path / name, text)) == ClassNames(("road", "zone 1", "zone 2"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("building 2\nsky 0\ntraffic light 11\n", {"building": 2, "sky": 0, "traffic light": 11}),
        ("zone 1\nzone 2\n", None),
        ("road 1\nroof 1\n", None),
        ("road 1\nroof 99999\n", None),
        ("road 1\n", None),
    ],
)
def test_a_number_after_a_blank_is_a_value_where_names_and_numbers_all_differ(
    tmp_path: Path, text: str, values: dict[str, int] | None
) -> None:
    read = read_label_file(written(tmp_path / "a.txt", text))
    assert read == ClassNames(tuple(values or text.splitlines()), values)


@pytest.mark.parametrize(
    ("text", "held", "names"),
    [
        ("Boeing 747\nAirbus 320\nCessna 172\n", (0, 1, 2), ("Boeing 747", "Airbus 320", "Cessna 172")),
        ("Boeing 747\nAirbus 320\n", (0, 255), ("Boeing 747", "Airbus 320")),
        ("grade 2\nstage 3\n", (0, 1, 2), ("grade 2", "stage 3")),
        ("grade 2\nstage 3\n", (0, 2, 3), ("grade", "stage")),
        ("building 2\nsky 0\nroad 1\n", (0, 1, 255), ("building", "sky", "road")),
        ("road 1\nsky 2\ncar 4\ntram 9\n", (0, 1, 2, 3, 4), ("road", "sky", "car", "tram")),
        ("road 7\nsky 8\n", (0, 1, 2, 3, 7, 8), ("road", "sky")),
    ],
)
def test_a_number_at_the_end_is_part_of_the_name_where_masks_do_not_hold_such_values(
    tmp_path: Path, text: str, held: tuple[int, ...], names: tuple[str, ...]
) -> None:
    given = as_meant(read_label_file(written(tmp_path / "a.txt", text)), holding(*held))
    assert given.names == names and given.told == (names[0] not in text.splitlines())
    propose_labels(holding(*held), given)


def told(path: Path) -> dict[str, RawLabel]:
    """Values where a label file tells them, else colours; the names are theirs."""
    read = read_label_file(path)
    raws: Mapping[str, RawLabel] = read.values or read.colors or {}
    assert read.names == tuple(raws)
    return dict(raws)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_longer_than_a_file_s_name_is_a_list() -> None:
    names = tuple(f"class {index}" for index in range(60))
    assert read_class_names(",".join(names)) == ClassNames(names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 0 0 0 1 0 0 Clear\n1 255 0 0 1 1 1 Lung\n", "is more than a name and its value or colour"),
        # Columns of a classification's list.
        ("filename, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\n", "is more than a name and its value or colour"),
        ("road,1\nsky\n", "tells the value or colour of some classes but not of 'sky'"),
        ("road,1\nsky,1,2,3\n", "mixes numbers and colours"),
        ("road,1\nsky,1\n", "'road' and 'sky' are both 1"),
        ("road,300,2,3\nsky,1,2,3\n", r"\[300, 2, 3\] is no colour"),
        ("name,id\nroad,1,2\nsky,3\n", "line 2 has 3 fields, not 2"),
        ("road;the road\nsky;the sky\n", "a table that begins with 'road;the road'"),
        ("", "names no class"),
        ("\n".join(map(str, range(1000, 1300))), "300 names; there can be no more than 255"),
    ],
)
def test_a_file_that_is_no_list_of_classes_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path / "names.txt", text)
    with pytest.raises(InitError, match=problem):
        read_class_names(str(path))


WORDS = st.sampled_from(
    [
        *"abz01,;:|\t\n\r\0#\"'[]{}()-&*!%@`",
        "name",
        "id",
        "color",
        "classes",
        "names",
        "255",
        "70000",
        "#ff00ff",
        "1,2,3",
        "\n\n",
        ": ",
        "- ",
        "{}",
        "null",
        "1e9",
        "ß",
        "\ufeff",
        "title",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=30).map("".join)).map(str.encode)
    | st.binary(max_size=60),
    st.sampled_from(SUFFIXES),
)
def test_whatever_a_label_file_holds_it_is_read_or_refused(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels").with_suffix(suffix)
        path.write_bytes(data)
        try:
            read = read_label_file(path)
        except InitError:
            return
    assert read.names and all(read.names) and len(set(read.names)) == len(read.names)
    for raws in (read.values, read.colors):
        assert raws is None or (tuple(raws) == read.names and len(set(raws.values())) == len(raws))


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70_000)
    | st.floats()
    | st.sampled_from(["a", "b", "#010203", "1", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["classes", "names", "name", "id", "color", "r", "g", "b", "0", "1"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_whatever_json_says_it_is_read_or_refused(tree: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder, "x.json"), json.dumps(tree))
        with contextlib.suppress(InitError):
            assert read_label_file(path).names


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("nothing.txt", "there is no file 'nothing.txt'"),
        ("a,b,a", "a is given more than once"),
        ("a,,b", "a name is empty"),
    ],
)
def test_names_that_cannot_be_right_are_refused(given: str, problem: str) -> None:
    with pytest.raises(InitError, match=problem):
        read_class_names(given)
