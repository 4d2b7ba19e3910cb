"""Masks with a palette keep every pixel; overlays show what the model saw."""

import io
import zlib

import numpy as np
import pytest
from fake_server import COLORS, NAMES, png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from components.dataset.labels import default_palette
from components.serving.model_labels import Labels
from components.serving.pictures import overlay, read_class_ids, with_palette

_LABELS = Labels(NAMES, COLORS, 1)


def overlaid(image: bytes, class_ids: np.ndarray) -> np.ndarray:
    fractions = np.bincount(class_ids.ravel(), minlength=3) / class_ids.size
    with Image.open(io.BytesIO(overlay(image, png(class_ids), _LABELS, fractions))) as picture:
        assert picture.format == "JPEG"
        return np.array(picture)


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_a_palette_changes_no_pixel(class_ids: np.ndarray) -> None:
    plain = png(class_ids)
    colored = with_palette(plain, default_palette(256))
    assert np.array_equal(read_class_ids(colored), class_ids)
    with Image.open(io.BytesIO(colored)) as picture:
        assert picture.mode == "P"
        expected = np.array(default_palette(256), np.uint8)[class_ids]
        assert np.array_equal(np.array(picture.convert("RGB")), expected)


def test_the_compressed_pixels_are_the_servers_own_bytes() -> None:
    plain = png(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3)
    pixels = plain[plain.index(b"IDAT") - 4 :]
    assert with_palette(plain, COLORS).endswith(pixels)


def test_a_colour_space_stays_before_the_palette() -> None:
    plain = png(np.zeros((2, 2), np.uint8))
    gamma = b"gAMA" + (45455).to_bytes(4, "big")
    chunk = (4).to_bytes(4, "big") + gamma + zlib.crc32(gamma).to_bytes(4, "big")
    colored = with_palette(plain[:33] + chunk + plain[33:], COLORS)
    assert colored.index(b"IHDR") < colored.index(b"gAMA") < colored.index(b"PLTE") < colored.index(b"IDAT")
    assert read_class_ids(colored).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "mask",
    [b"", b"GIF89a", png(np.zeros((2, 2, 3), np.uint8)), png(np.zeros((2, 2), np.uint16)),
     png(np.zeros((2, 2), np.uint8))[:20], png(np.zeros((2, 2), np.uint8))[:33]],
)  # fmt: skip
def test_what_is_no_mask_is_refused(mask: bytes) -> None:
    with pytest.raises(ValueError, match="the mask is"):
        with_palette(mask, COLORS)


def test_an_overlay_tints_each_class_and_outlines_it() -> None:
    class_ids = np.repeat([[0] * 40 + [1] * 40], 60, axis=0).astype(np.uint8)
    picture = overlaid(png(np.full((60, 80, 3), 200, np.uint8)), class_ids)
    assert picture[30, 10] == pytest.approx([100, 100, 100], abs=4)
    assert picture[30, 60] == pytest.approx([225, 160, 100], abs=4)
    # Black, the class's own colour, not a mixture: JPEG smooths a line one pixel wide.
    assert picture[30, 39].mean() < 80


def test_a_legend_below_names_the_classes_that_occur() -> None:
    image = png(np.full((60, 200, 3), 200, np.uint8))
    one = overlaid(image, np.zeros((60, 200), np.uint8))
    three = overlaid(image, (np.arange(60 * 200) % 3).reshape(60, 200).astype(np.uint8))
    assert one.shape[0] > 60
    assert (one[:60].mean(axis=(0, 1)) < 110).all()
    # The swatch of class 2 is blue, and only there where class 2 occurs.
    assert not is_near(one[60:], COLORS[2])
    assert is_near(three[60:], COLORS[2])


def test_a_legend_has_letters_beyond_ascii() -> None:
    def legend(name: str) -> np.ndarray:
        labels = Labels((name,), ((0, 0, 0),), 1)
        made = overlay(png(np.zeros((40, 90, 3), np.uint8)), png(np.zeros((40, 90), np.uint8)), labels, [1])
        return read_class_ids(made)[40:]

    # Letters that a font lacks all look alike.
    assert not np.array_equal(legend("ö"), legend("ж"))


def test_a_narrow_picture_has_a_legend_of_several_rows() -> None:
    class_ids = (np.arange(60 * 60) % 3).reshape(60, 60).astype(np.uint8)
    narrow = overlaid(png(np.zeros((60, 60, 3), np.uint8)), class_ids)
    wide = overlaid(png(np.zeros((60, 600, 3), np.uint8)), np.repeat(class_ids, 10, axis=1))
    assert narrow.shape[0] > wide.shape[0]


@st.composite
def _encoded_alike(draw: st.DrawFn) -> tuple[bytes, int]:
    mode, value = draw(
        st.sampled_from([("L", 200), ("RGBA", 200), ("P", 200), ("LA", 200), ("I;16", 200 << 8)])
    )
    if mode == "I;16":
        picture = Image.fromarray(np.full((20, 30), value, np.uint16))
    else:
        picture = Image.new("L", (30, 20), value).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue(), value


@given(_encoded_alike())
def test_any_kind_of_picture_can_be_drawn_on(encoded: tuple[bytes, int]) -> None:
    picture = overlaid(encoded[0], np.zeros((20, 30), np.uint8))
    assert picture[5, 5] == pytest.approx([100, 100, 100], abs=3)


def test_an_orientation_is_not_applied() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "white").save(buffer, "JPEG", exif=exif)
    assert overlaid(buffer.getvalue(), np.zeros((20, 40), np.uint8)).shape[1] == 40


def test_what_cannot_be_drawn_says_why() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        overlay(b"text", png(np.zeros((2, 2), np.uint8)), _LABELS, [1, 0, 0])
    with pytest.raises(ValueError, match="the image is 3 × 4, its mask 2 × 2"):
        overlay(png(np.zeros((4, 3, 3), np.uint8)), png(np.zeros((2, 2), np.uint8)), _LABELS, [1, 0, 0])


def is_near(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels.astype(int) - color).max(axis=-1) < 25).any())
