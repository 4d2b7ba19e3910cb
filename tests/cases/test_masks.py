"""Masks as people have them: each pixel is the class that was meant, or the run says why not."""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ingested import ingest, read_split
from PIL import Image

from components.dataset.features import IGNORE_LABEL, MASK_ENCODED, SPLITS
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig, RawLabel, label_distance
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.folder import MaskValues
from components.image_mask_example_gen.mask import open_mask
from components.image_mask_example_gen.report import Reason

Case = Callable[[str], Path]
Masks = Mapping[str, np.ndarray]

RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)
BINARY = {"background": 0, "object": 255}
SIZE = (48, 64)


def folder(root: Path, **keys: Any) -> DatasetConfig:
    """The dataset in ``images`` and ``masks``."""
    images, masks = (next((root / name).iterdir()).suffix for name in ("images", "masks"))
    patterns = {"images": f"images/*{images}", "masks": f"masks/*{masks}"}
    return DatasetConfig.model_validate({"layout": "folder", "root": str(root), **patterns, **keys})


def class_ids(dataset: DatasetConfig) -> Masks:
    """What ingestion makes of each mask, by the mask's stem."""
    with tempfile.TemporaryDirectory() as out:
        ingest(dataset, Path(out))
        examples = {
            name: example for split in SPLITS for name, example in read_split(Path(out), split).items()
        }
    return {
        Path(name).stem: np.asarray(Image.open(io.BytesIO(example[MASK_ENCODED])))
        for name, example in examples.items()
    }


def pictures(folder: Path) -> Mapping[str, Image.Image]:
    return {path.stem: Image.open(path) for path in sorted(folder.iterdir())}


def mask_of(
    picture: Image.Image, suffix: str = ".png", values: MaskValues | None = None, **how: Any
) -> np.ndarray:
    """Saves a picture and reads it as a mask of numbers."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"m{suffix}")
        picture.save(path, **how)
        return open_mask(path, 10**6, values).read(as_colors=False)


def squares() -> np.ndarray:
    """Class ids, uint8 [height, width]: 0, a square of 1, another one of 2."""
    ids = np.zeros(SIZE, np.uint8)
    ids[4:20, 4:24], ids[26:40, 30:60] = 1, 2
    return ids


def draw(root: Path, masks: Sequence[Image.Image], suffix: str = ".png", **how: Any) -> Path:
    """Saves masks, and an image for each."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index, mask in enumerate(masks):
        pixels = rng.integers(0, 256, (mask.height, mask.width, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index:03d}.png")
        mask.save(root / "masks" / f"{index:03d}{suffix}", **how)
    return root


# Palettes


def test_numbers_whose_palettes_differ_are_refused_and_read_by_colour_if_told(case: Case) -> None:
    root = case("palettes_one")
    with pytest.raises(
        StageError, match=r"index 1 is \[255, 0, 0\] in 11 masks, such as masks/000.png, and "
    ) as caught:
        class_ids(folder(root, classes=["a", "b", "c"]))
    assert "[0, 0, 255] in 1, such as masks/005.png" in str(caught.value)
    found = class_ids(folder(root, label_values={"a": BLACK, "b": RED, "c": BLUE}))
    for name, picture in pictures(root / "masks").items():
        shown = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(found[name], (shown == RED).all(-1) + 2 * (shown == BLUE).all(-1))


def test_numbers_count_whatever_their_palettes_show_if_told(case: Case) -> None:
    root = case("palettes_one")
    found = class_ids(folder(root, classes=["a", "b", "c"], mask_values="index"))
    for name, picture in pictures(root / "masks").items():
        np.testing.assert_array_equal(found[name], np.asarray(picture))


def test_palettes_may_differ_in_what_no_pixel_uses(tmp_path: Path) -> None:
    masks = []
    for tail in range(4):
        mask = Image.fromarray(squares(), "P")
        mask.putpalette([*BLACK, *RED, *BLUE, tail, tail, tail])
        masks.append(mask)
    found = class_ids(folder(draw(tmp_path, masks), classes=["a", "b", "c"]))
    assert len(found) == 4 and all((ids == squares()).all() for ids in found.values())


# Alpha


def test_a_mask_in_alpha_is_refused_with_that_reason_and_read_if_told(case: Case) -> None:
    root = case("alphamask")
    with pytest.raises(StageError, match=r"alpha, which is left out, tells apart what is 0 all the same"):
        class_ids(folder(root, label_values=BINARY))
    found = class_ids(folder(root, label_values=BINARY, mask_values="alpha"))
    for name, picture in pictures(root / "masks").items():
        np.testing.assert_array_equal(found[name], np.asarray(picture)[..., 3] == 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_that_follows_the_values_is_left_out(mode: str) -> None:
    ids = squares()
    picture = Image.fromarray(ids * 100).convert(mode)
    picture.putalpha(Image.fromarray(np.where(ids > 0, 255, 0).astype(np.uint8)))
    assert (mask_of(picture) == ids * 100).all()
    picture.putalpha(Image.fromarray(np.where(ids > 1, 255, 0).astype(np.uint8)))
    assert (mask_of(picture) == ids * 100).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_that_divides_a_value_is_refused(mode: str) -> None:
    ids = squares()
    picture = Image.fromarray(np.where(ids == 2, 200, 90).astype(np.uint8)).convert(mode)
    picture.putalpha(Image.fromarray(np.where(ids == 1, 0, 255).astype(np.uint8)))
    with pytest.raises(InputRejectedError, match="tells apart what is 90 all the same"):
        mask_of(picture)
    assert (mask_of(picture, values="alpha") == np.where(ids == 1, 0, 255)).all()


def test_a_mask_without_alpha_is_no_mask_in_alpha() -> None:
    with pytest.raises(InputRejectedError, match="alpha is told, and the mask has none"):
        mask_of(Image.fromarray(squares()), values="alpha")


# Pages


def test_pages_that_differ_are_refused_and_read_if_told(case: Case) -> None:
    root = case("multipage_mask")
    with pytest.raises(StageError, match="the mask has 2 pages, which differ"):
        class_ids(folder(root, label_values=BINARY))
    found = class_ids(folder(root, classes=["background", "square", "disc"], mask_values="pages"))
    for name, picture in pictures(root / "masks").items():
        expected = np.where(np.asarray(picture), 1, 0)
        picture.seek(1)
        np.testing.assert_array_equal(found[name], np.where(np.asarray(picture), 2, expected))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_pictures_that_move_are_refused(suffix: str) -> None:
    first, *rest = (Image.fromarray(np.roll(squares(), step, axis=1) * 100) for step in range(0, 9, 3))
    how: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    with pytest.raises(InputRejectedError, match=r"has 3 (pages|frames), which differ"):
        mask_of(first, suffix, save_all=True, append_images=rest, **how)


def test_a_page_that_is_a_small_copy_or_the_same_again_is_passed_over() -> None:
    first = Image.fromarray(squares())
    for page in (first.resize((16, 12)), first.copy()):
        assert (mask_of(first, ".tif", save_all=True, append_images=[page]) == squares()).all()


# Kinds of pixels


def test_whole_numbers_may_be_floats() -> None:
    assert mask_of(Image.fromarray(squares().astype(np.float32)), ".tif").tolist() == squares().tolist()
    for wrong in (0.5, np.nan, np.inf, 1e30):
        pixels = squares().astype(np.float32)
        pixels[0, 0] = wrong
        with pytest.raises(InputRejectedError, match="not whole numbers") as caught:
            mask_of(Image.fromarray(pixels), ".tif")
        assert caught.value.reason is Reason.NOT_DECODABLE


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_kinds_of_colours_that_show_no_labels_are_refused(mode: str) -> None:
    picture = Image.merge(mode, [Image.fromarray(squares())] * len(Image.new(mode, (1, 1)).getbands()))
    with pytest.raises(InputRejectedError, match=f"{mode} pixels; a mask in colours is RGB"):
        mask_of(picture, ".tif")


def test_deep_gray_among_colours_is_refused_and_not_cut(tmp_path: Path) -> None:
    Image.fromarray(squares().astype(np.uint16) * 1000).save(tmp_path / "m.png")
    with pytest.raises(InputRejectedError, match="up to 2000, where masks are in colours"):
        open_mask(tmp_path / "m.png", 10**6).read(as_colors=True)


# Smeared values


@st.composite
def smeared(draw: st.DrawFn) -> tuple[Mapping[RawLabel, str], int, np.ndarray]:
    """Raw labels, a tolerance that suits them, and a mask of anything."""
    label: st.SearchStrategy[Any]
    # Colours have tables of 16 million entries: one in four is enough.
    if draw(st.integers(0, 3)) == 0:
        label, shape, top = st.tuples(*[st.integers(0, 255)] * 3), (6, 7, 3), 255
    else:
        top = draw(st.sampled_from([255, 65_535]))
        label, shape = st.integers(0, top), (6, 7, 1)
    raws: list[RawLabel] = draw(st.lists(label, min_size=2, max_size=5, unique=True))
    gap = min(label_distance(one, two) for one in raws for two in raws if one != two)
    tolerance = draw(st.integers(0, (gap - 1) // 2))
    near = np.asarray(raws)[draw(hnp.arrays(int, (6, 7), elements=st.integers(0, len(raws) - 1)))]
    noise = draw(hnp.arrays(int, shape, elements=st.integers(-tolerance - 1, tolerance + 1)))
    pixels = np.clip(near.reshape(6, 7, -1) + noise * draw(st.integers(0, 1)), 0, top)
    pixels = pixels if shape[2] == 3 else pixels[..., 0]
    return (
        {raw: f"c{i}" for i, raw in enumerate(raws)},
        tolerance,
        pixels.astype(np.uint8 if top == 255 else int),
    )


@settings(deadline=None, max_examples=60)
@given(smeared())
def test_a_repair_takes_the_one_value_in_reach_and_leaves_what_is_a_value_alone(
    drawn: tuple[Mapping[RawLabel, str], int, np.ndarray],
) -> None:
    names, tolerance, pixels = drawn
    mapping = LabelMapping(names, (), names.values(), tolerance)
    raws = np.asarray(list(names)).reshape(len(names), 1, 1, -1)
    distances = np.abs(raws - pixels.reshape(6, 7, -1).astype(int)).max(axis=-1)
    away = distances.min(axis=0)
    if (away > tolerance).any():
        with pytest.raises(InputRejectedError):
            mapping.class_ids(pixels)
        return
    found = mapping.class_ids(pixels)
    np.testing.assert_array_equal(found, distances.argmin(axis=0))
    cubes = pixels.reshape(6, 7, -1)
    blocks = np.array([cubes[y : y + 4, x : x + 5] for y in range(3) for x in range(3)])
    if ((blocks == blocks[0]).all(axis=(0, 3)) & (away[1:-1, 1:-1] > max(4, tolerance // 4))).any():
        with pytest.raises(InputRejectedError, match="fills areas"):
            mapping.repaired_pixels(pixels)
    else:
        assert mapping.repaired_pixels(pixels) == np.count_nonzero(away)
    # Once more changes nothing, and neither does a tolerance where there is nothing to repair.
    exact = raws[:, 0, 0][found].reshape(pixels.shape).astype(pixels.dtype)
    np.testing.assert_array_equal(mapping.class_ids(exact), found)
    np.testing.assert_array_equal(LabelMapping(names, (), names.values()).class_ids(exact), found)
    assert mapping.repaired_pixels(exact) == 0


def test_smeared_masks_are_refused_or_repaired_and_said(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    root = case("jpegmask_q100")
    with pytest.raises(StageError, match="raw value 1"):
        class_ids(folder(root, label_values=BINARY))
    with caplog.at_level("INFO"):
        found = class_ids(folder(root, label_values=BINARY, label_tolerance=127))
    masks = {name: np.asarray(picture) for name, picture in pictures(root / "masks").items()}
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask > 127)
    pixels = sum(int(((mask != 0) & (mask != 255)).sum()) for mask in masks.values())
    assert f"10 masks were smeared: {pixels} of their pixels, up to 127 off" in caplog.text


def test_an_area_between_two_values_is_no_smear(tmp_path: Path) -> None:
    mask = squares() * 127
    soft = Image.fromarray(np.where(squares() == 2, 255, 0).astype(np.uint8)).resize(
        (128, 96), Image.Resampling.BICUBIC
    )
    found = class_ids(folder(draw(tmp_path / "edges", [soft] * 4), label_values=BINARY, label_tolerance=127))
    assert all((ids == (np.asarray(soft) > 127)).all() for ids in found.values())
    with pytest.raises(StageError, match="raw value 127 fills areas, and is no class"):
        class_ids(
            folder(
                draw(tmp_path / "area", [Image.fromarray(mask)] * 4), label_values=BINARY, label_tolerance=127
            )
        )


def test_a_tolerance_that_two_values_share_is_refused() -> None:
    keys = {"layout": "folder", "root": "/r", "images": "*.jpg", "masks": "*.png"}
    DatasetConfig.model_validate({**keys, "label_values": BINARY, "label_tolerance": 127})
    for values, most in ((BINARY, 127), ({"a": BLACK, "b": (4, 9, 9)}, 4), ({"a": 0, "b": 1}, 0)):
        with pytest.raises(ValueError, match=f"so it can be {most} at most"):
            DatasetConfig.model_validate({**keys, "label_values": values, "label_tolerance": most + 1})


# Several values of one class


def test_classes_are_merged(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    root = case("bin255_mixed01")
    values = {"background": 0, "object": 1, "object_255": 255}
    dataset = folder(root, label_values=values, merge_classes={"object_255": "object"})
    assert dataset.label_set().names == ("background", "object")
    found = class_ids(dataset)
    for name, picture in pictures(root / "masks").items():
        np.testing.assert_array_equal(found[name], np.asarray(picture) > 0)
    assert "merge_classes" not in caplog.text


def test_a_merge_with_what_is_no_class_is_refused() -> None:
    keys = {"layout": "folder", "root": "/r", "images": "*.jpg", "masks": "*.png", "classes": ["a", "b", "c"]}
    for merge, unknown in (
        ({"d": "a"}, "d"),
        ({"a": "d"}, "d"),
        ({"a": "b", "b": "c"}, "b"),
        ({"a": "a"}, "a"),
    ):
        with pytest.raises(ValueError, match=f"there is no class '{unknown}' to merge"):
            DatasetConfig.model_validate({**keys, "merge_classes": merge})


def test_an_ignored_value_that_looks_like_the_object_is_pointed_out(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    found = class_ids(folder(case("bin255_mixed01"), classes=["background", "object"], ignore_label=255))
    assert sum(IGNORE_LABEL in ids for ids in found.values()) == 6
    assert (
        "what is ignored fills large areas of 6 masks, none of which holds the second class, as 6 others"
        in (caplog.text)
    )


def test_an_ignored_border_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids = np.where(squares() == 2, 0, squares())
    ids[4:20, 23] = 255
    class_ids(
        folder(draw(tmp_path, [Image.fromarray(ids)] * 4), classes=["background", "object"], ignore_label=255)
    )
    assert "what is ignored" not in caplog.text
