"""From an image's bytes to the network's pixels, against Pillow's decoder and a resize by hand."""

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from components.imaging.decode import decode_image
from components.imaging.exif import ORIENTATION, turned_pixels
from components.imaging.network_input import NetworkInput, read_input
from components.imaging.reading import RGB, InputSize, Reading, ResizeMethod
from components.imaging.resize import resize_image

UPRIGHT = Reading(exif="upright")


@cache
def reader(reading: Reading, size: InputSize) -> Any:
    """The graph, traced once for each: op by op it takes ten times as long."""
    return tf.function(
        lambda data: read_input(data, reading, size),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )


def read(data: bytes, size: InputSize, reading: Reading = RGB) -> NetworkInput:
    pixels, height, width = reader(reading, size)(data)
    return NetworkInput(pixels.numpy(), int(height), int(width))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uint8 [height, width, 3]: slowly changing colours, edges, and a little noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels[height // 3 : height // 2, width // 4 : width // 2] += 60
    pixels += rng.integers(-6, 7, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, orientation: int = 1, mode: str = "RGB", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=92, exif=exif, **options)
    return file.getvalue()


def shrunk(pixels: np.ndarray, length: int, covered: float) -> np.ndarray:
    """Along the first axis: of each new pixel's place the mean, by a triangle of two new pixels' length."""
    step = covered / length
    centres = (np.arange(length) + 0.5) * step
    distance = np.abs(np.arange(len(pixels)) + 0.5 - centres[:, np.newaxis])
    weights = np.maximum(1 - distance / max(step, 1.0), 0)
    return np.tensordot(weights / weights.sum(1, keepdims=True), pixels, 1)


def by_hand(data: bytes, size: InputSize, reading: Reading, reduction: int) -> np.ndarray:
    """What is in the content area: decoded by Pillow at that reduction, turned, and only then resized."""
    picture = Image.open(io.BytesIO(data))
    width, height = picture.size
    orientation = picture.getexif().get(ORIENTATION, 1) if reading.upright else 1
    if reduction > 1:
        picture.draft("RGB", (width // reduction, height // reduction))
        assert picture.size == (-(-width // reduction), -(-height // reduction))
    pixels = np.asarray(picture.convert("RGB")).astype(np.float64)
    inner = size.content(*((width, height) if orientation >= 5 else (height, width)))
    stored = inner[::-1] if orientation >= 5 else inner
    pixels = shrunk(pixels, stored[0], height / reduction)
    pixels = shrunk(pixels.swapaxes(0, 1), stored[1], width / reduction).swapaxes(0, 1)
    return turned_pixels(pixels, orientation)


def assert_alike(actual: np.ndarray, expected: np.ndarray, mean: float, most: float) -> None:
    difference = np.abs(actual.astype(np.float64) - expected)
    assert difference.mean() < mean and difference.max() < most, (difference.mean(), difference.max())


def content_of(pixels: np.ndarray, size: InputSize, height: int, width: int) -> np.ndarray:
    inner = size.content(height, width)
    top, left = ((full - part) // 2 for full, part in zip(pixels.shape, inner, strict=False))
    return pixels[top : top + inner[0], left : left + inner[1]]


SIZES = [InputSize(12, 16, "stretch"), InputSize(12, 16, "letterbox"), InputSize(64, 64, "native", 0.07)]


@given(
    height=st.integers(20, 300),
    width=st.integers(20, 300),
    orientation=st.integers(1, 8),
    size=st.sampled_from(SIZES),
    subsampling=st.sampled_from(["4:4:4", "4:2:0"]),
)
@example(height=297, width=203, orientation=6, size=SIZES[0], subsampling="4:2:0")
@example(height=297, width=403, orientation=3, size=SIZES[1], subsampling="4:2:0")
@settings(max_examples=60, deadline=None)
def test_a_jpeg_is_read_as_pillow_reads_it_at_the_reduction_that_leaves_twice_the_sides(
    height: int, width: int, orientation: int, size: InputSize, subsampling: str
) -> None:
    data = jpeg(scene(height, width), orientation, subsampling=subsampling)
    own = (width, height) if orientation >= 5 else (height, width)
    answer = read(data, size, UPRIGHT)
    assert (answer.height, answer.width) == own
    inner = size.content(*own)
    spare = min(full / part for full, part in zip(own, inner, strict=True))
    reduction = max(by for by in (1, 2, 4, 8) if by == 1 or spare >= 2 * by)
    # TensorFlow's own inverse DCT is less exact than Pillow's, and darker by up to a level.
    expected = by_hand(data, size, UPRIGHT, reduction)
    assert_alike(content_of(answer.pixels, size, *own), expected, mean=2.0, most=8.0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_what_is_where_in_the_picture_stays_there(reduction: int, orientation: int) -> None:
    """A reduced JPEG ends between two pixels where its sides are no multiple; a ramp shows a shift of it."""
    side = 16 * reduction + 8 * reduction + reduction // 2 + 1
    ramp = np.linspace(0, 255, side)[np.newaxis, :, np.newaxis] * np.ones((side + reduction, 1, 3))
    size = InputSize(8, 8, "stretch")
    data = jpeg(ramp.round().astype(np.uint8), orientation, subsampling="4:4:4")
    columns = (np.arange(8) + 0.5) * side / 8 - 0.5
    expected = np.broadcast_to(255 * columns / (side - 1), (8, 8))
    # Nothing lies beyond the borders that a mean could be taken with.
    inner = turned_pixels(np.pad(np.ones((8, 6), bool), [(0, 0), (1, 1)]), orientation)
    found = read(data, size, UPRIGHT).pixels[..., 1]
    np.testing.assert_allclose(found[inner], turned_pixels(expected, orientation)[inner], atol=1.6)


@pytest.mark.parametrize("method", ["stretch", "letterbox"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_jpeg_is_reduced_from_four_times_the_sides_on_and_otherwise_read_whole(
    channels: int, method: ResizeMethod
) -> None:
    size, reading = InputSize(16, 16, method), Reading(channels=channels)
    for side, reduced in ((63, False), (64, True)):
        data = jpeg(scene(side, side))
        whole = resize_image(decode_image(tf.constant(data), reading), size).numpy()
        answer = read(data, size, reading).pixels
        assert answer.shape == (16, 16, channels) and answer.dtype == np.uint8
        assert np.array_equal(answer, whole) != reduced
        assert_alike(answer, whole, mean=2.0, most=10.0)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_are_reduced_too(mode: str) -> None:
    data = jpeg(scene(150, 170), mode=mode)
    size = InputSize(8, 10, "stretch")
    whole = resize_image(decode_image(tf.constant(data)), size).numpy()
    answer = read(data, size).pixels
    assert not np.array_equal(answer, whole)
    assert_alike(answer, whole, mean=2.0, most=10.0)


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_other_formats_are_read_whole(file_format: str) -> None:
    file = io.BytesIO()
    Image.fromarray(scene(90, 120)).save(file, file_format)
    size = InputSize(8, 10, "letterbox")
    whole = resize_image(decode_image(tf.constant(file.getvalue())), size).numpy()
    answer = read(file.getvalue(), size)
    assert (answer.height, answer.width) == (90, 120)
    np.testing.assert_array_equal(answer.pixels, whole)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_that_ends_early_is_refused(progressive: bool) -> None:
    data = jpeg(scene(300, 300), progressive=progressive)
    size = InputSize(8, 8, "stretch")
    read(data, size)
    for share in (0.1, 0.5, 0.9):
        for reading in (RGB, UPRIGHT):
            with pytest.raises(tf.errors.InvalidArgumentError):
                read(data[: int(share * len(data))], size, reading)
