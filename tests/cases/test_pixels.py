"""Images whose pixels a decoder does not give at once: what init says, ingestion keeps and a model reads."""

import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from drawn_folders import blocks, photo
from ingested import ingest, read_split
from PIL import Image, ImageOps
from tiny_export import export_tiny_model

from components.dataset import features
from components.dataset.features import SPLITS
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.report import Reason, UnusableDatasetError
from components.imaging.decode import decode_image, exif_orientation
from components.imaging.drawing import overlay
from components.imaging.exif import ORIENTATION, orientation_of
from components.imaging.reading import Reading
from components.serving.config import ServingLimits
from pipeline.config import Recipe, load_recipe
from pipeline.init.__main__ import main
from pipeline.predict.image_files import sent_bytes

Case = Callable[[str], Path]
_REPOSITORY = Path(__file__).resolve().parents[2]
UPRIGHT = Reading(exif="upright")


def init(root: Path) -> Recipe:
    output = root / "my.yaml"
    folders = ["--images", str(root / "images"), "--masks", str(root / "masks")]
    assert main([*folders, "--output", str(output)]) == 0
    return load_recipe(str(output))


def ingested(dataset: DatasetConfig) -> dict[Path, dict[str, Any]]:
    """The values of every Example, by its image's file."""
    root = Path(str(dataset.root))
    ingest(dataset, root / "out")
    return {
        root / name: values for split in SPLITS for name, values in read_split(root / "out", split).items()
    }


def decoded(data: bytes, reading: Reading) -> np.ndarray:
    return decode_image(tf.constant(data), reading).numpy()


def with_exif(image: np.ndarray, orientation: int, file_format: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, exif=exif, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def draw_turned(
    root: Path, orientation: int, size: tuple[int, int], *, upright: bool, contrast: int = 100
) -> None:
    """Twelve photographs, stored with an orientation; masks fit them upright or as stored."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(12):
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
    ("orientation", "size"),
    [(3, (48, 64)), (4, (48, 64)), (6, (48, 64)), (7, (48, 64)), (2, (64, 64)), (5, (64, 64)), (8, (64, 64))],
)
@pytest.mark.parametrize("upright", [True, False])
def test_masks_are_ingested_on_the_pictures_that_they_fit(
    tmp_path: Path, orientation: int, size: tuple[int, int], upright: bool
) -> None:
    draw_turned(tmp_path, orientation, size, upright=upright)
    recipe = init(tmp_path)
    sizes_tell = orientation >= 5 and size == (48, 64)
    assert recipe.dataset.exif == ("upright" if upright else None if sizes_tell else "stored")
    for values in ingested(recipe.dataset).values():
        pixels = decoded(values[features.IMAGE_ENCODED], recipe.reading())
        mask = tf.io.decode_png(values[features.MASK_ENCODED]).numpy()[..., 0]
        assert pixels.shape[:2] == mask.shape == (values["image/height"], values["image/width"])
        assert pixels[mask == 2].min() >= 100 > pixels[mask == 1].mean()


def test_where_no_edges_tell_init_asks_and_names_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_turned(tmp_path, 3, (48, 64), upright=True, contrast=0)
    assert init(tmp_path).dataset.exif is None
    check = "Check: 12 images are not stored upright, as their EXIF says: for 12 sizes do not tell"
    assert check in capsys.readouterr().out
    assert "# Check: 12 images are not stored upright" in (tmp_path / "my.yaml").read_text()


def test_a_mask_of_the_other_way_up_is_named_as_one(tmp_path: Path) -> None:
    draw_turned(tmp_path, 6, (48, 64), upright=True)
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
    directory = export_tiny_model(tmp_path_factory.mktemp("upright"), ServingLimits(), UPRIGHT)
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
    drawn = overlay(data, mask.getvalue(), ["a"], [(0, 0, 0)], [1.0], upright=True)
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("L"))
    assert pixels[:25, :40].mean() > 3 * pixels[35:60, :40].mean()
    with pytest.raises(ValueError, match="60"):
        overlay(data, mask.getvalue(), ["a"], [(0, 0, 0)], [1.0])


def test_damaged_exif_reaches_nobodys_terminal(tmp_path: Path) -> None:
    draw_turned(tmp_path, 3, (48, 64), upright=False)
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
