"""Decoding what users' files hold."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.imaging.decode import decode_image, decode_mask, encode_mask


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "BMP"),
        ("L", "JPEG"),
    ],
)
def test_every_kind_of_image_becomes_three_channels(mode: str, file_format: str) -> None:
    image = Image.new(mode, (7, 5))
    assert decode_image(tf.constant(encoded(image, file_format))).shape == (5, 7, 3)


def test_an_animated_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(tf.constant(gif)).numpy()[0, 0].tolist() == [255, 0, 0]


def test_orientation_tags_are_ignored() -> None:
    image = Image.fromarray(np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(tf.constant(encoded(image, "JPEG", exif=exif))).shape == (8, 4, 3)


def test_masks_survive_encoding_whatever_their_values() -> None:
    class_ids = np.random.default_rng(0).integers(0, 256, (13, 1), dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask(encode_mask(tf.constant(class_ids))).numpy(), class_ids)
