"""Files made to crash, hang, fill the memory or write on the terminal: each is refused in one line."""

import base64
import io
import json
import os
import re
import struct
import tracemalloc
import zlib
from array import array
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from raw_pictures import tiff
from scipy.io import loadmat, savemat

from components.errors import StageError
from components.folders import files_below, open_file
from components.image_mask_example_gen import bands, drawn_masks
from components.image_mask_example_gen.as_png import as_png
from components.image_mask_example_gen.bands import check_pages, read_tiff_bands, read_tiff_header
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.drawn_masks import SegmentsMask, ShapesMask
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    MAX_FILE_BYTES,
    InputRejectedError,
    check_pixels,
    open_image,
    read_file,
)
from components.image_mask_example_gen.inputs import fingerprint_contents
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts import json_file
from components.image_mask_example_gen.layouts.coco import Coco, Segment
from components.image_mask_example_gen.layouts.json_file import read_json
from components.image_mask_example_gen.layouts.labelme import LabelMe
from components.image_mask_example_gen.layouts.layout import Options
from components.image_mask_example_gen.mask import open_mask
from components.image_mask_example_gen.matlab import read_variables
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.deep import read_png
from components.imaging.reading import Reading
from pipeline.init import InitError
from pipeline.init import __main__ as init
from pipeline.init.label_files import read_label_file
from pipeline.predict.image_files import sent_bytes

MAX_PIXELS = 1 << 16
IDS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def refused(folder: Path, name: str, data: bytes, max_pixels: int = MAX_PIXELS) -> InputRejectedError:
    """How a mask is refused, whether as it is opened or as it is read."""
    (folder / name).write_bytes(data)
    with pytest.raises(InputRejectedError) as caught:
        open_mask(folder / name, max_pixels).read(as_colors=False)
    return caught.value


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat(kind: int, *parts: bytes, name: bytes = b"groundtruth", compressed: bool = False) -> bytes:
    """A MATLAB file with one variable of 6 x 8 and of a class."""
    flags = element(6, struct.pack("<II", kind, 0))
    content = element(14, flags + element(5, struct.pack("<ii", 6, 8)) + element(1, name) + b"".join(parts))
    if compressed:
        packed = zlib.compress(content)
        content = struct.pack("<II", 15, len(packed)) + packed
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + content


# MATLAB files


def test_a_matlab_cell_of_cells_of_cells_is_no_matrix_and_no_list_of_names(tmp_path: Path) -> None:
    cell = b""
    for _ in range(3000):
        flags = element(6, struct.pack("<II", 1, 0))
        cell = element(14, flags + element(5, struct.pack("<ii", 1, 1)) + element(1, b"") + cell)
    assert "no matrix of numbers" in refused(tmp_path, "m.mat", mat(1, cell)).found
    with pytest.raises(InitError, match="one list of strings"):
        read_label_file(tmp_path / "m.mat")


@pytest.mark.parametrize(
    ("rows", "starts"),
    [
        ([0, 900_000_000], [0, 2, 2, 2, 2, 2, 2, 2, 2]),
        ([0, -9], [0, 2, 2, 2, 2, 2, 2, 2, 2]),
        ([0, 1], [0, 2, 2, 2, 2, 2, 2, 2, 1_000_000]),
        ([0, 1], [0, 2, 1, 2, 2, 2, 2, 2, 2]),
        ([0, 1], [0, 2]),
    ],
)
def test_a_sparse_matrix_with_places_outside_of_it_is_refused(
    tmp_path: Path, rows: list[int], starts: list[int]
) -> None:
    parts = (np.array(rows, "<i4"), np.array(starts, "<i4"), np.ones(2))
    data = mat(5, *(element(kind, part.tobytes()) for kind, part in zip((5, 5, 9), parts, strict=True)))
    assert "the sparse 'groundtruth'" in refused(tmp_path, "m.mat", data).found


@pytest.mark.parametrize("compressed", [False, True])
def test_a_string_or_a_table_beside_a_mask_is_passed_by(tmp_path: Path, compressed: bool) -> None:
    names = (b"labels", b"MCOS", b"string")
    matrix = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"")
    parts = [element(1, name) for name in names] + [element(14, matrix + element(6, bytes(4)))]
    other = element(14, element(6, struct.pack("<II", 17, 0)) + b"".join(parts))
    if compressed:
        packed = zlib.compress(other)
        other = struct.pack("<II", 15, len(packed)) + packed
    (tmp_path / "m.mat").write_bytes(mat(9, element(2, IDS.tobytes(order="F"))) + other)
    assert loadmat(tmp_path / "m.mat")["None"]["s2"] == [b"string"], "SciPy takes it for such an object"
    assert np.array_equal(open_mask(tmp_path / "m.mat", MAX_PIXELS).read(as_colors=False), IDS)
    alone = refused(tmp_path, "m.mat", mat(9, b"")[:128] + other)
    assert alone.found.endswith("the file holds labels of no size")


@pytest.mark.parametrize("sides", [(0, 0), (1, 0)])
def test_an_empty_text_among_matlabs_is_one(sides: tuple[int, int]) -> None:
    def text(letters: str, rows: int, columns: int) -> bytes:
        head = element(6, struct.pack("<II", 4, 0)) + element(5, struct.pack("<ii", rows, columns))
        return element(14, head + element(1, b"") + element(16, letters.encode()))

    [variable] = read_variables(mat(1, text("cat", 1, 3), text("", *sides), text("dog", 1, 3)))
    assert variable.texts(1000) == ["cat", "", "dog"]


def test_a_compressed_matrix_is_unpacked_no_further_than_its_size_says(tmp_path: Path) -> None:
    data = mat(9, element(2, bytes(10_000_000)), compressed=True)
    assert len(data) < 20_000
    assert "larger than its size says" in refused(tmp_path, "m.mat", data).found


def test_two_matrices_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = mat(9, element(2, bytes(48)))
    assert "one matrix named" in refused(tmp_path, "m.mat", twice + twice[128:]).found


@pytest.mark.parametrize(
    "values", [IDS, IDS.astype(np.float64), IDS.astype(">i2"), IDS > 0, IDS.astype(np.uint64)]
)
def test_matlab_matrices_are_read_as_scipy_writes_them(tmp_path: Path, values: np.ndarray) -> None:
    for compressed in (False, True):
        savemat(tmp_path / "m.mat", {"other": [1.5], "groundtruth": values}, do_compression=compressed)
        assert np.array_equal(open_mask(tmp_path / "m.mat", MAX_PIXELS).read(as_colors=False), values)


# Pictures


def test_a_tiff_whose_last_page_links_to_its_first_ends(tmp_path: Path) -> None:
    check_pages(tiff(following=8))
    # Two pages in turn for ever.
    first = tiff(following=len(tiff()))
    with pytest.raises(InputRejectedError, match="TIFF of 2 pages"):
        check_pages(first + tiff(following=8)[8:])


@pytest.mark.parametrize("writer", ["Pillow", "tifffile"])
def test_a_tiff_that_is_cut_in_its_last_page_has_several_all_the_same(writer: str) -> None:
    pages = [IDS, 1 + IDS, 2 + IDS]
    if writer == "Pillow":
        data = saved(IDS, "TIFF", save_all=True, append_images=[Image.fromarray(page) for page in pages[1:]])
    else:
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as tiffs:
            for page in pages:
                tiffs.write(page, contiguous=False)
        data = file.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as whole:
        start = whole.pages[2].offset
    for cut in (start + 1, start + 2, start + 30, start + 60):
        with pytest.raises(InputRejectedError, match=r"TIFF of [23] pages of one size"):
            check_pages(data[:cut])


def test_a_gif_whose_frame_is_larger_than_it_says_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    data = bytearray(saved(IDS, "GIF"))
    place = data.index(b"\x2c\0\0\0\0\x08\0\x06\0")
    data[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    assert refused(tmp_path, "m.gif", bytes(data)).reason is Reason.TOO_MANY_PIXELS
    later = saved(IDS, "GIF", save_all=True, append_images=[Image.fromarray(2 - IDS)])
    place = later.rindex(b"\x2c\0\0\0\0\x08\0\x06\0")
    later = later[: place + 5] + b"\x00\x10\x00\x10" + later[place + 9 :]
    assert "larger than the picture" in refused(tmp_path, "m.gif", later).found


def test_a_gif_of_a_million_frames_is_not_counted_through(tmp_path: Path) -> None:
    data = saved(IDS, "GIF")
    frame = data[data.index(b"\x2c\0\0\0\0\x08\0\x06\0") : -1]
    assert "more than 255 pages or frames" in refused(tmp_path, "m.gif", data[:-1] + 10**6 * frame).found


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff\xd8\xff\xe0\0\4ab" + b"\xff" * 20_000, "segments"),
        (b"\xff\xd8\xff\xe0\0\4ab" + b"\0" * 20_000, "segments"),
        (b"\xff\xd8" + b"\xff\xe1\0\4ab" * 10_001, "segments"),
        (saved(IDS, "JPEG", progressive=True)[:-2] + b"\xff\xda\0\x08\1\1\0\1\5\1" * 100, "scans"),
        (saved(IDS, "PNG")[:33] + (struct.pack(">I", 0) + b"tEXt" + bytes(4)) * 100_000, "chunks"),
    ],
)
def test_parts_without_end_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputRejectedError, match=f"more than [0-9,]+ {what}, which is no picture's"):
        open_image(data, MAX_PIXELS)


@pytest.mark.parametrize(
    "tags",
    [
        {277: 60_000},
        {258: 64, 339: 3, 277: 3},
        {322: 60_000, 323: 60_000, 324: 200, 325: 48},
    ],
)
def test_a_tiff_of_few_pixels_and_many_numbers_is_refused(tags: dict[int, int]) -> None:
    with pytest.raises(InputRejectedError) as caught:
        read_tiff_bands(tiff(tags), max_pixels=60)
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def test_a_tiff_of_billions_of_bands_is_refused_before_they_are_counted() -> None:
    data = tiff({277: (1 << 32) - 1})
    assert read_tiff_header(data) is None
    with pytest.raises(InputRejectedError):
        sent_bytes(data, Reading(bands=(1, 2)))


def inflated(kind: str, **options: Any) -> bytes:
    """A TIFF of 8 x 8 whose only strip is a picture that says another size of itself."""
    file = io.BytesIO()
    pixels = np.zeros((8, 8) + ((3,) if kind == "webp" else ()), options.pop("dtype", np.uint8))
    how = "rgb" if kind == "webp" else "minisblack"
    tifffile.imwrite(file, pixels, photometric=how, compression=kind, **options)
    data = bytearray(file.getvalue())
    place, sides = {
        "png": (data.find(b"IHDR") + 4, struct.pack(">2I", 10**6, 10**6)),
        "jpeg2000": (data.find(b"\xff\x4f\xff\x51") + 8, struct.pack(">2I", 3 * 10**6, 3 * 10**6)),
        "jpeg": (data.find(b"\xff\xc0") + 5, struct.pack(">2H", 65500, 65500)),
        "webp": (data.find(b"VP8L") + 9, struct.pack("<I", 0x0FFFFFFF)),
        "lerc": (data.find(b"Lerc2 ") + 14, struct.pack("<2I", 10**6, 10**6)),
    }[kind]
    data[place : place + len(sides)] = sides
    if kind == "png":
        data[place + 13 : place + 17] = struct.pack(">I", zlib.crc32(data[place - 4 : place + 13]))
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "sides"),
    [
        ("png", "1,000,000 x 1,000,000"),
        ("jpeg2000", "3,000,000 x 3,000,000"),
        ("jpeg", "65,500 x 65,500"),
        ("webp", "16,384 x 16,384"),
        ("lerc", "1,000,000 x 1,000,000"),
    ],
)
def test_a_strip_that_is_larger_than_its_tiff_says_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, kind: str, sides: str
) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    data = inflated(kind)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", decoded)
    with pytest.raises(InputRejectedError, match=f"strips have 8 x 8 pixels, and one says of itself {sides}"):
        read_tiff_bands(data, MAX_PIXELS)


def test_so_is_a_strip_of_deep_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    pixels = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(
        file, pixels, photometric="rgb", compression="jpeg", compressionargs={"outcolorspace": "rgb"}
    )
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">2H", 65500, 65500)
    with tifffile.TiffFile(io.BytesIO(data)) as tags:
        place = tags.pages.first.tags["BitsPerSample"].valueoffset
    data[place : place + 6] = struct.pack("<3H", 16, 16, 16)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", decoded)
    with pytest.raises(InputRejectedError, match="strips have 8 x 8 pixels, and one says of itself 65,500"):
        as_png(bytes(data), open_image(bytes(data), MAX_PIXELS), MAX_PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        inflated("jpeg2000").replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x52"),
        inflated("png").replace(b"IHDR", b"iHDR"),
        inflated("lerc").replace(b"Lerc2 ", b"CntZIm"),
        inflated("webp").replace(b"WEBP", b"WEB "),
    ],
)
def test_a_strip_that_does_not_say_how_large_it_is_is_refused(data: bytes) -> None:
    with pytest.raises(InputRejectedError, match="TIFF with a strip that is no"):
        read_tiff_bands(data, MAX_PIXELS)


@pytest.mark.parametrize("kind", ["png", "jpeg2000", "jpeg", "webp", "lerc", "lerc_zstd", "lerc_deflate"])
@pytest.mark.parametrize("place", [{"tile": (32, 32)}, {"rowsperstrip": 16}])
def test_strips_and_tiles_with_headers_of_their_own_are_read(kind: str, place: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    compression, _, inner = kind.partition("_")
    how: dict[str, Any] = {"compressionargs": {"compression": inner}} if inner else {}
    if kind == "jpeg":
        # In colours it is YCbCr, which Pillow reads.
        pixels, how = np.full((40, 50, 1), 7, np.uint8), {"photometric": "minisblack"}
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **({"photometric": "rgb", "compression": compression} | how), **place)
    assert np.array_equal(read_tiff_bands(file.getvalue(), MAX_PIXELS), pixels)


@pytest.mark.parametrize(("kind", "name"), [("jpegxl", "JPEG XL"), ("jpegxr", "JPEG XR")])
def test_a_tiff_whose_strips_are_of_a_format_that_nobody_bounds_is_refused(kind: str, name: str) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8, 3), np.uint8), photometric="rgb", compression=kind)
    with pytest.raises(InputRejectedError, match=f"TIFF compressed as {name}, which is not read: save it as"):
        read_tiff_bands(file.getvalue(), MAX_PIXELS)


def test_bands_of_more_values_than_tensorflow_decodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((6, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    monkeypatch.setattr(bands, "MOST_PIXELS", 6 * 8 * 4)
    assert bands.encode_bands(file.getvalue(), MAX_PIXELS, Reading(4, bands=(1, 2, 3, 4)))
    with pytest.raises(InputRejectedError) as refused:
        bands.encode_bands(file.getvalue(), MAX_PIXELS, Reading(5, bands=(1, 2, 3, 4, 5)))
    assert refused.value.reason is Reason.TOO_MANY_PIXELS
    assert "5 bands of 8 x 6 pixels have 240 values, of which at most 192 are read" in refused.value.found


def test_a_deep_picture_may_be_smaller_than_its_tile_which_is_bounded_all_the_same() -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (20, 10, 3), np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", tile=(256, 256))
    assert np.array_equal(read_png(sent_bytes(file.getvalue())), pixels)
    # A tile takes 256 * 256 pixels of 6 bytes; 16 are allowed for each.
    data, enough = file.getvalue(), 256 * 256 * 6 // 16
    assert np.array_equal(read_png(as_png(data, open_image(data, enough), enough)), pixels)
    with pytest.raises(InputRejectedError, match="allows 393,200, 16 for each of 24,575 pixels"):
        as_png(data, open_image(data, enough - 1), enough - 1)


def test_a_picture_that_nothing_reads_is_told_the_real_limit() -> None:
    huge = tiff({256: 30_000, 257: 20_000, 278: 20_000})
    for allowed, told in ((1 << 29, "536,870,911"), (ANY_SIZE, "536,870,911"), (50_000_000, "50,000,000")):
        with pytest.raises(
            InputRejectedError, match=f"600,000,000 pixels; dataset.max_pixels allows {told}'"
        ):
            open_image(huge, allowed)


def test_what_the_predict_command_would_decode_is_bounded() -> None:
    with pytest.raises(InputRejectedError, match="more than 134,217,728 pixels"):
        sent_bytes(tiff({256: 60_000, 257: 60_000, 278: 60_000}))


@pytest.mark.parametrize("size", [(0, 5), (10**3000, 10**3000), (-1, 5)])
def test_no_size_is_too_odd_to_be_told(size: tuple[int, int]) -> None:
    with pytest.raises(InputRejectedError, match="no number of pixels"):
        check_pixels(*size, MAX_PIXELS)


@pytest.mark.parametrize(
    ("function", "file"),
    [
        ("files.open_image", r"images/[abc]\.png"),
        ("mask_values.Layout.open_mask", r"masks/[abc]\.png"),
        ("images.open_image", r"images/[abc]\.png"),
    ],
)
def test_where_memory_ends_the_command_that_looks_at_folders_says_at_which_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    function: str,
    file: str,
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            (tmp_path / folder / f"{name}.png").write_bytes(saved(IDS, "PNG"))
    monkeypatch.setattr(f"pipeline.init.{function}", no_memory)
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    assert init.main([*folders, "--output", str(tmp_path / "r.yaml")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(f"while .*/{file} was read; memory is at its end", line)


def test_numbers_where_colours_are_told_are_refused() -> None:
    mapping = LabelMapping({(0, 0, 0): "a", (1, 1, 1): "b"}, (), ("a", "b"))
    with pytest.raises(InputRejectedError, match="makes numbers of the mask"):
        mapping.class_ids(IDS)


# Annotations


def test_a_damaged_stamp_of_labelme_is_refused() -> None:
    half = base64.b64encode(saved(IDS, "JPEG")[:-30]).decode()
    shape = {"label": "cat", "points": [[1, 1], [3, 3]], "shape_type": "mask", "mask": half}
    with pytest.raises(InputRejectedError):
        ShapesMask(6, 8, [shape], {"cat": 1}, 0).read(as_colors=False)


@pytest.mark.parametrize("kind", ["polygon", "linestrip", "circle"])
def test_shapes_that_would_be_drawn_for_hours_are_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(drawn_masks, "_LARGEST_AREAS", 1 << 30)
    zigzag = [[0, 7000 * (number % 2)] for number in range(2 if kind == "circle" else 4000)]
    shapes = [{"label": "cat", "points": zigzag, "shape_type": kind}] * 400
    mask = ShapesMask(7000, 7000, shapes, {"cat": 1}, 0)
    with pytest.raises(InputRejectedError, match="up to here"):
        mask.read(as_colors=False)


def test_thousands_of_small_circles_and_stamps_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_masks, "_LARGEST_AREAS", 1 << 17)
    stamp = base64.b64encode(saved(np.ones((3, 3), np.uint8), "PNG")).decode()
    shapes = []
    for x, y in product(range(5, 400, 10), range(5, 300, 10)):
        shapes.append({"label": "cell", "points": [[x, y], [x, y + 4]], "shape_type": "circle"})
        box = [[x - 1, y - 1], [x + 1, y + 1]]
        shapes.append({"label": "core", "points": box, "shape_type": "mask", "mask": stamp})
    drawn = ShapesMask(300, 400, shapes, {"cell": 1, "core": 2}, 0).read(as_colors=False)
    cell = drawn[:10, :10]
    assert (cell == 2).sum() == 9 and cell[5, 1] == cell[5, 9] == 1 and cell[0, 0] == 0
    assert np.array_equal(drawn, np.tile(cell, (30, 40)))


def test_stamps_that_would_be_drawn_for_hours_or_are_larger_than_the_image_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawn_masks, "_LARGEST_AREAS", 1 << 10)
    stamp = base64.b64encode(saved(IDS, "PNG")).decode()
    shape = {"label": "cat", "points": [[0, 0], [7, 5]], "shape_type": "mask", "mask": stamp}
    with pytest.raises(InputRejectedError, match=r"shape 21 .*areas up to here"):
        ShapesMask(6, 8, [shape] * 30, {"cat": 1}, 0).read(as_colors=False)
    with pytest.raises(InputRejectedError, match="its mask of 8 x 6 is larger than the image"):
        ShapesMask(5, 8, [shape], {"cat": 1}, 0).read(as_colors=False)


def test_segments_that_would_be_drawn_for_hours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_masks, "_LARGEST_AREAS", 1 << 30)
    whole = Segment(1, False, {"size": [4000, 4000], "counts": [0, 16_000_000]})
    with pytest.raises(InputRejectedError, match="areas up to here"):
        SegmentsMask(4000, 4000, [whole] * 100, {1: 1}, 0).read(as_colors=False)
    outline = array("d", [0, 0, 40_000, 40_000, 0, 40_000] * 8)
    with pytest.raises(InputRejectedError, match="outlines up to here"):
        SegmentsMask(4000, 4000, [Segment(1, False, (outline,))] * 100, {1: 1}, 0).read(as_colors=False)


def write_coco(root: Path, **changes: Any) -> Coco:
    image = {"id": 1, "file_name": "a.png", "height": 6, "width": 8} | changes.pop("image", {})
    content = {
        "images": [image],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4]]}],
    } | changes
    root.mkdir(exist_ok=True)
    (root / "instances.json").write_text(json.dumps(content))
    (root / "a.png").write_bytes(saved(IDS, "PNG"))
    return Coco(Options(classes=("background", "cat")))


def test_a_panoptic_mask_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(saved(np.zeros((6, 8, 3), np.uint8), "PNG"))
    segments = [{"id": 1, "category_id": 1}]
    for name in ("../../secret.png", str(tmp_path / "secret.png")):
        listed = [{"image_id": 1, "file_name": name, "segments_info": segments}]
        layout = write_coco(tmp_path / "data", annotations=listed)
        with pytest.raises(StageError, match="outside of the dataset's folder"):
            layout.scan(tmp_path / "data")


def test_sizes_of_thousands_of_digits_are_refused(tmp_path: Path) -> None:
    layout = write_coco(tmp_path, image={"height": 10**4000, "width": 10**4000})
    [entry] = layout.scan(tmp_path).entries
    with pytest.raises(InputRejectedError):
        layout.open_mask(tmp_path, entry, MAX_PIXELS)


def test_what_a_list_names_is_printable_and_short(tmp_path: Path) -> None:
    name = "\ud800\x1b[2J\n" + "x" * 100_000 + ".png"
    layout = write_coco(tmp_path, image={"file_name": name})
    [rejection] = [item for item in layout.scan(tmp_path).rejected if item.reason.is_damage]
    assert rejection.found.isprintable() and len(rejection.found) < 2000


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5e3, "\\u00e9\\ud83d\\ude00"], "b": {"c": [true, null]}, "d": -0.5, "e": [], "f": "ä]"}',
        "[1, [2, {}]]",
        "8",
        '{"a": [1, 2}',
        '{"a": [1 2]}',
        '{"a": [1,\n 2], b: 3}',
        '{"a": "text',
        '{"a": 1} x',
        "",
        '{"a": [tru]}',
    ],
)
def test_json_in_pieces_says_what_json_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int
) -> None:
    monkeypatch.setattr(json_file, "_CHUNK", chunk)
    (tmp_path / "a.json").write_text(text)
    try:
        expected = json.loads(text)
    except json.JSONDecodeError as error:
        # Where the text ends early, the words depend on where the last piece began.
        place = f"in line {error.lineno}, column {error.colno}"
        with pytest.raises(ValueError, match=place if chunk > len(text) else "no JSON: "):
            read_json(tmp_path / "a.json")
    else:
        assert read_json(tmp_path / "a.json") == expected


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("faulty", [b"\xe4 x", b"\xc3"])
def test_bytes_that_are_no_utf8_are_told_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: bytes, mark: bytes, chunk: int
) -> None:
    monkeypatch.setattr(json_file, "_CHUNK", chunk)
    before = mark + '{"a": ["ä", 1, "'.encode()
    (tmp_path / "a.json").write_bytes(before + faulty)
    with pytest.raises(ValueError, match=f"no JSON: not UTF-8 at byte {len(before)} "):
        read_json(tmp_path / "a.json")


def test_two_gigabytes_that_are_no_list_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text('{"images": [')
    os.truncate(path, 2 << 30)
    with pytest.raises(ValueError, match="no JSON: Expecting value in line 1, column 13"):
        read_json(path)


def test_an_item_of_millions_of_lists_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "_CHUNK", 1 << 10)
    monkeypatch.setattr(json_file, "_MOST_VALUES", 10_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": [[[]] * 100_000]}))
    with pytest.raises(ValueError, match="an item of more than 10,000 values"):
        read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"nested deeper|an item of more than"):
        read_json(path)


# Names, links, pipes and devices


def test_a_file_takes_the_memory_of_its_bytes_and_one_of_a_gigabyte_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no picture")
    tracemalloc.start()
    try:
        assert read_file(path) == b"no picture"
        os.truncate(path, MAX_FILE_BYTES + 1)
        with pytest.raises(InputRejectedError, match="more than 1 GiB"):
            read_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_that_another_takes_the_place_of_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"short")
    other.write_bytes(b"a whole longer file")
    opened, read = os.open, os.read

    def replaced(name: Any, flags: int) -> int:
        os.replace(other, path)
        return opened(name, flags)

    monkeypatch.setattr(os, "open", replaced)
    # A network's disk may give less than is asked for.
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(3, size)))
    assert read_file(path) == b"a whole longer file"


def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe, a socket or a device"):
            open_file(target)
    (tmp_path / "data/masks").mkdir(parents=True)
    for name in ("good0", "good1", "good2", "zero", "pipe"):
        (tmp_path / f"data/masks/{name}.png").write_bytes(saved(IDS, "PNG"))
        (tmp_path / f"data/{name}.png").symlink_to(f"masks/{name}.png" if "good" in name else f"../{name}")
    (tmp_path / "zero").symlink_to("/dev/zero")
    config = DatasetConfig(
        layout="folder",
        root=str(tmp_path / "data"),
        images="*.png",
        masks="masks/*.png",
        classes=("a", "b", "c"),
    )
    # Neither may the fingerprint wait.
    (tmp_path / "data/zero.png").unlink()
    (tmp_path / "data/zero.png").symlink_to("/dev/zero")
    (tmp_path / "data/pipe.png").unlink()
    (tmp_path / "data/pipe.png").symlink_to("../pipe.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert fingerprint_contents(config) == fingerprint_contents(config)
    scan = config.source.scan(tmp_path / "data")
    assert {"zero.png", "pipe.png"} <= {entry.image for entry in scan.entries}


def test_a_pipe_among_annotations_is_told_of(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    layout = write_coco(tmp_path)
    assert len(layout.scan(tmp_path).entries) == 1
    [rejection] = [item for item in LabelMe().scan(tmp_path).rejected if item.file == "pipe.json"]
    assert "a pipe, a socket or a device" in rejection.found
    os.mkfifo(tmp_path / "classes.txt")
    with pytest.raises(InitError, match="a pipe, a socket or a device"):
        read_label_file(tmp_path / "classes.txt")


def test_links_that_multiply_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level in range(8):
        (tmp_path / f"{level}").mkdir()
        for link in "ab":
            (tmp_path / f"{level}/{link}").symlink_to(f"../{level + 1}")
    (tmp_path / "8").mkdir()
    (tmp_path / "8/x.png").touch()
    for onerror in (print, None):
        with pytest.raises(
            StageError, match=r"more than 100 ways over other links lead to the link .*; remove"
        ):
            list(files_below(tmp_path / "0", onerror))
    folders = ("--images", str(tmp_path / "0"), "--masks", str(tmp_path / "8"))
    assert init.main([*folders, "--output", str(tmp_path / "my.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_link_out_of_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    assert list(files_below(tmp_path / "data")) == ["link/a.png"]


def test_names_cannot_write_on_the_terminal() -> None:
    name = os.fsdecode(b"a\x1b[2J\x1b]0;owned\x07\nb\xff") + "\u202egnp.exe"
    told = r"a\x1b[2J\x1b]0;owned\x07\nb\xff\u202egnp.exe"
    assert Rejection(name, Reason.NOT_DECODABLE, name).file == told
    assert str(StageError(f"{name.replace(chr(10), '')} is bad\nsecond line")).count("\n") == 1
    assert "\x1b" not in str(StageError(name)) and "\x1b" not in str(InitError(name))
