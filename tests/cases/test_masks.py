"""Masks as people have them: each pixel is the class that was meant, or the run says why not."""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import first_recipe
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


def init(root: Path, *more: str) -> DatasetConfig:
    """What the command writes for ``images`` and ``masks``."""
    return first_recipe.init(root / "images", root / "masks", root / "r.yaml", *more).dataset


def refused(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that the command ends with."""
    return first_recipe.refused(capsys, root / "images", root / "masks", root / "r.yaml")


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


def test_numbers_whose_palettes_differ_are_refused_and_init_reads_them_by_colour(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("palettes_one")
    with pytest.raises(
        StageError, match=r"index 1 is \[255, 0, 0\] in 11 masks, such as masks/000.png, and "
    ) as caught:
        class_ids(folder(root, classes=["a", "b", "c"]))
    assert "[0, 0, 255] in 1, such as masks/005.png" in str(caught.value)
    dataset = init(root, "--classes", "none,square,disc")
    assert "Check: the masks' palettes differ" in capsys.readouterr().out
    found = class_ids(dataset)
    for name, picture in pictures(root / "masks").items():
        shown = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(found[name], (shown == BLUE).all(-1) + 2 * (shown == RED).all(-1))


def test_gray_values_in_gifs_are_what_they_show(case: Case) -> None:
    root = case("gifmasks")
    dataset = init(root)
    assert list(dataset.raw_labels()[0]) == [(0, 0, 0), (100, 100, 100), (200, 200, 200)]
    found = class_ids(dataset)
    for name, picture in pictures(root / "masks").items():
        np.testing.assert_array_equal(found[name] * 100, np.asarray(picture.convert("L")))


def test_numbers_in_a_label_file_are_the_grays_that_gifs_show(tmp_path: Path) -> None:
    masks = [Image.fromarray((squares() == 2) * np.uint8(255 * (index % 3 < 2))) for index in range(8)]
    masks[0] = Image.fromarray(np.full(SIZE, 255, np.uint8))
    root = draw(tmp_path / "data", masks, ".gif")
    unnamed = init(root)
    (tmp_path / "names.txt").write_text("0 none\n255 thing\n")
    named = init(root, "--classes", str(tmp_path / "names.txt"))
    for dataset, names in ((unnamed, ("background", "object")), (named, ("none", "thing"))):
        assert dataset.label_set().names == names
        assert list(dataset.raw_labels()[0]) == [(0, 0, 0), (255, 255, 255)]
    assert class_ids(named)["000"].all()


def test_palettes_that_are_all_the_same_leave_numbers_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = []
    for _ in range(4):
        masks.append(Image.fromarray(squares(), "P"))
        masks[-1].putpalette([*BLACK, *RED, *BLUE])
    assert init(draw(tmp_path, masks)).classes == ("class_0", "class_1", "class_2")
    assert "palettes differ" not in capsys.readouterr().out


def test_palettes_that_share_nothing_are_left_to_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(6):
        masks.append(Image.fromarray(squares(), "P"))
        masks[-1].putpalette(rng.integers(0, 256, 9).tolist())
    dataset = init(draw(tmp_path, masks))
    assert "share no colours" in capsys.readouterr().out
    with pytest.raises(StageError, match="palettes differ"):
        class_ids(dataset)


@pytest.mark.parametrize("other", ["1", "P"])
def test_masks_of_several_kinds_are_read_as_they_look(tmp_path: Path, other: str) -> None:
    ids = squares() % 2
    picture = Image.fromarray(ids > 0) if other == "1" else Image.fromarray(ids, "P")
    if other == "P":
        picture.putpalette([0, 0, 0, 255, 255, 255])
    found = class_ids(init(draw(tmp_path, [Image.fromarray(ids * 255), picture] * 3)))
    assert len(found) == 6 and all((mask == ids).all() for mask in found.values())


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


def test_a_mask_in_alpha_is_refused_with_that_reason_and_found_by_init(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("alphamask")
    with pytest.raises(StageError, match=r"alpha, which is left out, tells apart what is 0 all the same"):
        class_ids(folder(root, label_values=BINARY))
    dataset = init(root)
    assert "Check: the masks' alpha was taken for their values" in capsys.readouterr().out
    found = class_ids(dataset)
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


def test_alpha_beside_colours_that_mean_something_is_left_to_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Image.fromarray(
        np.where(np.arange(64)[None, :, None] < 32, RED, BLUE).repeat(48, 0).astype(np.uint8)
    )
    picture.putalpha(Image.fromarray((squares() > 0) * np.uint8(255)))
    assert "alpha, which is left out, tells apart what is [" in refused(draw(tmp_path, [picture] * 4), capsys)


def test_a_mask_without_alpha_is_no_mask_in_alpha() -> None:
    with pytest.raises(InputRejectedError, match="alpha is told, and the mask has none"):
        mask_of(Image.fromarray(squares()), values="alpha")


# Pages


def test_pages_that_differ_are_refused_and_init_takes_each_for_a_class(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("multipage_mask")
    with pytest.raises(StageError, match="the mask has 2 pages, which differ"):
        class_ids(folder(root, label_values=BINARY))
    dataset = init(root)
    assert "Check: each page of a mask was taken as a class" in capsys.readouterr().out
    found = class_ids(dataset)
    for name, picture in pictures(root / "masks").items():
        expected = np.where(np.asarray(picture), 1, 0)
        picture.seek(1)
        np.testing.assert_array_equal(found[name], np.where(np.asarray(picture), 2, expected))


def test_pages_of_several_classes_are_left_to_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Image.fromarray(squares()), Image.fromarray(squares()[::-1].copy())
    root = draw(tmp_path, [first] * 4, ".tif", save_all=True, append_images=[second])
    assert "the mask has 2 pages, which differ" in refused(root, capsys)
    with pytest.raises(InputRejectedError, match="page 1 holds several values besides 0"):
        open_mask(root / "masks/000.tif", 10**6, "pages").read(as_colors=False)


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


def test_pages_that_are_passed_over_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Image.fromarray(squares())
    init(draw(tmp_path, [first] * 4, ".tif", save_all=True, append_images=[first.resize((16, 12))]))
    assert "Check: masks have 2 pages; those after the first are copies" in capsys.readouterr().out


# Kinds of pixels


def test_whole_numbers_may_be_floats() -> None:
    assert mask_of(Image.fromarray(squares().astype(np.float32)), ".tif").tolist() == squares().tolist()
    for wrong, words in (
        (0.5, "0.5 is among them'"),
        (np.nan, "NaN is among them; .* gdalwarp -srcnodata nan -dstnodata 255 -ot Byte"),
        (-3.4028235e38, "-3.40282347e[+]38 is among them; .* -srcnodata -3.40282347e[+]38 "),
        (np.inf, "inf is among them; "),
    ):
        pixels = squares().astype(np.float32)
        pixels[:2, 0] = wrong
        reason = f"float32, not whole numbers: {words}"
        with pytest.raises(InputRejectedError, match=reason) as caught:
            mask_of(Image.fromarray(pixels), ".tif")
        assert caught.value.reason is Reason.NOT_DECODABLE


@pytest.mark.parametrize(
    ("classes", "instead"), [((0, 1, 2), "255 -ot Byte"), ((0, 255), "65535 -ot UInt16")]
)
def test_no_data_of_a_gis_is_named_with_its_file_and_a_way_to_make_it_an_ignore_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: tuple[int, ...], instead: str
) -> None:
    masks = [np.resize(classes, SIZE).astype(np.int32) for _ in range(4)]
    masks[2][:5, :5] = -9999
    draw(tmp_path, [Image.fromarray(mask) for mask in masks], ".tif")
    line, file = refused(tmp_path, capsys), sorted((tmp_path / "masks").iterdir())[2]
    assert f"the value -9999 stands in {file}; raw values are 0 … 65535; if it is" in line
    assert f"gdalwarp -srcnodata -9999 -dstnodata {instead} OLD NEW" in line
    names = {str(value): value for value in classes}
    mapping = LabelMapping({value: name for name, value in names.items()}, (), tuple(names))
    with pytest.raises(InputRejectedError, match="gdalwarp -srcnodata -9999 "):
        mapping.class_ids(masks[2])


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


def test_a_small_area_between_two_values_is_no_smear() -> None:
    mapping = LabelMapping({0: "background", 255: "object"}, (), ("background", "object"), tolerance=120)
    raw = np.zeros((400, 400), np.uint8)
    # 0.16 % of the pixels.
    raw[100:116, 100:116] = 110
    with pytest.raises(InputRejectedError, match="110 fills areas"):
        mapping.repaired_pixels(raw)


def test_smeared_masks_are_refused_and_init_has_them_repaired(
    case: Case, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("jpegmask_q100")
    with pytest.raises(StageError, match="raw value 1"):
        class_ids(folder(root, label_values=BINARY))
    dataset = init(root)
    assert dataset.label_values == BINARY
    assert "Check: masks are smeared" in capsys.readouterr().out
    with caplog.at_level("INFO"):
        found = class_ids(dataset)
    masks = {name: np.asarray(picture) for name, picture in pictures(root / "masks").items()}
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask > 127)
    pixels = sum(int(((mask != 0) & (mask != 255)).sum()) for mask in masks.values())
    assert (
        f"10 masks were smeared: {pixels} of their pixels, up to {dataset.label_tolerance} off" in caplog.text
    )


@pytest.mark.parametrize(
    ("grays", "quality"),
    [((0, 255), 30), ((0, 255), 75), ((0, 255), 95), ((0, 127, 255), 90), ((40, 90, 200), 97)],
)
def test_init_repairs_what_jpeg_did(tmp_path: Path, grays: tuple[int, ...], quality: int) -> None:
    ids = squares() % len(grays)
    masks = [Image.fromarray(np.asarray(grays, np.uint8)[np.roll(ids, shift, axis=1)]) for shift in range(4)]
    found = class_ids(init(draw(tmp_path, masks, ".jpg", quality=quality)))
    for name, mask in found.items():
        wrong = np.count_nonzero(mask != np.roll(ids, int(name), axis=1))
        assert wrong == 0, (name, wrong)


def test_init_repairs_soft_edges_between_two_colours(tmp_path: Path) -> None:
    sharp = np.asarray([BLACK, RED], np.uint8)[squares() % 2]
    soft = Image.fromarray(sharp).resize((200, 150), Image.Resampling.BILINEAR)
    dataset = init(draw(tmp_path, [soft] * 4))
    assert list(dataset.raw_labels()[0]) == [BLACK, RED]
    assert all((mask == (np.asarray(soft)[..., 0] > 127)).all() for mask in class_ids(dataset).values())


def test_one_smeared_mask_among_many_makes_no_classes(tmp_path: Path) -> None:
    for grays in ((0, 255), (0, 100, 200)):
        root = tmp_path / str(len(grays))
        draw(root, [Image.fromarray(np.asarray(grays, np.uint8)[squares() % len(grays)])] * 40)
        with Image.open(root / "masks/025.png") as mask:
            mask.save(root / "m.jpg", quality=75)
        Image.open(root / "m.jpg").save(root / "masks/025.png")
        assert list(init(root).raw_labels()[0]) == list(grays)


def test_thin_things_are_classes_and_no_smear(tmp_path: Path) -> None:
    ids = squares() % 2 * np.uint8(255)
    border = np.where(ids != np.roll(ids, 1), 128, ids).astype(np.uint8)
    lines = ids.copy()
    lines[::11], lines[:, ::17] = 1, 2
    for name, mask, values in (("border", border, {0, 128, 255}), ("lines", lines, {0, 1, 2, 255})):
        dataset = init(draw(tmp_path / name, [Image.fromarray(mask)] * 4))
        names, ignored = dataset.raw_labels()
        assert {*names, *ignored} == values and not dataset.label_tolerance


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


def test_halves_in_0_and_1_and_in_0_and_255_are_one_class(
    case: Case, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = case("bin255_mixed01")
    dataset = init(root)
    assert "Check: 255 never stands in one mask with 1, and fills large areas" in capsys.readouterr().out
    assert dataset.label_set().names == ("background", "object")
    found = class_ids(dataset)
    for name, picture in pictures(root / "masks").items():
        np.testing.assert_array_equal(found[name], np.asarray(picture) > 0)
    assert "merge_classes" not in caplog.text


def test_a_255_that_stands_alone_is_doubted_where_there_are_several_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = squares()
    assert init(draw(tmp_path, [Image.fromarray(ids), Image.fromarray((ids > 0) * np.uint8(255))] * 3))
    assert "Check: 255 never stands in one mask with 1, 2, and fills" in capsys.readouterr().out


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


def test_an_ignored_border_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.where(squares() == 2, 0, squares())
    ids[4:20, 23] = 255
    dataset = init(draw(tmp_path, [Image.fromarray(ids)] * 4))
    assert dataset.ignore_label == 255
    assert "never stands" not in capsys.readouterr().out
    class_ids(dataset)
    assert "what is ignored" not in caplog.text


def test_a_class_that_is_nearly_everything_is_doubted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.zeros(SIZE, np.uint8)
    ids[0, :3] = 1
    init(draw(tmp_path, [Image.fromarray(ids)] * 4))
    assert "background covers 99.90% of the pixels: is another channel meant" in capsys.readouterr().out
