"""Images: what passes is what TensorFlow decodes, unchanged where it can be."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.image_mask_example_gen.files import InputRejectedError, find_defect
from components.image_mask_example_gen.image import EncodedImage, read_image
from components.image_mask_example_gen.report import Reason
from components.imaging.reading import MAX_SIDE

MAX_PIXELS = 10**7


def picture(mode: str = "RGB", height: int = 37, width: int = 53) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([columns * 4, rows * 6, (rows + columns) * 2], axis=-1).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((columns * 1000 + rows * 10).astype(np.uint16))
    return Image.fromarray(rgb).convert(mode)


def save(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def one_colour() -> Image.Image:
    """Black, in a palette of colours: TensorFlow takes its pixels for what they are."""
    image = Image.new("P", (7, 5))
    image.putpalette([0, 0, 0, 255, 0, 0])
    return image


def check(data: bytes) -> EncodedImage:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_image(Path(file.name), MAX_PIXELS)


def decode(data: bytes) -> np.ndarray:
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


KEPT = {
    "jpeg": save(picture(), "JPEG"),
    "progressive jpeg": save(picture(), "JPEG", progressive=True),
    "gray jpeg": save(picture("L"), "JPEG"),
    "cmyk jpeg": save(picture("CMYK"), "JPEG"),
    "jpeg with restart markers": save(picture(), "JPEG", restart_marker_rows=1),
    "jpeg with trailing bytes": save(picture(), "JPEG") + b"\0" * 100,
    "png": save(picture(), "PNG"),
    "rgba png": save(picture("RGBA"), "PNG"),
    "palette png": save(picture("P"), "PNG"),
    "1-bit png": save(picture("1"), "PNG"),
    "16-bit png": save(picture("I;16"), "PNG"),
    "bmp": save(picture(), "BMP"),
}
REENCODED = {
    "palette bmp": save(picture("P"), "BMP"),
    "bmp of one colour, with a palette": save(one_colour(), "BMP"),
    "1-bit bmp": save(picture("1"), "BMP"),
    "gif": save(picture("P"), "GIF"),
    "animated gif": save(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(180)]),
    "tiff": save(picture(), "TIFF"),
    "16-bit tiff": save(picture("I;16"), "TIFF"),
    "16-bit pgm": save(picture("I;16"), "PPM"),
    "lossless webp": save(picture(), "WEBP", lossless=True),
    "ppm": save(picture(), "PPM"),
}


@pytest.mark.parametrize("name", KEPT)
def test_bytes_are_kept_where_tensorflow_decodes_them(name: str) -> None:
    image = check(KEPT[name])
    assert image.data == KEPT[name]
    assert (image.height, image.width) == (37, 53)
    assert image.format in name
    assert decode(image.data).shape == (37, 53, 3)


@pytest.mark.parametrize("name", REENCODED)
def test_other_formats_become_a_png_of_the_same_pixels(name: str) -> None:
    image = check(REENCODED[name])
    assert image.format == "png"
    original = Image.open(io.BytesIO(REENCODED[name]))
    if original.mode.startswith("I"):
        expected = np.asarray(original)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image.data))), expected)
    else:
        np.testing.assert_array_equal(decode(image.data), np.asarray(original.convert("RGB")))


@pytest.mark.parametrize("name", [*(name for name in KEPT if "trailing" not in name), "gif"])
def test_a_cut_file_is_truncated(name: str) -> None:
    data = (KEPT | REENCODED)[name]
    # A GIF's last two bytes end blocks that are complete without them.
    for length in (len(data) // 2, len(data) - (20 if name == "gif" else 2)):
        with pytest.raises(InputRejectedError) as caught:
            check(data[:length])
        assert caught.value.reason in (Reason.TRUNCATED, Reason.NOT_DECODABLE)
        if name.endswith(("jpeg", "png")):
            assert caught.value.reason is Reason.TRUNCATED


def test_text_is_not_decodable_and_the_message_shows_it() -> None:
    with pytest.raises(InputRejectedError) as caught:
        check(b"<html>404 not found</html>")
    assert caught.value.reason is Reason.NOT_DECODABLE
    assert "<html>" in caught.value.found


def test_a_flipped_bit_in_a_png_fails_its_checksum() -> None:
    data = bytearray(KEPT["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(InputRejectedError, match="checksum") as caught:
        check(bytes(data))
    assert caught.value.reason is Reason.NOT_DECODABLE


def test_no_changed_byte_in_a_pngs_pixels_passes() -> None:
    """Pillow reads many of them without a word, and other pixels than there were."""
    data = save(picture("L", 300, 400).point(lambda value: value // 64), "PNG")
    for position in range(data.index(b"IDAT") + 4, len(data) - 16, 11):
        damaged = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        with pytest.raises(InputRejectedError):
            check(damaged)


def test_a_png_is_whole_to_its_last_byte_and_whatever_follows_it() -> None:
    data = KEPT["png"]
    assert find_defect(data) is None and find_defect(data + b"more") is None
    for length in range(8, len(data)):
        defect = find_defect(data[:length])
        assert defect and defect[0] is Reason.TRUNCATED, length


def test_a_side_that_no_served_model_takes_is_refused_though_the_pixels_are_few() -> None:
    longest = Image.new("1", (MAX_SIDE, 1))
    assert check(save(longest, "PNG"))
    with pytest.raises(InputRejectedError) as caught:
        check(save(longest.resize((1, MAX_SIDE + 1)), "PNG"))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert caught.value.found == "1 x 131073 pixels; no model takes more than 131,072 a side"


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_a_decompression_bomb_is_refused_by_its_header(file_format: str) -> None:
    bomb = save(Image.new("1", (4000, 3000)), file_format)
    with pytest.raises(InputRejectedError) as caught:
        check(bomb)
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert "4000 x 3000 = 12,000,000 pixels" in caught.value.found


def test_orientation_in_exif_changes_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = check(save(picture(), "JPEG", exif=exif))
    assert (image.height, image.width) == (37, 53)


def test_whatever_passes_tensorflow_decodes(shared_data: Path) -> None:
    """Random damage to real files: cuts, flipped bytes anywhere, flipped bytes in the headers."""
    rng = np.random.default_rng(0)
    originals = [KEPT["jpeg"], KEPT["progressive jpeg"], KEPT["png"], REENCODED["gif"], KEPT["bmp"]]
    pets = sorted(
        (shared_data / "oxford_iiit_pet/images").glob("*.jpg"), key=lambda path: path.stat().st_size
    )
    originals += [path.read_bytes() for path in pets[:3]]
    passed = 0
    for original in originals:
        for trial in range(60):
            damaged = bytearray(original)
            if trial % 3 == 0:
                del damaged[rng.integers(1, len(damaged)) :]
            else:
                reach = len(damaged) if trial % 3 == 1 else min(len(damaged), 700)
                for position in rng.integers(0, reach, size=rng.integers(1, 6)):
                    damaged[position] = rng.integers(256)
            try:
                image = check(bytes(damaged))
            except InputRejectedError:
                continue
            assert decode(image.data).shape == (image.height, image.width, 3)
            passed += 1
    assert passed > 50


def test_real_jpegs_are_structurally_whole(shared_data: Path) -> None:
    photos = sorted((shared_data / "clothing_co_parsing/photos").glob("*.jpg"))[:20]
    assert len(photos) == 20
    for path in photos:
        data = path.read_bytes()
        assert find_defect(data) is None
        assert find_defect(data[:-2]) is not None


def test_a_pfm_is_refused() -> None:
    with pytest.raises(InputRejectedError, match="32 bits a pixel"):
        check(b"Pf\n2 1\n-1.0\n" + np.array([0.25, 0.75], "<f4").tobytes())
