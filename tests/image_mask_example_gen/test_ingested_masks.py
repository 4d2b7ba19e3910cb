"""Masks: every way of writing class ids comes out the same."""

import io
import struct
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms
from raw_pictures import png, tiff
from scipy.io import savemat
from scipy.sparse import csc_matrix

from components.image_mask_example_gen import class_mask, files
from components.image_mask_example_gen.class_mask import count_classes, encode_mask
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import InputRejectedError, decode_gray
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.mask import Mask, open_mask
from components.image_mask_example_gen.report import Reason

MAX_PIXELS = 10**6
IDS = np.random.default_rng(0).integers(0, 2, size=(13, 17)).astype(np.uint8)


def save(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def palette_image(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids, "L").convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette([200, 10, 10, 10, 200, 10, 9, 9, 9])
    return image


def mat_file(**variables: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()


def opened(data: bytes, file: str) -> Mask:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_bytes(data)
        return open_mask(path, MAX_PIXELS)


def class_ids(
    data: bytes, values: dict[str, RawLabel], *ignored: RawLabel, file: str = "m.png"
) -> np.ndarray:
    mapping = LabelMapping({raw: name for name, raw in values.items()}, ignored, list(values))
    mask = opened(data, file)
    raw = mask.read(mapping.of_colors)
    assert raw.shape[:2] == (mask.height, mask.width)
    return mapping.class_ids(raw)


def png_of_16_bits(pixels: np.ndarray, color_type: int) -> bytes:
    """A PNG of integers [height, width, channels]."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    return png(pixels.shape[1], len(pixels), rows, bits=16, color_type=color_type)


PLAIN: dict[str, RawLabel] = {"a": 0, "b": 1}
BINARY: dict[str, RawLabel] = {"a": 0, "b": 255}
COLORS: dict[str, RawLabel] = {"a": (200, 10, 10), "b": (10, 200, 10)}
RGB = np.asarray(list(COLORS.values()), np.uint8)[IDS]


@pytest.mark.parametrize(
    ("data", "values", "file"),
    [
        (save(Image.fromarray(IDS)), PLAIN, "m.png"),
        (save(Image.fromarray(IDS * 255)), BINARY, "m.png"),
        (save(Image.fromarray(IDS.astype(bool))), PLAIN, "m.png"),
        (save(palette_image(IDS)), PLAIN, "m.png"),
        (save(palette_image(IDS), bits=2), PLAIN, "m.png"),
        (save(palette_image(IDS)), COLORS, "m.png"),
        (save(palette_image(IDS), "GIF"), COLORS, "m.gif"),
        (save(Image.fromarray(IDS.astype(np.uint16) * 1000)), {"a": 0, "b": 1000}, "m.png"),
        (save(Image.fromarray(IDS.astype(np.uint16) * 1000), "TIFF"), {"a": 0, "b": 1000}, "m.tif"),
        (save(Image.fromarray(IDS.astype(np.int32)), "TIFF"), PLAIN, "m.tif"),
        (save(Image.fromarray(RGB)), COLORS, "m.png"),
        (save(Image.fromarray(RGB).convert("RGBA")), COLORS, "m.png"),
        (save(Image.fromarray(RGB), "BMP"), COLORS, "m.bmp"),
        (save(Image.fromarray(IDS * 255).convert("RGB")), BINARY, "m.png"),
        (save(Image.fromarray(IDS * 255).convert("LA")), BINARY, "m.png"),
        (save(Image.fromarray(IDS * 255)), {"a": (0, 0, 0), "b": (255, 255, 255)}, "m.png"),
        (mat_file(groundtruth=IDS), PLAIN, "m.mat"),
        (mat_file(groundtruth=IDS.astype(np.float64)), PLAIN, "m.mat"),
    ],
)
def test_every_notation_gives_the_same_class_ids(data: bytes, values: dict[str, RawLabel], file: str) -> None:
    result = class_ids(data, values, file=file)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, IDS)


@pytest.mark.parametrize(("kind", "file"), [("PNG", "m.png"), ("TIFF", "m.tif"), ("BMP", "m.bmp")])
def test_a_mask_of_one_page_is_opened_once(monkeypatch: pytest.MonkeyPatch, kind: str, file: str) -> None:
    opens = Mock(wraps=Image.open)
    monkeypatch.setattr(Image, "open", opens)
    opened(save(Image.fromarray(IDS), kind), file).read(as_colors=False)
    assert opens.call_count == 1


@pytest.mark.parametrize(("bits", "row"), [(2, b"\x1b"), (4, b"\x01\x23"), (8, b"\0\1\2\3")])
def test_gray_keeps_its_raw_values_whatever_its_bits(bits: int, row: bytes) -> None:
    rows = {"m.png": png(4, 1, b"\0" + row, bits=bits), "m.tif": tiff({256: 4, 257: 1, 258: bits}, row)}
    for file, data in rows.items():
        assert opened(data, file).read(as_colors=False).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ignored_values_become_255(dtype: type) -> None:
    raw = np.array([[0, 1, 7]], dtype)
    assert class_ids(save(Image.fromarray(raw)), PLAIN, 7).tolist() == [[0, 1, 255]]


def test_255_classes_leave_no_value_free_and_still_map() -> None:
    raw = np.arange(256, dtype=np.uint8)[np.newaxis]
    values: dict[str, RawLabel] = {f"class {value}": value for value in range(255)}
    assert class_ids(save(Image.fromarray(raw)), values, 255).tolist() == raw.tolist()
    with pytest.raises(InputRejectedError, match="raw value 255"):
        class_ids(save(Image.fromarray(raw)), values)


def test_an_ignored_color_becomes_255() -> None:
    data = save(Image.fromarray(np.array([[[200, 10, 10], [0, 0, 0]]], np.uint8)))
    assert class_ids(data, COLORS, (0, 0, 0)).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("data", "values", "words"),
    [
        (save(Image.fromarray(IDS * 255)), PLAIN, "label_values {a: 0, b: 255}"),
        (save(Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8))), PLAIN | {"c": 2}, "ignore_label=255"),
        (
            save(Image.fromarray(np.array([[0, 1, 1, 9]], np.uint8))),
            PLAIN,
            "9 (25 %) of the pixels; expected 0 a",
        ),
        (save(Image.fromarray(np.array([[0, 300]], np.uint16))), PLAIN, "300 (50 %"),
        (save(Image.fromarray(np.array([[0, -4]], np.int32)), "TIFF"), PLAIN, "-4 (50 %"),
        (save(Image.fromarray(RGB)), PLAIN, "[red, green, blue]"),
        (save(Image.fromarray(255 - RGB)), COLORS, "[55, 245, 245]"),
        (save(Image.fromarray(RGB), "JPEG", quality=60), COLORS, "lossy"),
    ],
)
def test_an_unknown_value_is_named_with_its_share_and_a_remedy(
    data: bytes, values: dict[str, RawLabel], words: str
) -> None:
    with pytest.raises(InputRejectedError) as caught:
        class_ids(data, values)
    assert caught.value.reason is Reason.LABEL_OUTSIDE_CLASSES
    assert words in caught.value.found


def test_a_damaged_png_mask_is_rejected() -> None:
    data = save(Image.fromarray(IDS))
    with pytest.raises(InputRejectedError) as cut:
        class_ids(data[:-6], PLAIN)
    assert cut.value.reason is Reason.TRUNCATED
    flipped = bytearray(data)
    flipped[-20] ^= 4
    with pytest.raises(InputRejectedError) as damaged:
        class_ids(bytes(flipped), PLAIN)
    assert damaged.value.reason is Reason.NOT_DECODABLE


def test_a_damaged_or_foreign_mat_file_is_rejected(shared_data: Path) -> None:
    data = (shared_data / "clothing_co_parsing/annotations/pixel-level/0001.mat").read_bytes()
    with pytest.raises(InputRejectedError) as cut:
        class_ids(data[: len(data) // 2], PLAIN, file="m.mat")
    assert cut.value.reason is Reason.TRUNCATED
    with pytest.raises(InputRejectedError, match="the file holds labels"):
        class_ids(mat_file(labels=IDS), PLAIN, file="m.mat")


def test_a_mask_bomb_is_refused_before_it_is_decoded() -> None:
    for data, file in (
        (save(Image.new("1", (2000, 2000))), "m.png"),
        (mat_file(groundtruth=np.zeros((2000, 2000), np.uint8)), "m.mat"),
    ):
        with pytest.raises(InputRejectedError) as caught:
            opened(data, file)
        assert caught.value.reason is Reason.TOO_MANY_PIXELS


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 255))
)
def test_written_masks_read_back_the_same(pixels: np.ndarray) -> None:
    data = encode_mask(pixels)
    decoded = tf.io.decode_png(data, channels=0)
    assert decoded.shape[-1] == 1
    np.testing.assert_array_equal(decoded[..., 0], pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


@given(hnp.arrays(np.uint8, (7, 5), elements=st.sampled_from([0, 1, 2, 254, 255])))
def test_pixels_are_counted_by_class_and_ignored_ones_left_out(class_ids: np.ndarray) -> None:
    counts = [int((class_ids == class_id).sum()) for class_id in range(255)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_mask, "_COUNTED_AT_ONCE", 9)
        assert count_classes(class_ids, 255) == counts
    assert count_classes(class_ids, 2) == counts[:2]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.booleans())
def test_gray_pngs_are_decoded_as_pillow_does(pixels: np.ndarray, has_transparency: bool) -> None:
    picture = Image.fromarray(pixels)
    data = save(picture, transparency=0) if has_transparency else save(picture)
    np.testing.assert_array_equal(decode_gray(data, Image.open(io.BytesIO(data))), pixels)


def test_a_gray_png_needs_no_pillow_and_its_odd_profile_no_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What Pillow writes when a picture in colours becomes gray.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = save(Image.fromarray(IDS), icc_profile=profile)
    monkeypatch.setattr(files, "decode", None)
    np.testing.assert_array_equal(decode_gray(data, Image.open(io.BytesIO(data))), IDS)
    assert caplog.text == ""


def test_a_gray_png_with_less_pixels_than_it_says_is_rejected_as_by_pillow() -> None:
    """Each chunk whole and with its right checksum."""
    data = png(3, 3, b"\0abc\0de")
    with pytest.raises(InputRejectedError):
        decode_gray(data, Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("end", [-1, -40, 60])
def test_a_gray_png_that_is_cut_is_rejected(end: int) -> None:
    data = save(Image.fromarray(np.random.default_rng(0).integers(0, 9, (30, 30), np.uint8)))[:end]
    with pytest.raises(InputRejectedError) as caught:
        decode_gray(data, Image.open(io.BytesIO(data)))
    assert caught.value.reason is Reason.TRUNCATED


def test_one_channel_of_16_bits_keeps_them() -> None:
    data = png_of_16_bits(IDS[..., np.newaxis], color_type=0)
    np.testing.assert_array_equal(class_ids(data, PLAIN), IDS)


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_ids_whose_low_bits_would_be_lost_are_refused(color_type: int, channels: int) -> None:
    data = png_of_16_bits(np.repeat(IDS[..., np.newaxis], channels, axis=-1), color_type)
    with pytest.raises(InputRejectedError, match="16 bits a channel") as caught:
        class_ids(data, PLAIN)
    assert caught.value.reason == Reason.NOT_DECODABLE


def test_nor_are_they_lost_in_a_tiff() -> None:
    pixels = np.repeat([0, 1, 2], 3).astype("<u2").tobytes()
    data = tiff({256: 3, 257: 1, 258: 16, 262: 2, 277: 3}, pixels)
    with pytest.raises(InputRejectedError, match="16 bits a channel in colours"):
        opened(data, "m.tif").read(as_colors=False)


def test_a_sparse_matlab_matrix_is_a_matrix() -> None:
    data = mat_file(groundtruth=csc_matrix(IDS.astype(float)))
    np.testing.assert_array_equal(class_ids(data, PLAIN, file="m.mat"), IDS)


@given(st.data(), st.integers(1, 255), st.booleans())
def test_a_pgm_keeps_its_values_whatever_the_highest_of_them(
    data: st.DataObject, highest: int, plain: bool
) -> None:
    values = data.draw(st.lists(st.integers(0, highest), min_size=1, max_size=9))
    header = f"{'P2' if plain else 'P5'}\n{len(values)} 1\n{highest}\n".encode()
    body = " ".join(map(str, values)).encode() + b"\n" if plain else bytes(values)
    assert opened(header + body, "m.pgm").read(as_colors=False).tolist() == [values]


def test_a_tiff_that_pillow_would_turn_is_refused() -> None:
    with pytest.raises(InputRejectedError, match="TIFF with an orientation tag"):
        opened(tiff({274: 3}), "m.tif")


def test_colours_are_those_that_are_seen_however_few_bits_they_have() -> None:
    """A program that makes PNGs small makes such files of masks in black, gray and white."""
    data = tiff({256: 4, 257: 1, 258: 2}, b"\x1b")
    assert opened(data, "m.tif").read(as_colors=True)[..., 0].tolist() == [[0, 85, 170, 255]]


def test_class_ids_in_a_ppm_whose_bits_would_be_lost_are_refused() -> None:
    ppm = b"P6\n1 1\n1023\n" + struct.pack(">3H", 1023, 0, 511)
    assert opened(ppm, "m.ppm").read(as_colors=True).tolist() == [[[255, 0, 127]]]
    with pytest.raises(InputRejectedError, match="16 bits a channel in colours"):
        opened(ppm, "m.ppm").read(as_colors=False)
