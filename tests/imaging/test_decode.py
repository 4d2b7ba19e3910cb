"""Decoding what users' files hold."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.imaging.decode import decode_image, decode_mask, encode_mask, exif_orientation
from components.imaging.exif import ORIENTATION, orientation_of
from components.imaging.reading import Reading


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def random_image(mode: str) -> Image.Image:
    """7 × 5 pixels of noise, alpha included; a palette has some transparent entry."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    if mode == "P":
        image = Image.fromarray(pixels[..., :3]).quantize(8)
        image.info["transparency"] = 0
        return image
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.merge(mode, [Image.fromarray(pixels[..., band]) for band in range(bands)])


FILES = [
    ("RGB", "PNG"),
    ("RGBA", "PNG"),
    ("L", "PNG"),
    ("LA", "PNG"),
    ("P", "PNG"),
    ("RGB", "BMP"),
    ("RGBA", "BMP"),
    ("L", "JPEG"),
    ("RGB", "JPEG"),
    ("CMYK", "JPEG"),
]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("mode", "file_format"), FILES)
def test_every_kind_of_image_gets_the_channels_asked_for(mode: str, file_format: str, channels: int) -> None:
    data = encoded(random_image(mode), file_format)
    image = tf.function(decode_image, autograph=False)(tf.constant(data), Reading(channels=channels))
    assert image.shape == (5, 7, channels) and image.dtype == tf.uint8


@pytest.mark.parametrize(("mode", "file_format"), FILES)
def test_rgb_is_what_tensorflow_decodes_and_part_of_rgba(mode: str, file_format: str) -> None:
    data = tf.constant(encoded(random_image(mode), file_format))
    rgb = tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    np.testing.assert_array_equal(decode_image(data).numpy(), rgb)
    np.testing.assert_array_equal(decode_image(data, Reading(channels=4)).numpy()[..., :3], rgb)


@pytest.mark.parametrize(("mode", "file_format"), FILES)
def test_grey_is_the_luma_of_rgb(mode: str, file_format: str) -> None:
    data = tf.constant(encoded(random_image(mode), file_format))
    red, green, blue = np.moveaxis(decode_image(data).numpy().astype(np.float64), -1, 0)
    luma = 0.2989 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(decode_image(data, Reading(channels=1)).numpy()[..., 0], luma, atol=1.0)


def test_grey_stays_as_it_was() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = tf.constant(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(decode_image(data, Reading(channels=1)).numpy()[..., 0], values)


@pytest.mark.parametrize(("mode", "file_format"), FILES)
def test_alpha_is_a_pngs_own_or_opaque(mode: str, file_format: str) -> None:
    image = random_image(mode)
    alpha = decode_image(tf.constant(encoded(image, file_format)), Reading(channels=4)).numpy()[..., 3]
    has_alpha = file_format == "PNG" and mode in ("RGBA", "LA", "P")
    expected = np.asarray(image.convert("RGBA"))[..., 3] if has_alpha else np.full((5, 7), 255, np.uint8)
    assert has_alpha == (expected < 255).any()
    np.testing.assert_array_equal(alpha, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [None, 1])
def test_a_png_with_a_palette_of_any_bits_is_opaque_but_where_it_says_otherwise(
    bits: int, transparency: int | None
) -> None:
    image = random_image("RGB").quantize(2**bits)
    options = {} if transparency is None else {"transparency": transparency}
    file = encoded(image, "PNG", bits=bits, **options)
    assert file[24] == bits
    rgba = decode_image(tf.constant(file), Reading(channels=4)).numpy()
    np.testing.assert_array_equal(rgba[..., :3], np.asarray(image.convert("RGB")))
    is_transparent = np.asarray(image) == transparency
    np.testing.assert_array_equal(rgba[..., 3], np.where(is_transparent, 0, 255))


def test_a_png_of_black_and_white_is_opaque() -> None:
    file = encoded(random_image("L").convert("1"), "PNG")
    assert file[24] == 1
    assert (decode_image(tf.constant(file), Reading(channels=4)).numpy()[..., 3] == 255).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_transparent_colour_of_a_png_becomes_alpha(mode: str) -> None:
    image = random_image(mode)
    transparent = image.getpixel((2, 3))
    alpha = decode_image(
        tf.constant(encoded(image, "PNG", transparency=transparent)), Reading(channels=4)
    ).numpy()[..., 3]
    is_transparent = (np.asarray(image).reshape(5, 7, -1) == transparent).all(axis=-1)
    np.testing.assert_array_equal(alpha, np.where(is_transparent, 0, 255))


def test_orientation_tags_are_ignored() -> None:
    image = Image.fromarray(np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(tf.constant(encoded(image, "JPEG", exif=exif))).shape == (8, 4, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("before", [0, 5], ids=["first", "behind 300 KiB"])
def test_an_orientation_is_found_wherever_it_stands_before_the_pixels(file_format: str, before: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(random_image("RGB"), file_format, exif=exif)
    if file_format == "JPEG":
        # The mark within a comment is none.
        comment = b"\xff\xfe\xf0\x00Exif\0\0".ljust(2 + 0xF000, b".")
        data = data[:2] + before * comment + data[2:]
    else:
        text = b"\0\0\xf0\0tEXtk\0eXIf".ljust(8 + 0xF000, b".") + bytes(4)
        header = 8 + 25
        data = data[:header] + before * text + data[header:]
    assert orientation_of(data) == exif_orientation(tf.constant(data)) == 6


def test_masks_survive_encoding_whatever_their_values() -> None:
    class_ids = np.random.default_rng(0).integers(0, 256, (13, 1), dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask(encode_mask(tf.constant(class_ids))).numpy(), class_ids)
