"""What targets of fuzzing get: files, lists and messages drawn here, and mutations of them."""

import io
import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

PNG: Final = b"\x89PNG\r\n\x1a\n"
LONGEST: Final = 16_384
"""Bytes of an input, at most."""


def _saved(picture: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


class _Pictures(NamedTuple):
    """The same few pixels in three modes."""

    values: np.ndarray
    gray: Any
    palette: Any
    color: Any


def _small_pictures() -> _Pictures:
    from PIL import Image

    values = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    gray = Image.fromarray(values)
    palette = gray.copy()
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return _Pictures(values, gray, palette, Image.fromarray(np.stack([values * 64, values * 20, values], -1)))


@cache
def picture_seeds() -> list[bytes]:
    """Small pictures in every format that is read, of many modes."""
    from PIL import Image

    values, gray, palette, color = _small_pictures()
    alpha = color.convert("RGBA")
    frames = {"save_all": True, "append_images": [palette.transpose(Image.Transpose.ROTATE_180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(values.astype(np.uint16) * 300)
    return [
        *png_seeds(),
        _saved(color, "JPEG", quality=90, exif=exif),
        _saved(color, "JPEG", progressive=True),
        _saved(gray, "JPEG"),
        _saved(color.convert("CMYK"), "JPEG"),
        _saved(palette, "GIF"),
        _saved(palette, "GIF", transparency=1, **frames),
        _saved(palette, "BMP"),
        _saved(color, "BMP"),
        _saved(gray.convert("1"), "BMP"),
        *(
            _saved(picture, "TIFF", compression=how)
            for picture in (gray, color, palette, alpha, deep)
            for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
        ),
        _saved(gray.convert("1"), "TIFF", compression="group4"),
        _saved(color, "TIFF", compression="jpeg"),
        _saved(gray, "TIFF", **frames),
        _saved(color, "TIFF", exif=exif),
        _saved(color, "WEBP", lossless=True),
        _saved(alpha, "WEBP", lossless=True, **frames),
        _saved(color, "JPEG2000"),
        _saved(gray, "JPEG2000"),
        _saved(gray, "PPM"),
        _saved(color, "PPM"),
        _saved(gray.convert("1"), "PPM"),
        b"P2 4 2 2\n0 1 2 0 1 2 0 1",
        b"P1 4 2\n0 1 1 0 1 0 0 1",
        _saved(gray.convert("F"), "TIFF"),
    ]


@cache
def png_seeds() -> list[bytes]:
    from PIL import Image, PngImagePlugin

    values, gray, palette, color = _small_pictures()
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "x" * 40, zip=True)
    notes.add_itxt("Title", "y", "en", "z")
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        _saved(gray, "PNG"),
        _saved(palette, "PNG", bits=2, transparency=b"\0\xff\x80"),
        _saved(color, "PNG", pnginfo=notes, icc_profile=b"no profile"),
        _saved(color.convert("RGBA"), "PNG", exif=exif),
        _saved(gray.convert("1"), "PNG"),
        _saved(gray.convert("LA"), "PNG"),
        _saved(Image.fromarray(values.astype(np.uint16) * 9), "PNG"),
        _saved(palette, "PNG", save_all=True, append_images=[palette.rotate(180)]),
    ]


@cache
def tiff_seeds() -> list[bytes]:
    """TIFFs of bands, which neither Pillow nor TensorFlow reads."""
    import tifffile

    def tiff(pixels: np.ndarray, **options: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, **options)
        return file.getvalue()

    values = np.arange(96, dtype=np.uint16).reshape(6, 8, 2)
    planes = np.moveaxis(values, -1, 0)
    return [
        tiff(values, photometric="minisblack", planarconfig="contig"),
        tiff(planes, photometric="minisblack", planarconfig="separate", compression="zlib"),
        tiff(values[..., 0].astype(np.float32), photometric="minisblack", compression="lzw", predictor=True),
        tiff(values[..., 0].astype(np.int16), extratags=[(42113, 2, 0, "3", True)]),
        tiff(np.repeat(values[..., :1], 5, -1).astype(np.uint8), photometric="rgb", extrasamples=[0, 0]),
        tiff(np.zeros((32, 32, 3), np.uint16), photometric="rgb", tile=(16, 16), compression="zstd"),
        tiff(values[..., 0], bigtiff=True),
        tiff(np.zeros((2, 6, 8), np.uint8), photometric="minisblack"),
    ]


@cache
def mat_seeds() -> list[bytes]:
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    values = np.arange(12).reshape(3, 4) % 3
    cells = np.empty((1, 2), object)
    cells[:] = ["cat", "dog"]
    found = []
    for content, options in (
        (values.astype(np.uint8), {}),
        (values.astype(np.float64), {}),
        (values.astype(bool), {}),
        (csc_matrix(values.astype(np.float64)), {}),
        (values.astype(np.int16), {"format": "4"}),
        (cells, {}),
        ({"field": values}, {}),
        ("text", {}),
    ):
        file = io.BytesIO()
        savemat(file, {"groundtruth": content}, **options)
        found.append(file.getvalue())
    return found


def coco_seeds() -> list[bytes]:
    shapes: list[Any] = [
        [[1, 1, 5, 1, 5, 4]],
        {"size": [6, 8], "counts": [3, 5, 40]},
        {"size": [6, 8], "counts": "35P1"},
        [],
    ]
    base = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    instances = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1 + number % 2,
            "segmentation": shape,
            "iscrowd": number % 2,
        }
        for number, shape in enumerate(shapes)
    ]
    segments = [{"id": 65_793, "category_id": 1, "iscrowd": 0}]
    panoptic = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    return [
        json.dumps({**base, "annotations": each}).encode() for each in (instances, instances[:1], panoptic)
    ]


def labelme_seeds() -> list[bytes]:
    import base64

    points = {
        "polygon": [[1, 1], [5, 1], [5, 4]],
        "rectangle": [[1, 1], [5, 4]],
        "circle": [[3, 3], [5, 3]],
        "line": [[0, 0], [7, 5]],
        "points": [[2, 2]],
        "mask": [[1, 1], [3, 3]],
    }
    shapes = [{"label": "cat", "points": places, "shape_type": kind} for kind, places in points.items()]
    shapes[-1]["mask"] = base64.b64encode(png_seeds()[4]).decode()
    return [
        json.dumps({"shapes": each, "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8}).encode()
        for each in (shapes, *([shape] for shape in shapes))
    ]


def label_seeds() -> list[bytes]:
    return [
        b"background\ncat\ndog\n",
        b"name,r,g,b\ncat,1,2,3\ndog,4,5,6\n",
        b"0: background\n1: cat\n",
        b"road:128,64,128::\nsky:1,2,3::\n",
        b'{"classes": [{"name": "cat", "color": "#ff0000"}, {"name": "dog", "color": "#00ff00"}]}',
        b"names:\n  0: cat\n  1: dog\n",
        *mat_seeds()[5:6],
    ]


def response_seeds() -> list[bytes]:
    from components.serving.messages import PREDICT, to_tensor_proto

    response = PREDICT.response_class()
    response.outputs["mask_bytes"].CopyFrom(to_tensor_proto(np.array([b"mask"], object)))
    response.outputs["class_fraction"].CopyFrom(to_tensor_proto(np.ones((1, 3), np.float32)))
    return [response.SerializeToString()]


def request_seeds() -> list[bytes]:
    from components.serving.messages import ModelSpec, predict_request

    spec = ModelSpec("pets")
    return [
        predict_request(spec, signature, inputs).SerializeToString()
        for signature, inputs in (
            ("", {"image_bytes": np.array([b"one", b"two"], object)}),
            ("serving_pixels", {"images": np.zeros((1, 2, 2, 3), np.uint8)}),
            ("", {"x": np.ones((2, 2), np.float16)}),
        )
    ]


def rest_seeds() -> list[bytes]:
    return [
        b'{"instances": [{"b64": "aGVsbG8="}]}',
        b'{"instances": [{"image_bytes": {"b64": "aGVsbG8="}}]}',
        b'{"signature_name": "serving_pixels", "instances": [[[[1, 2, 3], [4, 5, 6]]]]}',
        b'{"instances": [1.5, 2]}',
        b'{"instances": ["text"]}',
    ]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Returns a seed with a few bytes or fields changed, as a fuzzer without coverage does it."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        place, size = draw.randrange(len(content) + 1), draw.choice((1, 1, 2, 4, 8, 64))
        match draw.randrange(6):
            case 0:
                content[place : place + size] = draw.randbytes(size)
            case 1:
                content[place : place + size] = draw.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
            case 2:
                del content[place : place + size]
            case 3:
                content[place:place] = content[place : place + size]
            case 4:
                number = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 60_000, len(content)))
                content[place : place + 4] = number.to_bytes(4, draw.choice(("little", "big")))
            case 5:
                # A number in a text.
                numbers = list(re.finditer(rb"\d+", content))
                if numbers:
                    found = draw.choice(numbers)
                    wanted = draw.choice(
                        (b"-1", b"0", b"1e400", b"NaN", b"9" * 30, b"null", b"[]", b'"a"', b"{}")
                    )
                    content[found.start() : found.end()] = wanted
    return with_checksums(bytes(content[:LONGEST]))


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG whose chunks have right checksums, so that what is wrong in them is looked at."""
    if not data.startswith(PNG):
        return data
    parts, position = [PNG], len(PNG)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        chunk = data[position:end]
        parts.append(chunk + zlib.crc32(chunk[4:]).to_bytes(4))
        position = end + 4
    return b"".join(parts) + data[position:]


def inputs(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yields the seeds, and so many mutations of them."""
    draw = random.Random(seed)
    yield from seeds
    for _ in range(count):
        yield mutated(draw.choice(seeds), draw)
