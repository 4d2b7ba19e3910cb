"""What is refused before it is decoded, what is let through as it is, and how many at once."""

import io
import re
import struct
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from raw_pictures import png

from components.imaging.decode import decode_image
from components.imaging.guard import admit_images, admit_pixels, map_images
from components.imaging.reading import MAX_SIDE

MAX_PIXELS = 10_000


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def admit(image_bytes: tf.Tensor) -> tf.Tensor:
    return admit_images(image_bytes, MAX_PIXELS).images


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def count_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    return admit_images(image_bytes, MAX_PIXELS).pixels


def refusal(*images: bytes) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        admit(tf.constant(images))
    return str(caught.value)


def encoded(mode: str, file_format: str, width: int = 7, height: int = 5, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "P":
        image = Image.fromarray(pixels[..., :3]).quantize(16)
    else:
        image = Image.merge(mode, [Image.fromarray(pixels[..., band]) for band in range(len(mode))])
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def claiming(file_format: str, width: int, height: int) -> bytes:
    """A small file whose header claims another size."""
    data = bytearray(encoded("RGB", file_format))
    match file_format:
        case "JPEG":
            frame = data.index(b"\xff\xc0")
            data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        case "PNG":
            return png(width, height, color_type=2)
        case "BMP":
            data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def short_palette(colors: int) -> bytes:
    """A gray BMP with fewer colours than 256, and pixels of these alone."""
    data = bytearray(encoded("L", "BMP"))
    begin = int.from_bytes(data[10:14], "little")
    pixels = bytes(value % colors for value in data[begin:])
    data[10:14] = (54 + 4 * colors).to_bytes(4, "little")
    data[46:50] = colors.to_bytes(4, "little")
    return bytes(data[: 54 + 4 * colors]) + pixels


def longer_header(size: int) -> bytes:
    """A gray BMP as later versions of its header have it: 124 bytes of the fifth, say, not 40."""
    data = bytearray(encoded("L", "BMP"))
    begin = int.from_bytes(data[10:14], "little") + size - 40
    data[10:14], data[14:18] = begin.to_bytes(4, "little"), size.to_bytes(4, "little")
    return bytes(data[:54]) + bytes(size - 40) + bytes(data[54:])


ORDINARY = {
    "JPEG": encoded("RGB", "JPEG"),
    "progressive JPEG": encoded("RGB", "JPEG", progressive=True),
    "CMYK JPEG": encoded("CMYK", "JPEG"),
    "PNG": encoded("RGBA", "PNG"),
    "BMP": encoded("RGB", "BMP"),
    "BMP from top to bottom": claiming("BMP", 7, -5),
    "gray BMP": encoded("L", "BMP"),
    "gray BMP of 16 colours": short_palette(16),
    "gray BMP with a longer header": longer_header(124),
}


def compressed_bmp() -> bytes:
    data = bytearray(ORDINARY["gray BMP"])
    data[30] = 1  # Run lengths, biCompression in Microsoft's BITMAPINFOHEADER.
    return bytes(data)


@pytest.mark.parametrize("data", [encoded("P", "BMP"), compressed_bmp()], ids=["palette", "compressed"])
def test_a_bmp_that_tensorflow_would_misread_is_refused(data: bytes) -> None:
    assert "image 1 is a BMP with a palette or compressed" in refusal(ORDINARY["gray BMP"], data)


@pytest.mark.parametrize("length", [2, 20, 54, 60, 150])
def test_a_bmp_that_breaks_off_is_refused_as_any_other(length: int) -> None:
    for name in ("gray BMP", "BMP"):
        data = ORDINARY[name][:length]
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_image(admit(tf.constant([data]))[0])


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_pass_as_they_are(name: str) -> None:
    files = [ORDINARY["PNG"], ORDINARY[name]]
    assert admit(tf.constant(files)).numpy().tolist() == files
    assert decode_image(tf.constant(files[1])).shape[2] == 3


def test_no_images_pass_too() -> None:
    assert admit(tf.constant([], tf.string)).shape == (0,)


def test_sixteen_bits_a_channel_are_answered_with_the_upper_eight() -> None:
    values = np.arange(0, 65_536, 1024, dtype=np.uint16).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    [admitted] = admit(tf.constant([file.getvalue()]))
    np.testing.assert_array_equal(decode_image(admitted).numpy()[..., 0], values >> 8)


def test_the_pixels_of_all_images_are_added_up() -> None:
    together = [encoded("RGB", name, 20, 3) for name in ("JPEG", "PNG", "BMP")]
    assert count_pixels(tf.constant(together)) == 3 * 60
    assert count_pixels(tf.constant([], tf.string)) == 0
    assert admit_pixels(tf.zeros((2, 3, 20, 4), tf.uint8), MAX_PIXELS).pixels == 120


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_a_header_that_claims_too_many_pixels_is_refused_with_the_images_place(file_format: str) -> None:
    message = refusal(ORDINARY["PNG"], ORDINARY["JPEG"], claiming(file_format, 101, 100))
    assert "image 2 claims 101 x 100 pixels; at most 10,000 are accepted, 131,072 a side" in message


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_as_many_pixels_as_are_allowed_pass(file_format: str) -> None:
    data = claiming(file_format, 100, 100)
    assert admit(tf.constant([data])).numpy().tolist() == [data]


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**32 - 1, 2**32 - 1), (2**31, 2**31)])
def test_products_beyond_any_integer_are_refused(width: int, height: int) -> None:
    assert f"image 0 claims {width} x {height} pixels" in refusal(claiming("PNG", width, height))


def test_a_side_may_be_too_long_by_itself() -> None:
    data = claiming("PNG", MAX_SIDE + 1, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 0 claims 131073 x 1 pixels"):
        admit_images(tf.constant([data]), 10**9)


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\x89PN", ORDINARY["JPEG"][:2], b"RIFF\x30\0\0\0WEBPVP8 ", b"\0" * 50]
)
def test_what_is_no_image_of_these_formats_is_refused(data: bytes) -> None:
    assert f"image 1 is no JPEG, PNG or BMP: {len(data)} bytes" in refusal(ORDINARY["PNG"], data)


@pytest.mark.parametrize(
    "data",
    [
        ORDINARY["PNG"][:8],
        # Another chunk first: what stands where the size should be is not the size.
        ORDINARY["PNG"][:8] + b"\0\0\0\x04teXt\0\0\0\0\0\0\0\0" + ORDINARY["PNG"][8:],
    ],
)
def test_a_file_that_does_not_say_its_size_is_refused(data: bytes) -> None:
    assert "image 0 is damaged: its size cannot be read" in refusal(data)


def test_a_jpeg_of_scans_without_end_is_refused() -> None:
    usual = encoded("RGB", "JPEG", progressive=True)
    bomb = usual[:-2] + b"\xff\xda\0\x08\1\1\0\1\5\1" * 100 + usual[-2:]
    assert admit(tf.constant([usual])).numpy()[0] == usual
    assert re.search(r"image 1 is a JPEG of 1\d\d scans; at most 100 are decoded", refusal(usual, bomb))


def test_a_gif_is_refused_with_what_to_do() -> None:
    gif = encoded("P", "GIF")
    assert "image 1 is a GIF, which is not read here; save it as PNG" in refusal(ORDINARY["PNG"], gif)


@pytest.mark.parametrize("shape", [(1, 0, 5, 3), (1, 5, 0, 3), (1, 101, 100, 3), (2, 1, 131_073, 3)])
def test_decoded_images_have_the_same_limits(shape: tuple[int, ...]) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"images of {shape[2]} x {shape[1]} pixels; "):
        admit_pixels(tf.zeros(shape, tf.uint8), MAX_PIXELS)
    images = tf.zeros((0, 100, 100, 3), tf.uint8)
    assert admit_pixels(images, MAX_PIXELS).images.shape == images.shape


class Watch:
    """Squares numbers, slowly, and counts who else is at it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __call__(self, value: np.ndarray) -> np.ndarray:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(0.02)
        with self._lock:
            self._inside -= 1
        return value**2


@pytest.mark.parametrize("side_by_side", [True, False])
def test_images_that_are_not_to_be_side_by_side_are_worked_on_one_after_the_other(side_by_side: bool) -> None:
    watch = Watch()

    @tf.function
    def squares(values: tf.Tensor, side_by_side: tf.Tensor) -> tf.Tensor:
        return map_images(
            lambda value: tf.numpy_function(watch, [value], tf.int64, stateful=False),
            values,
            side_by_side=side_by_side,
            fn_output_signature=tf.int64,
        )

    answer = squares(tf.range(12, dtype=tf.int64), tf.constant(side_by_side))
    assert answer.numpy().tolist() == [value**2 for value in range(12)]
    if not side_by_side:
        assert watch.most == 1
