"""How pictures come to the network, as the init command proposes it: by what their masks would lose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.imaging.reading import InputSize
from pipeline.config import load_recipe
from pipeline.init import input_size
from pipeline.init.__main__ import main
from pipeline.init.input_size import ProposedInput, propose_input
from pipeline.init.run import look_at_folders

Drawing = Callable[[np.random.Generator, int, int], np.ndarray]


def blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A disc in a third of the picture's width, about the middle."""
    rows, columns = np.mgrid[:height, :width]
    middle = rng.uniform(0.45, 0.55, 2) * (height, width)
    return np.hypot(rows - middle[0], columns - middle[1]) < min(height, width) / 3


def lines(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Rows and columns of one pixel, about 50 apart."""
    mask = np.zeros((height, width), bool)
    mask[rng.integers(0, height, 1 + height // 50)] = True
    mask[:, rng.integers(0, width, 1 + width // 50)] = True
    return mask


def spots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Squares of 20 pixels."""
    return np.kron(rng.random((height // 20, width // 20)) < 0.3, np.ones((20, 20), bool))


def draw(root: Path, drawing: Drawing, size: tuple[int, int], pairs: int = 10) -> None:
    """Draws pairs whose masks hold 0 and 1; ``size`` is width and height."""
    masks = [drawing(np.random.default_rng(number), size[1], size[0]) for number in range(pairs)]
    save(root, [mask.astype(np.uint8) for mask in masks])


def save(root: Path, masks: list[np.ndarray]) -> None:
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png", compress_level=1)
        gray = Image.fromarray((mask * 50 + number).astype(np.uint8))
        gray.save(root / "images" / f"{number:02}.png", compress_level=1)


def proposed(root: Path) -> ProposedInput:
    return propose_input(look_at_folders(root / "images", root / "masks", None))


@pytest.mark.parametrize(
    ("drawing", "size", "expected"),
    [
        (blobs, (600, 600), InputSize(256, 256, "stretch")),
        (blobs, (480, 360), InputSize(224, 288, "stretch")),
        (lines, (400, 400), InputSize(400, 400, "stretch")),
        (lines, (600, 600), InputSize(256, 256, "native")),
        (lines, (2000, 64), InputSize(64, 2000, "stretch")),
        (lines, (4000, 64), InputSize(64, 1024, "native")),
        (lines, (64, 4000), InputSize(1024, 64, "native")),
        (lines, (3500, 70), InputSize(80, 816, "native")),
        (spots, (1200, 1200), InputSize(256, 256, "native", 0.5)),
    ],
)
def test_things_decide_how_pictures_come_to_the_network(
    tmp_path: Path, drawing: Drawing, size: tuple[int, int], expected: InputSize
) -> None:
    draw(tmp_path, drawing, size, pairs=4)
    assert proposed(tmp_path).size == expected


def test_thin_things_get_windows_and_a_network_that_sees_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path, lines, (600, 600))
    output = tmp_path / "my.yaml"
    folders = [f"--{name}={tmp_path / name}" for name in ("images", "masks")]
    assert main([*folders, "--output", str(output)]) == 0
    recipe = load_recipe(str(output))
    assert recipe.transform.input_size == InputSize(256, 256, "native", overlap=0.5)
    assert recipe.model.filters == (16, 32, 64, 128, 256)
    training = recipe.training
    assert (training.epochs, training.windows_per_epoch, training.batch_size) == (30, 300, 4)
    said = next(line for line in capsys.readouterr().out.splitlines() if "no training can pass" in line)
    assert said.startswith("At 256 x 256 px no training can pass IoU 0.") and "for object" in said
    comments = " ".join(line.strip(" #") for line in output.read_text().splitlines())
    assert said.removesuffix(".") in comments


def test_what_is_ignored_decides_nothing(tmp_path: Path) -> None:
    masks = []
    for number in range(10):
        disc = blobs(np.random.default_rng(number), 600, 600)
        outline = disc ^ np.roll(disc, 2, axis=1)
        masks.append(np.where(outline, 255, disc).astype(np.uint8))
    save(tmp_path, masks)
    found = proposed(tmp_path)
    assert found.size == InputSize(256, 256, "stretch")
    assert found.usual.iou.keys() == {"background", "object"}


def test_a_class_in_one_mask_or_of_a_few_pixels_decides_nothing(tmp_path: Path) -> None:
    masks = [blobs(np.random.default_rng(n), 600, 600).astype(np.uint8) for n in range(10)]
    masks[0][lines(np.random.default_rng(0), 600, 600)] = 2
    for mask in masks[:4]:
        mask[5, 10:20] = 3
    save(tmp_path, masks)
    found = proposed(tmp_path)
    assert found.size.method == "stretch" and found.usual.iou.keys() == {"class_0", "class_1"}


def test_pictures_of_one_pixel_have_a_recipe(tmp_path: Path) -> None:
    save(tmp_path, [np.full((1, 1), number % 2, np.uint8) for number in range(6)])
    found = proposed(tmp_path)
    assert (found.size, found.said) == (InputSize(2, 2, "stretch"), "")


def test_no_more_masks_are_measured_than_take_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, lines, (32, 32), pairs=70)
    assert proposed(tmp_path).masks == 60
    for pixels, masks in ((10 * 32 * 32, 10), (1, 3)):
        monkeypatch.setattr(input_size, "_MASK_PIXELS", pixels)
        assert proposed(tmp_path).masks == masks


def test_pictures_are_turned_over_only_where_classes_lie_alike_above_and_below(tmp_path: Path) -> None:
    def street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        return np.arange(height)[:, np.newaxis] > np.full(width, rng.uniform(0.4, 0.6) * height)

    for drawing in (blobs, lines, street):
        (tmp_path / drawing.__name__).mkdir()
        draw(tmp_path / drawing.__name__, drawing, (200, 200), pairs=30)
    assert proposed(tmp_path / "blobs").has_no_up
    assert not proposed(tmp_path / "street").has_no_up
    (tmp_path / "few").mkdir()
    draw(tmp_path / "few", blobs, (200, 200), pairs=5)
    assert not proposed(tmp_path / "few").has_no_up
