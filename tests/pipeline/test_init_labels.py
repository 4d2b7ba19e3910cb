"""Raw labels: found with their shares in every encoding, and given a meaning."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import blocks, save_gray
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from components.image_mask_example_gen.config import DatasetConfig, RawLabel
from pipeline.init import InitError
from pipeline.init.classes import ClassNames, Labels, propose_labels, read_class_names
from pipeline.init.label_values import RawLabels, read_raw_labels

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


def holding(*values: RawLabel) -> RawLabels:
    """What a reading of masks with these raw labels finds, each in as many pixels as the next."""
    return RawLabels(
        masks_read=1,
        in_colors=isinstance(values[0], tuple),
        pixels=dict.fromkeys(values, 100),
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
        # CamVid's void comes last and has no name.
        ((0, 1, 2, 3), "abc", {"a": 0, "b": 1, "c": 2}, (3,)),
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


def test_a_number_of_names_that_fits_nothing_is_refused() -> None:
    with pytest.raises(InitError, match=r"gives 2 names, but the masks read hold 5 values: 0 \(20.0%\)"):
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


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        ("road\nzone 1\nzone 2\n", ("road", "zone 1", "zone 2"), None),
        ("# ids\n0 sky\n 7: road, wet\n", ("sky", "road, wet"), {"sky": 0, "road, wet": 7}),
        ("sky,0\nzone 1\t7\n", ("sky", "zone 1"), {"sky": 0, "zone 1": 7}),
        ("name,r,g,b\nsky,1,2,3\nroad,4,5,6\n", ("sky", "road"), {"sky": (1, 2, 3), "road": (4, 5, 6)}),
        ("road:128,64,128::\nvoid:0,0,0::\n", ("road", "void"), {"road": (128, 64, 128), "void": (0, 0, 0)}),
        ("128 64 128 road\n0 0 0\tvoid\n", ("road", "void"), {"road": (128, 64, 128), "void": (0, 0, 0)}),
    ],
)
def test_a_file_of_names_may_tell_values(
    tmp_path: Path, text: str, names: tuple[str, ...], values: dict[str, RawLabel] | None
) -> None:
    path = tmp_path / "names.txt"
    path.write_text(text)
    assert read_class_names(str(path)) == ClassNames(names, values)


def test_a_list_longer_than_a_file_s_name_is_a_list() -> None:
    names = tuple(f"class {index}" for index in range(60))
    assert read_class_names(",".join(names)) == ClassNames(names)


@pytest.mark.parametrize("line", ["1,road,128,64,128", "road:128,64,128:wheel,door:"])
def test_a_line_with_more_than_a_name_and_a_colour_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(f"{line}\nsky,0,0,9\n")
    with pytest.raises(InitError, match="is more than a name and its value or colour"):
        read_class_names(str(path))


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
