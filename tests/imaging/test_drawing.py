"""Masks with a palette keep every pixel; overlays show what the model saw; names read as they are."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import png_bytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFont

from components.imaging import drawing
from components.imaging.drawing import grid, labelled, legend, overlay, read_class_ids, text, with_palette
from components.imaging.palette import Color, default_palette

NAMES = ("background", "cat", "dög")
COLORS = ((0, 0, 0), (250, 120, 0), (0, 120, 250))
FONTS = Path(matplotlib.get_data_path(), "fonts/ttf")


def overlaid(image: bytes, class_ids: np.ndarray) -> np.ndarray:
    fractions = np.bincount(class_ids.ravel(), minlength=3) / class_ids.size
    with Image.open(io.BytesIO(overlay(image, png_bytes(class_ids), NAMES, COLORS, fractions))) as picture:
        assert picture.format == "JPEG"
        return np.array(picture)


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_a_palette_changes_no_pixel(class_ids: np.ndarray) -> None:
    plain = png_bytes(class_ids)
    colored = with_palette(plain, default_palette(256))
    assert np.array_equal(read_class_ids(colored), class_ids)
    with Image.open(io.BytesIO(colored)) as picture:
        assert picture.mode == "P"
        expected = np.array(default_palette(256), np.uint8)[class_ids]
        assert np.array_equal(np.array(picture.convert("RGB")), expected)


def test_a_mask_of_few_classes_keeps_its_8_bits() -> None:
    colored = with_palette(png_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3), COLORS)
    assert colored[24:26] == bytes((8, 3))


def test_a_grayscale_of_fewer_bits_is_no_mask() -> None:
    buffer = io.BytesIO()
    Image.new("1", (2, 2)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="the mask is not a PNG of one 8-bit channel"):
        with_palette(buffer.getvalue(), COLORS)


@pytest.mark.parametrize(
    "mask",
    [b"", b"GIF89a", png_bytes(np.zeros((2, 2, 3), np.uint8)), png_bytes(np.zeros((2, 2), np.uint16)),
     png_bytes(np.zeros((2, 2), np.uint8))[:20], png_bytes(np.zeros((2, 2), np.uint8))[:33]],
)  # fmt: skip
def test_what_is_no_mask_is_refused(mask: bytes) -> None:
    with pytest.raises(ValueError, match=r"the mask (is not|cannot be read)"):
        with_palette(mask, COLORS)


def test_an_overlay_tints_each_class_and_outlines_it() -> None:
    class_ids = np.repeat([[0] * 40 + [1] * 40], 60, axis=0).astype(np.uint8)
    picture = overlaid(png_bytes(np.full((60, 80, 3), 200, np.uint8)), class_ids)
    assert picture[30, 10] == pytest.approx([100, 100, 100], abs=4)
    assert picture[30, 60] == pytest.approx([225, 160, 100], abs=4)
    # Black, the class's own colour, not a mixture: JPEG smooths a line one pixel wide.
    assert picture[30, 39].mean() < 80


def test_a_legend_below_names_the_classes_that_occur() -> None:
    image = png_bytes(np.full((60, 200, 3), 200, np.uint8))
    one = overlaid(image, np.zeros((60, 200), np.uint8))
    three = overlaid(image, (np.arange(60 * 200) % 3).reshape(60, 200).astype(np.uint8))
    assert one.shape[0] > 60
    assert (one[:60].mean(axis=(0, 1)) < 110).all()
    # The swatch of class 2 is blue, and only there where class 2 occurs.
    assert not is_near(one[60:], COLORS[2])
    assert is_near(three[60:], COLORS[2])


def test_a_legend_says_nothing_and_all_of_what_is_so_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def keep(items: Sequence[tuple[str, Color]], width: int, size: int) -> Image.Image:
        told.extend(name for name, _ in items)
        return legend(items, width, size)

    monkeypatch.setattr(drawing, "legend", keep)
    ids = np.zeros((60, 200), np.uint8)
    labelled(Image.new("RGB", (200, 60)), ids, NAMES, COLORS, [1 - 4e-7, 4e-7, 0.0])
    assert told == ["background > 99.9 %", "cat < 0.01 %"]


def test_a_narrow_picture_has_a_legend_of_several_rows() -> None:
    class_ids = (np.arange(60 * 60) % 3).reshape(60, 60).astype(np.uint8)
    narrow = overlaid(png_bytes(np.zeros((60, 60, 3), np.uint8)), class_ids)
    wide = overlaid(png_bytes(np.zeros((60, 600, 3), np.uint8)), np.repeat(class_ids, 10, axis=1))
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
        overlay(b"text", png_bytes(np.zeros((2, 2), np.uint8)), NAMES, COLORS, [1, 0, 0])
    with pytest.raises(ValueError, match="the image is 3 × 4, its mask 2 × 2"):
        overlay(
            png_bytes(np.zeros((4, 3, 3), np.uint8)),
            png_bytes(np.zeros((2, 2), np.uint8)),
            NAMES,
            COLORS,
            [1, 0, 0],
        )


def reference(words: str, font: str = "DejaVuSans.ttf", size: int = 13) -> np.ndarray:
    """The words as Pillow writes them in one font, nothing around them."""
    canvas = Image.new("RGB", (600, 60), "white")
    ImageDraw.Draw(canvas).text((20, 40), words, "black", ImageFont.truetype(FONTS / font, size), anchor="ls")
    return inked(canvas)


def inked(picture: Image.Image) -> np.ndarray:
    """The part that is not white, gray."""
    gray = np.asarray(picture.convert("L"))
    rows, columns = (np.nonzero((gray < 255).any(axis=axis))[0] for axis in (1, 0))
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("words", ["Straße", "Tür", "Жук", "Ærø", "θάλασσα", "łódź", "درخت", "שלום"])
def test_text_is_written_in_its_own_letters(words: str) -> None:
    assert np.array_equal(inked(text(words, 13)), reference(words))


def test_a_letter_and_its_accent_are_one_letter() -> None:
    assert np.array_equal(np.asarray(text("Tu\u0308r", 13)), np.asarray(text("Tür", 13)))


@pytest.mark.parametrize(
    ("words", "written"),
    [("木の道", r"\u6728\u306e\u9053"), ("a木b", r"a\u6728b"), ("दी", r"\u0926\u0940"), ("a\nb", r"a\nb"),
     ("b\udce4d", r"b\udce4d"), ("\U000f1234", r"\U000f1234")],
)  # fmt: skip
def test_what_no_font_has_is_written_as_its_code(
    words: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_only(monkeypatch)
    assert np.array_equal(inked(text(words, 13)), reference(written))


def test_a_font_of_the_machine_writes_what_the_first_font_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with_only(monkeypatch, "no-font.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
    serif = "\u1d15\u1d24"
    assert np.array_equal(inked(text(serif, 13)), reference(serif, "DejaVuSerif.ttf"))
    assert text(f"a{serif}b", 13).width > text("ab", 13).width


def with_only(monkeypatch: pytest.MonkeyPatch, *fonts: str) -> None:
    """Leaves these fonts on the machine, beside the first choice."""
    monkeypatch.setattr(drawing, "_installed_fonts", lambda: tuple(str(FONTS / font) for font in fonts))
    # Not the cached one: it remembers the machine's own.
    monkeypatch.setattr(drawing, "_font_with", drawing._font_with.__wrapped__)


def test_a_legend_has_each_name_beside_its_colour() -> None:
    drawn = np.asarray(legend([("Straße", (255, 0, 0)), ("Жук", (0, 0, 255))], 300, 13))
    reds, blues = (np.argwhere((drawn == color).all(axis=-1)) for color in ((255, 0, 0), (0, 0, 255)))
    assert reds[:, 1].max() < blues[:, 1].min()
    beside_red = Image.fromarray(drawn[:, reds[:, 1].max() + 2 : blues[:, 1].min() - 1])
    assert np.array_equal(inked(beside_red), reference("Straße"))


def test_a_grid_puts_pictures_in_rows_and_columns() -> None:
    red, green = Image.new("RGB", (2, 1), "red"), Image.new("RGB", (1, 3), "green")
    drawn = grid([[red, green], [green]], 1)
    assert drawn.size == (6, 9)
    assert [drawn.getpixel(place) for place in ((1, 1), (4, 3), (1, 5), (4, 5), (0, 0))] == [
        (255, 0, 0), (0, 128, 0), (0, 128, 0), (255, 255, 255), (255, 255, 255)
    ]  # fmt: skip


def is_near(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels.astype(int) - color).max(axis=-1) < 25).any())
