"""Images whose pixels a decoder does not give at once: what init says, ingestion keeps and a model reads."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import first_recipe
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from drawn_folders import blocks, photo
from ingested import ingest, read_split
from PIL import Image, ImageOps
from pydantic import ValidationError
from tiny_export import export_tiny_model

from components.dataset import features
from components.dataset.contracts import LABELS_FILE
from components.dataset.features import SPLITS
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import InputRejectedError
from components.image_mask_example_gen.report import Reason, UnusableDatasetError
from components.imaging.decode import decode_image, exif_orientation
from components.imaging.deep import range_to_set, read_png, spread, stacked, used_range, write_png
from components.imaging.drawing import overlay
from components.imaging.exif import ORIENTATION, orientation_of, turned_pixels
from components.imaging.reading import Reading
from components.serving.config import ServingLimits
from components.transform.config import TransformConfig
from pipeline.config import Recipe, load_recipe
from pipeline.evaluate.__main__ import check_model
from pipeline.predict.image_files import sent_bytes

Case = Callable[[str], Path]
_REPOSITORY = Path(__file__).resolve().parents[2]
UPRIGHT = Reading(exif="upright")


def init(root: Path) -> Recipe:
    return first_recipe.init(root / "images", root / "masks", root / "my.yaml")


def ingested(
    dataset: DatasetConfig, folder: str = "out", bands: tuple[int, ...] | None = None
) -> dict[Path, dict[str, Any]]:
    """The values of every Example, by its image's file."""
    root = Path(str(dataset.root))
    out = root / folder
    ingest(dataset, out, bands=bands)
    return {root / name: values for split in SPLITS for name, values in read_split(out, split).items()}


@cache
def decoder(reading: Reading) -> Any:
    """The graph, traced once a reading: op by op it takes ten times as long."""
    return tf.function(
        lambda data: decode_image(data, reading), input_signature=[tf.TensorSpec([], tf.string)]
    )


def decoded(data: bytes, reading: Reading) -> np.ndarray:
    return decoder(reading)(data).numpy()


def with_exif(image: np.ndarray, orientation: int, file_format: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, exif=exif, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


Turned = tuple[int, tuple[int, int]]
"""An orientation, and the size as stored: height, width."""
SIZES_TELL: list[Turned] = [(6, (48, 64)), (7, (48, 64))]
EDGES_TELL: list[Turned] = [(3, (48, 64)), (4, (48, 64)), (2, (64, 64)), (5, (64, 64)), (8, (64, 64))]


def draw_turned(root: Path, *turned: Turned, upright: bool, contrast: int = 100) -> None:
    """Twelve photographs, stored with one orientation after the other; masks fit them so, or upright."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number, (orientation, size) in zip(range(12), cycle(turned), strict=False):
        ids = blocks(rng, 3, size)
        stored = photo(rng, size) // 2 + contrast * (ids[..., np.newaxis] // 2)
        data = with_exif(stored, orientation, "PNG")
        if upright:
            ids = np.asarray(ImageOps.exif_transpose(opened(with_exif(ids, orientation, "PNG"))))
        (root / "images" / f"{number}.png").write_bytes(data)
        Image.fromarray(ids).save(root / "masks" / f"{number}.png")


def test_masks_that_fit_upright_photos_are_found_by_edges_and_the_photos_are_turned(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = init(case("exif_mix")).dataset
    assert dataset.exif == "upright"
    assert "of 4 masks 4 fit upright; dataset.exif is upright" in capsys.readouterr().out
    turned = 0
    for file, values in ingested(dataset).items():
        assert values[features.IMAGE_ENCODED] == file.read_bytes()
        pixels = decoded(file.read_bytes(), UPRIGHT)
        with Image.open(file) as picture:
            turned += picture.getexif().get(ORIENTATION, 1) == 3
            # Two decoders of JPEG.
            np.testing.assert_allclose(pixels, np.asarray(ImageOps.exif_transpose(picture)), atol=6)
        # Squares and discs are drawn in colours of their own.
        mask = tf.io.decode_png(values[features.MASK_ENCODED]).numpy()[..., 0]
        means = [pixels[mask == value].mean(axis=0) for value in (0, 1, 2)]
        nearest = np.argmin([np.abs(pixels - mean).sum(axis=-1) for mean in means], axis=0)
        assert (nearest == mask).mean() > 0.95
    assert turned == 4


def test_ingestion_does_not_guess_which_way_up_a_mask_is(case: Case) -> None:
    dataset = init(case("exif_mix")).dataset.model_copy(update={"exif": None})
    with pytest.raises(UnusableDatasetError, match="4 of 12 pairs cannot be used") as caught:
        ingested(dataset)
    for rejection in caught.value.rejected_files:
        assert rejection["reason"] is Reason.ORIENTATION_UNKNOWN
        assert "orientation 3" in rejection["found"] and "set dataset.exif to upright" in rejection["found"]


@pytest.mark.parametrize(
    ("turned", "upright", "exif", "found"),
    [
        (
            SIZES_TELL + EDGES_TELL,
            True,
            "upright",
            "4 masks have the size of the picture upright; for 8 sizes do not tell; "
            "by edges, of 8 masks 8 fit upright",
        ),
        (EDGES_TELL, False, "stored", "for 12 sizes do not tell; by edges, of 12 masks 12 fit as stored"),
        (SIZES_TELL, False, None, ""),
    ],
    ids=["upright", "stored by edges", "stored by sizes"],
)
def test_masks_are_ingested_on_the_pictures_that_they_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    turned: list[Turned],
    upright: bool,
    exif: str | None,
    found: str,
) -> None:
    draw_turned(tmp_path, *turned, upright=upright)
    recipe = init(tmp_path)
    assert recipe.dataset.exif == exif
    assert found in (tmp_path / "my.yaml").read_text().replace("\n# ", " ") + capsys.readouterr().out
    for values in ingested(recipe.dataset).values():
        pixels = decoded(values[features.IMAGE_ENCODED], recipe.reading())
        mask = tf.io.decode_png(values[features.MASK_ENCODED]).numpy()[..., 0]
        assert pixels.shape[:2] == mask.shape == (values["image/height"], values["image/width"])
        assert pixels[mask == 2].min() >= 100 > pixels[mask == 1].mean()


def test_where_no_edges_tell_init_asks_and_names_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_turned(tmp_path, (3, (48, 64)), upright=True, contrast=0)
    assert init(tmp_path).dataset.exif is None
    check = "Check: 12 images are not stored upright, as their EXIF says: for 12 sizes do not tell"
    assert check in capsys.readouterr().out
    assert "# Check: 12 images are not stored upright" in (tmp_path / "my.yaml").read_text()


def test_a_mask_of_the_other_way_up_is_named_as_one(tmp_path: Path) -> None:
    draw_turned(tmp_path, (6, (48, 64)), upright=True)
    dataset = init(tmp_path).dataset.model_copy(update={"exif": "stored"})
    with pytest.raises(UnusableDatasetError, match=r"and 48 x 64 with dataset\.exif=upright") as caught:
        ingested(dataset)
    assert {rejection["reason"] for rejection in caught.value.rejected_files} == {Reason.SIZES_DIFFER}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_served_model_answers_with_masks_of_upright_pictures(
    upright_model: Any, orientation: int, file_format: str
) -> None:
    image = np.full((48, 64, 3), 20, np.uint8)
    image[:20, :40] = 240
    file = with_exif(image, orientation, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    answer = upright_model(image_bytes=tf.constant([sent_bytes(file)]))
    mask = np.asarray(Image.open(io.BytesIO(answer["mask_bytes"].numpy()[0])))
    bright = Image.fromarray((image[..., 0] > 128).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(with_info(bright, exif)))
    assert mask.shape == expected.shape
    assert (mask == expected).mean() > 0.9
    assert answer["class_fraction"].numpy()[0, 1] == pytest.approx(mask.mean())


def with_info(picture: Image.Image, exif: Image.Exif) -> Image.Image:
    picture.getexif().update(exif)
    return picture


@pytest.fixture(scope="module")
def upright_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    reading = Reading(exif="upright", value_range=(1000.0, 2000.0))
    directory = export_tiny_model(tmp_path_factory.mktemp("upright"), ServingLimits(), reading)
    model = tf.saved_model.load(str(directory))
    assert model.signatures["labels"](ignored=tf.constant([b""]))["upright"].numpy().tolist() == [1]
    # Else its variables would go with it.
    signature = model.signatures["serving_default"]
    signature.model = model
    return signature


def test_an_orientation_behind_the_pixels_of_a_png_is_found_all_the_same() -> None:
    data = with_exif(np.zeros((4, 6, 3), np.uint8), 6, "PNG")
    start, pixels = data.index(b"eXIf") - 4, data.index(b"IDAT") - 4
    late = data[:start] + data[pixels:-12] + data[start:pixels] + data[-12:]
    assert orientation_of(late) == 1 and Image.open(io.BytesIO(late)).getexif()[ORIENTATION] == 6
    assert decoded(sent_bytes(late), UPRIGHT).shape == (6, 4, 3)


def test_the_graph_finds_the_orientation_that_python_finds_in_whatever_bytes() -> None:
    graph = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])
    image = np.zeros((3, 5, 3), np.uint8)
    files = [with_exif(image, number, kind) for number in range(10) for kind in ("JPEG", "PNG")]
    rng = random.Random(0)
    other_than_upright = 0
    for _ in range(1500):
        data = bytearray(rng.choice(files))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(min(len(data), 140))] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(3, len(data)) :]
        found = orientation_of(bytes(data))
        assert int(graph(bytes(data))) == found
        other_than_upright += found != 1
    assert other_than_upright > 300


def test_an_overlay_shows_the_picture_as_its_mask_has_it() -> None:
    image = np.full((40, 60, 3), 20, np.uint8)
    image[:, :30] = 220
    data = with_exif(image, 6, "JPEG", quality=95)
    mask = io.BytesIO()
    Image.fromarray(np.zeros((60, 40), np.uint8)).save(mask, "PNG")
    drawn = overlay(data, mask.getvalue(), ["a"], [(0, 0, 0)], [1.0], reading=UPRIGHT)
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("L"))
    assert pixels[:25, :40].mean() > 3 * pixels[35:60, :40].mean()
    with pytest.raises(ValueError, match="60"):
        overlay(data, mask.getvalue(), ["a"], [(0, 0, 0)], [1.0])


@pytest.mark.parametrize("name", ["img12bit", "rgb16tiff"])
def test_deep_pixels_are_spread_over_what_they_use_in_ingestion_and_in_what_predict_sends(
    case: Case, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    recipe = init(case(name))
    assert recipe.dataset.value_range == (480.0, 3296.0)
    assert "12 images have more than 8 bits a channel" in capsys.readouterr().out
    for file, values in ingested(recipe.dataset).items():
        deep = tifffile.imread(file).astype(np.float32)
        expected = np.clip(np.rint((deep - 480) * np.float32(255 / 2816)), 0, 255).reshape(48, 64, -1)
        for data in (values[features.IMAGE_ENCODED], sent_bytes(file.read_bytes())):
            pixels = decoded(data, recipe.reading())
            np.testing.assert_array_equal(pixels, np.broadcast_to(expected, pixels.shape))
        mask = tf.io.decode_png(values[features.MASK_ENCODED]).numpy()[..., 0]
        thing, rest = (pixels[mask == value].astype(float).mean() for value in np.unique(mask)[:2])
        assert abs(thing - rest) > 20


@pytest.mark.parametrize("name", ["img12bit", "rgb16tiff"])
def test_ingestion_refuses_deep_pixels_of_few_levels_and_names_the_range_to_set(
    case: Case, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = init(case(name)).dataset.model_copy(update={"value_range": None})
    with pytest.raises(StageError, match=r"are 1[0-9] of the 256 levels.* dataset\.value_range=\[480,3296\]"):
        ingested(dataset)
    ingested(dataset.model_copy(update={"value_range": (0.0, 40_000.0)}), "again")
    assert "19 of the 256 levels" in caplog.text


def test_pictures_that_use_all_of_14_bits_are_those_of_few_levels(tmp_path: Path) -> None:
    draw_bands(tmp_path, 1, "uint8")
    rng = np.random.default_rng(1)
    for file in (tmp_path / "images").iterdir():
        deep = rng.integers(0, 1 << 14, (24, 36), np.uint16)
        # More of either end than are left out as outliers.
        deep[0, :4], deep[1, :4] = 0, (1 << 14) - 1
        file.with_suffix(".png").write_bytes(write_png(deep))
        file.unlink()
    dataset = init(tmp_path).dataset
    assert dataset.value_range == (0.0, 16383.0)
    with pytest.raises(StageError, match=r"are 64 of the 256 levels.* dataset\.value_range=\[0,16383\]"):
        ingested(dataset.model_copy(update={"value_range": None}))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("value_range", [(0.0, 4095.0), (480.0, 3296.0), (-100.5, 7.25), (0.0, 65535.0)])
def test_the_graph_spreads_every_value_as_numpy_does(channels: int, value_range: tuple[float, float]) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    reading = Reading(channels=channels, value_range=value_range)
    pixels = decoded(write_png(deep), reading)
    expected = spread(deep, value_range)[..., np.newaxis]
    np.testing.assert_array_equal(pixels[..., :3], np.broadcast_to(expected, pixels[..., :3].shape))
    assert channels != 4 or (pixels[..., 3] == 255).all()


def test_a_range_leaves_images_of_8_bits_and_alpha_of_16_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    reading = Reading(channels=4, value_range=(10.0, 20.0))
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    np.testing.assert_array_equal(decoded(png.getvalue(), reading), image)
    deep = decoded(write_png(image.astype(np.uint16) * 257), reading)
    np.testing.assert_array_equal(deep[..., 3], image[..., 3])


@pytest.mark.parametrize(
    "options", [{}, {"planarconfig": "separate"}, {"compression": "lzw"}, {"byteorder": ">"}], ids=str
)
def test_a_tiff_of_16_bits_in_colours_keeps_them_however_it_is_written(options: dict[str, Any]) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (9, 7, 3), np.uint16)
    pixels = np.moveaxis(deep, -1, 0) if "planarconfig" in options else deep
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", **options)
    np.testing.assert_array_equal(read_png(sent_bytes(file.getvalue())), deep)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("byteorder", "<>")
def test_a_gray_tiff_of_16_bits_keeps_them_in_either_byte_order(
    byteorder: Literal["<", ">"], orientation: int
) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (9, 7), np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, deep, byteorder=byteorder, extratags=[(ORIENTATION, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_png(sent_bytes(file.getvalue())), deep)
    turned = decoded(sent_bytes(file.getvalue()), Reading(exif="upright", value_range=(0, 255)))
    np.testing.assert_array_equal(
        turned[..., 0], (deep if orientation == 1 else np.rot90(deep, -1)).clip(0, 255)
    )


def test_a_served_model_spreads_deep_pixels_by_its_range(upright_model: Any) -> None:
    deep = np.full((16, 16, 3), 1100, np.uint16)
    deep[:8] = 1900
    answer = upright_model(image_bytes=tf.constant([write_png(deep)]))
    mask = np.asarray(opened(answer["mask_bytes"].numpy()[0]))
    np.testing.assert_array_equal(mask, deep[..., 0] > 1500)


EIGHT = [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(("name", "bands"), [("geotiff4", EIGHT[:4]), ("geotiff8band", EIGHT)])
def test_all_bands_of_a_tiff_are_proposed_kept_and_sent(
    case: Case, capsys: pytest.CaptureFixture[str], name: str, bands: list[int]
) -> None:
    recipe = init(case(name))
    assert recipe.transform.channels == tuple(bands) and recipe.transform.normalization == "dataset"
    assert f"12 images have {len(bands)} bands, of which all are read" in capsys.readouterr().out
    check_ingested(recipe)


def check_ingested(recipe: Recipe) -> None:
    """Bands, as tifffile and NumPy read them, are what the graph makes of Examples and of what is sent."""
    bands, value_range = recipe.transform.bands, recipe.dataset.value_range
    assert bands is not None
    for file, values in ingested(recipe.dataset, bands=bands).items():
        pixels = tifffile.imread(file)
        if pixels.shape[0] < min(pixels.shape[1:]):
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels[..., [band - 1 for band in bands]]
        if value_range is not None and pixels.dtype != np.uint8:
            low, high = value_range
            scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
            pixels = np.nan_to_num(np.clip(np.rint(scaled), 0, 255), nan=0)
        elif pixels.dtype == np.uint16:
            # As TensorFlow, and libpng, take the upper 8 bits.
            pixels = pixels >> 8
        encoded = values[features.IMAGE_ENCODED]
        assert encoded == sent_bytes(file.read_bytes(), recipe.reading())
        np.testing.assert_array_equal(decoded(encoded, recipe.reading()), pixels)
        assert (values["image/height"], values["image/width"]) == pixels.shape[:2]


def draw_bands(root: Path, count: int, dtype: str, **options: Any) -> None:
    """Twelve pictures of many bands; a thing shows in the last band alone."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(12):
        mask = np.zeros((24, 36), np.uint8)
        top, left = rng.integers(2, 10, 2)
        mask[top : top + 10, left : left + 14] = 255
        pixels = rng.integers(300, 2000, (24, 36, count)).astype(np.float64)
        pixels[..., -1] += 2000 * (mask > 0)
        if np.dtype(dtype).kind == "f":
            pixels /= 10_000
        pixels = (pixels // 16 if dtype == "uint8" else pixels).astype(dtype)
        if options.get("planarconfig") == "separate":
            pixels = np.moveaxis(pixels, -1, 0)
        tifffile.imwrite(root / "images" / f"{number}.tif", pixels, photometric="minisblack", **options)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")


@pytest.mark.parametrize(
    ("count", "dtype", "options"),
    [
        (6, "uint16", {"planarconfig": "separate", "compression": "lzw"}),
        (6, "uint16", {"planarconfig": "contig", "byteorder": ">", "compression": "deflate"}),
        (5, "uint8", {"planarconfig": "contig", "tile": (16, 16)}),
        (2, "uint16", {"planarconfig": "separate"}),
        (6, "float32", {"planarconfig": "separate", "compression": "deflate"}),
        (4, "int16", {"planarconfig": "contig"}),
    ],
)
def test_tiffs_of_bands_are_read_however_they_are_written(
    tmp_path: Path, count: int, dtype: str, options: dict[str, Any]
) -> None:
    draw_bands(tmp_path, count, dtype, **options)
    recipe = init(tmp_path)
    assert recipe.transform.channels == tuple(range(1, count + 1))
    assert (recipe.dataset.value_range is None) == (dtype == "uint8")
    check_ingested(recipe)


def test_bands_are_chosen_in_any_order_and_those_left_out_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw_bands(tmp_path, 6, "uint16", planarconfig="contig")
    init(tmp_path)
    check_ingested(load_recipe(str(tmp_path / "my.yaml"), overrides=["transform.channels=[6, 3, 1]"]))
    assert "12 images have bands that transform.channels leaves out" in caplog.text


def test_bands_that_are_pages_are_refused_rather_than_the_first_one_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_bands(tmp_path, 3, "uint8")
    for path in (tmp_path / "images").iterdir():
        tifffile.imwrite(path, np.moveaxis(tifffile.imread(path), -1, 0), photometric="minisblack")
    with pytest.raises(InputRejectedError, match="TIFF of 3 pages of one size"):
        sent_bytes(path.read_bytes())
    line = first_recipe.refused(capsys, tmp_path / "images", tmp_path / "masks", tmp_path / "r.yaml")
    assert "TIFF of 3 pages of one size" in line


def test_reduced_copies_and_masks_of_a_tiff_are_no_further_pages() -> None:
    pixels = np.full((24, 36, 3), 90, np.uint8)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(pixels, photometric="rgb")
        tiff.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
        tiff.write(pixels[..., 0] > 0, photometric="mask", subfiletype=4)
    assert sent_bytes(file.getvalue())


@pytest.mark.parametrize("channels", [6, 0, [], [0, 1], [1, 2.5], [True], "all"])
def test_channels_are_a_known_number_or_a_list_of_bands(channels: object) -> None:
    with pytest.raises(ValidationError, match=r"1, 3 and 4 are read, or a list of bands") as caught:
        TransformConfig.model_validate({"channels": channels})
    assert caught.value.error_count() == 1


def test_a_model_is_scored_on_the_bands_that_it_reads(tmp_path: Path) -> None:
    draw_bands(tmp_path, 6, "uint16", planarconfig="contig")
    recipe = init(tmp_path)
    labels = recipe.dataset.label_set()
    description: dict[str, Any] = {
        "labels": {"names": labels.names},
        "recipe": {
            "dataset": recipe.dataset.model_dump(mode="json"),
            "transform": {"channels": [1, 2, 3]},
        },
    }
    (tmp_path / LABELS_FILE).parent.mkdir()
    (tmp_path / LABELS_FILE).write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"reads the bands \[1, 2, 3\] .* --set transform\.channels="):
        check_model(tmp_path, recipe)
    bands = "transform.channels=[1, 2, 3]"
    check_model(tmp_path, load_recipe(str(tmp_path / "my.yaml"), overrides=[bands]))
    description["recipe"]["dataset"]["value_range"] = [0, 4095.5]
    (tmp_path / LABELS_FILE).write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"--set dataset\.value_range='\[0\.0, 4095\.5\]'"):
        check_model(tmp_path, load_recipe(str(tmp_path / "my.yaml"), overrides=[bands]))
    as_read = [bands, "dataset.value_range=[0.0, 4095.5]"]
    check_model(tmp_path, load_recipe(str(tmp_path / "my.yaml"), overrides=as_read))


def test_a_band_that_no_image_has_is_refused(tmp_path: Path) -> None:
    draw_bands(tmp_path, 6, "uint16", planarconfig="contig")
    dataset = init(tmp_path).dataset
    with pytest.raises(UnusableDatasetError, match="it has 6 bands, and the model reads band 7"):
        ingested(dataset, bands=(1, 7))


@pytest.mark.parametrize("shape", [(24, 36), (24, 36, 3)])
def test_floats_become_pixels_by_the_range_that_init_proposes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...]
) -> None:
    draw_bands(tmp_path, 6, "uint8", planarconfig="contig")
    rng = np.random.default_rng(1)
    for file in (tmp_path / "images").iterdir():
        reflectance = rng.uniform(0.02, 0.6, shape).astype(np.float32)
        reflectance[:3, :3] = np.nan
        reflectance[-1, -1] = -9999
        if file.name == "3.tif":
            # As a tile beyond the border of a survey; it must not draw 0 into the range.
            reflectance[:] = np.nan
        kind = "rgb" if len(shape) == 3 else "minisblack"
        tifffile.imwrite(file, reflectance, photometric=kind, extratags=[(42113, 2, 6, "-9999", True)])
    recipe = init(tmp_path)
    assert "12 images hold floats or other numbers" in capsys.readouterr().out
    assert recipe.transform.channels == (1 if len(shape) == 2 else 3)
    value_range = recipe.dataset.value_range
    assert value_range is not None
    low, high = value_range
    assert low == pytest.approx(0.02, abs=0.005) and high == pytest.approx(0.6, abs=0.005)
    for file, values in ingested(recipe.dataset).items():
        pixels = decoded(values[features.IMAGE_ENCODED], recipe.reading())
        scaled = (tifffile.imread(file) - np.float32(low)) * np.float32(255 / (high - low))
        expected = np.nan_to_num(np.clip(np.rint(scaled), 0, 255), nan=0).reshape(24, 36, -1)
        np.testing.assert_array_equal(pixels, expected)
        assert sent_bytes(file.read_bytes(), recipe.reading()) == values[features.IMAGE_ENCODED]
    for name, said in (("0.tif", r"such as \[0\.02"), ("3.tif", "but not by this one, which has no finite")):
        with pytest.raises(InputRejectedError, match=rf"set dataset\.value_range, {said}"):
            sent_bytes((tmp_path / "images" / name).read_bytes())


@pytest.mark.parametrize(
    ("first", "last", "dtype", "expected"),
    [
        (12500, 12503, "float32", (12500.002, 12502.998)),
        (1013.6, 1014.4, "float32", (1013.6008, 1014.3993)),
        (0.02, 0.6, "float64", (0.0206, 0.5995)),
        (-2987, 8123, "float32", (-2980.0, 8120.0)),
    ],
)
def test_a_range_to_set_cuts_off_no_more_than_outliers(
    first: float, last: float, dtype: str, expected: tuple[float, float]
) -> None:
    """Heights, a pressure: they lie far from 0, so that digits of the value are not digits of the range."""
    pixels = np.random.default_rng(0).uniform(first, last, (300, 300)).astype(dtype)
    used = used_range(pixels)
    assert used is not None
    value_range = range_to_set(used)
    assert value_range == expected
    low, high = value_range
    assert (pixels < low).mean() <= 0.001 and (pixels > high).mean() <= 0.001
    seen = spread(pixels, value_range)
    # The first and the last level are half as wide as the others.
    assert (seen == 0).mean() < 1 / 256 and (seen == 255).mean() < 1 / 256
    assert len(np.unique(seen)) == 256


@pytest.mark.parametrize(
    ("used", "value_range"),
    [
        ((480, 13296), (480, 13296)),
        ((7, 7), (7, 8)),
        ((2.5, 2.5), (2.5, 3.5)),
        ((-1.7e308, 0), (-1.7e308, 0)),
        ((-5.0, -1e-6), (-5.0, 0.0)),
    ],
)
def test_a_range_to_set_has_short_ends_and_keeps_those_that_have_none(
    used: tuple[float, float], value_range: tuple[float, float]
) -> None:
    found = range_to_set(used)
    assert found == value_range
    # In a recipe it would look like a slip.
    assert "-0.0" not in str(found)


SIX = Reading(channels=6, bands=(1, 2, 3, 4, 5, 6), value_range=(1000.0, 2000.0))


def test_a_served_model_reads_stacks_of_its_bands_and_refuses_all_else(tmp_path: Path) -> None:
    limits = ServingLimits(max_pixels=16 * 20)
    model = tf.saved_model.load(str(export_tiny_model(tmp_path, limits, SIX)))
    labels = model.signatures["labels"](ignored=tf.constant([b""]))
    assert labels["bands"].numpy().tolist() == [[1, 2, 3, 4, 5, 6]]
    assert labels["value_range"].numpy().tolist() == [[1000.0, 2000.0]]
    deep = np.full((16, 20, 6), 1100, np.uint16)
    deep[:8] = 1900
    file = io.BytesIO()
    tifffile.imwrite(file, deep, photometric="minisblack", planarconfig="contig")
    serve = model.signatures["serving_default"]
    answer = serve(image_bytes=tf.constant([sent_bytes(file.getvalue(), SIX)]))
    np.testing.assert_array_equal(np.asarray(opened(answer["mask_bytes"].numpy()[0])), deep[..., 0] > 1500)
    pixels = model.signatures["serving_pixels"](images=tf.constant(spread(deep, (1000, 2000))[np.newaxis]))
    np.testing.assert_array_equal(pixels["class_ids"].numpy()[0], deep[..., 0] > 1500)
    rgb, jpeg = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.zeros((12, 9, 3), np.uint8)).save(rgb, "PNG")
    Image.fromarray(np.zeros((12, 9), np.uint8)).save(jpeg, "JPEG")
    for data, complaint in (
        (write_png(np.zeros((95, 20), np.uint8)), "image 0 has a height of 95, no multiple of 6"),
        (rgb.getvalue(), "image 0 is no gray PNG; this model reads 6 bands"),
        (jpeg.getvalue(), "image 0 is no gray PNG"),
        (write_png(np.zeros((6 * 17, 20), np.uint8)), "claims 20 x 17 pixels; at most 320"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=complaint):
            serve(image_bytes=tf.constant([data]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_as_pictures_are(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 6), np.uint8)
    file = io.BytesIO()
    tag = [(ORIENTATION, 3, 1, orientation, True)]
    tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="contig", extratags=tag)
    reading = replace(SIX, exif="upright")
    turned = decoded(sent_bytes(file.getvalue(), reading), reading)
    np.testing.assert_array_equal(turned, turned_pixels(pixels, orientation))


def test_an_overlay_shows_the_first_three_bands() -> None:
    pixels = np.zeros((40, 60, 6), np.uint16)
    pixels[:, :30, 0] = 2000
    mask = io.BytesIO()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(mask, "PNG")
    stack = write_png(stacked(pixels))
    drawn = np.asarray(
        Image.open(io.BytesIO(overlay(stack, mask.getvalue(), ["a"], [(0, 0, 0)], [1.0], reading=SIX)))
    )
    assert drawn[:40, :25, 0].mean() > 100 > drawn[:40, 35:, 0].mean() + 80
    assert drawn[:40, :25, 2].mean() < 20


def test_a_band_beside_rgb_is_said_where_channels_leave_it_out(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    for file, values in ingested(init(case("geotiff4")).dataset).items():
        np.testing.assert_array_equal(
            decoded(values[features.IMAGE_ENCODED], Reading()), tifffile.imread(file)[..., :3]
        )
    assert "12 images have bands that transform.channels leaves out" in caplog.text


@pytest.mark.parametrize("bands", [5, 6, 12])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_other_numbers_of_bands_are_named_too_in_one_line(bands: int, planar: str, dtype: str) -> None:
    shape = (7, 9, bands) if planar == "contig" else (bands, 7, 9)
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(shape, dtype), photometric="minisblack", planarconfig=planar)
    with pytest.raises(InputRejectedError) as caught:
        sent_bytes(file.getvalue())
    assert caught.value.found.startswith(f"TIFF with {bands} bands of {np.dtype(dtype).itemsize * 8} bits")


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="the lower value comes first"):
        DatasetConfig(value_range=(5.0, 5.0))
    with pytest.raises(ValueError, match="the lower value comes first"):
        Reading(value_range=(5.0, 5.0))


def test_damaged_exif_reaches_nobodys_terminal(tmp_path: Path) -> None:
    draw_turned(tmp_path, (3, (48, 64)), upright=False)
    for number in range(12):
        data = bytearray(with_exif(photo(np.random.default_rng(number)), 1, "JPEG"))
        at = data.index(b"MM\0*") + 10
        # Twice as many bytes as there are, at a place behind the end.
        data[at + 4 : at + 12] = b"\0\0\xff\xff\0\0\xff\0"
        (tmp_path / "images" / f"{number}.png").write_bytes(bytes(data))
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    command = [sys.executable, "-m", "pipeline.init", *folders, "--output", str(tmp_path / "my.yaml")]
    run = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
