"""Coverage-guided fuzzing of all that reads other people's bytes: pictures, masks, lists, requests, answers.

    pip install atheris
    python -m benchmarks.fuzz [TARGET ...] [--seconds 600] [--corpus DIR]

Each target gets bytes and hands them to the project's own reader. Right is what the reader promises, an array
whose type, shape and values are checked here, or the refusal that it documents. Anything else is a finding:
another exception, a crash, more than ``--slow`` seconds, more than ``--megabytes`` resident. It ends the
target, is said with its trace, and its bytes stay in the corpus, under ``crash-…``, ``timeout-…`` or
``oom-…``. The first inputs are drawn here (`Target.seeds`), so that no corpus needs to be kept: without
``--corpus`` it is temporary, and stays only where something was found, which is said. Printed for each
target: executions, seconds, and the branches of Python code that were reached.

What is watched for new branches is the code of this project, Pillow and tifffile. The libraries below them,
libjpeg, libpng, libtiff, TensorFlow's kernels, are run, not watched. The tests run the same targets on
mutations drawn by a seed; those need no atheris.
"""

import argparse
import io
import json
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.command_line import command_parser

MAX_PIXELS: Final = 1 << 16
"""Of the pictures that targets let pass."""
_WATCHED: Final = ("PIL", "tifffile", "components", "pipeline.predict", "pipeline.init")
_LONGEST: Final = 16_384
"""Bytes of an input, at most."""
_CLASSES: Final = ("background", "cat", "dog")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Target(NamedTuple):
    """What is fuzzed."""

    run: Callable[[bytes], None]
    """Ends with an exception where the bytes do what they should not."""
    seeds: Callable[[], list[bytes]]
    """Inputs that are read as they should be, or nearly."""


def read_image(data: bytes) -> None:
    """An image file of the ingestion."""
    import tensorflow as tf

    from components.image_mask_example_gen.files import InputRejectedError
    from components.image_mask_example_gen.image import read_image

    path = _file("image", data)
    try:
        image = read_image(path, MAX_PIXELS)
    except InputRejectedError as rejected:
        _check_rejection(rejected)
        return
    assert 0 < image.height * image.width <= MAX_PIXELS and image.orientation in range(1, 9)
    pixels = tf.io.decode_image(image.data, channels=3, expand_animations=False)
    assert pixels.shape == (image.height, image.width, 3) and pixels.dtype == tf.uint8
    assert len(image.sketch()) == 32 and len(image.pixel_digest()) == 16


def read_bands(data: bytes) -> None:
    """An image file of which a model reads a list of bands, and one whose numbers a range spreads."""
    from components.image_mask_example_gen.files import InputRejectedError
    from components.image_mask_example_gen.image import read_image
    from components.imaging.deep import read_png
    from components.imaging.reading import Reading

    for bands in ((1,), (2, 1), None):
        try:
            image = read_image(
                _file("bands", data), MAX_PIXELS, Reading(bands=bands, value_range=(0.0, 100.0))
            )
        except InputRejectedError as rejected:
            _check_rejection(rejected)
            continue
        assert 0 < image.height * image.width <= MAX_PIXELS
        if bands:
            stack = read_png(image.data)
            assert stack.shape == (len(bands) * image.height, image.width)
            assert stack.dtype in (np.uint8, np.uint16)


def read_mask(data: bytes) -> None:
    """A mask in a picture format, by numbers and by colours, as it stands and by page or alpha."""
    for values in (None, "index", "alpha", "pages"):
        _read_mask(_file("mask.png", data), values)


def read_mat(data: bytes) -> None:
    """A mask in a MATLAB file, as it stands and compressed."""
    packed = zlib.compress(data[128:], 1)
    for content in (data, data[:128] + struct.pack("<II", 15, len(packed)) + packed):
        _read_mask(_file("mask.mat", content), None)


def read_header(data: bytes) -> None:
    """The header of a file of ``pipeline.init``."""
    from components.image_mask_example_gen.files import InputRejectedError
    from pipeline.init.files import Header, read_headers

    for name in ("header", "header.mat"):
        for of_images in (False, True):
            [found] = read_headers([_file(name, data)], MAX_PIXELS, of_images=of_images)
            if isinstance(found, InputRejectedError):
                _check_rejection(found)
            else:
                assert isinstance(found, Header) and 0 < found.width * found.height <= MAX_PIXELS


def read_labels(data: bytes) -> None:
    """A file of class names."""
    from pipeline.init import InitError
    from pipeline.init.label_files import SUFFIXES, read_label_file

    for suffix in SUFFIXES:
        try:
            found = read_label_file(_file(f"labels{suffix}", data))
        except InitError as error:
            _check_message(error)
        else:
            assert found.names and all(isinstance(name, str) for name in found.names)


def read_coco(data: bytes) -> None:
    """A list of COCO's form."""
    from components.image_mask_example_gen.layouts.coco import Coco
    from components.image_mask_example_gen.layouts.layout import Options

    _read_layout(Coco(Options(classes=_CLASSES)), "instances.json", data)


def read_labelme(data: bytes) -> None:
    """A file of shapes."""
    from components.image_mask_example_gen.layouts.labelme import LabelMe
    from components.image_mask_example_gen.layouts.layout import Options

    _read_layout(LabelMe(Options(classes=_CLASSES)), "a.json", data)


def read_voc_list(data: bytes) -> None:
    """VOC's list of names."""
    from components.image_mask_example_gen.layouts.voc import Voc

    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        root = Path(folder)
        for path, content in {
            "ImageSets/Segmentation/train.txt": data,
            "JPEGImages/a.png": _png_seeds()[0],
            "SegmentationClass/a.png": _png_seeds()[0],
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        _scan(Voc(), root)


def read_sent(data: bytes) -> None:
    """What ``pipeline.predict`` makes of a file before it sends it."""
    from components.image_mask_example_gen.files import InputRejectedError
    from components.imaging.reading import Reading
    from pipeline.predict.image_files import sent_bytes

    for reading in (Reading(), Reading(bands=(1, 2), value_range=(0.0, 100.0))):
        try:
            sent = sent_bytes(data, reading)
        except InputRejectedError as rejected:
            _check_rejection(rejected)
        else:
            assert sent.startswith((_PNG, b"\xff\xd8\xff"))


def draw_answer(data: bytes) -> None:
    """A mask as a server answers it, and an image, as the predict command draws them."""
    from components.imaging.drawing import overlay, with_palette, with_raw_values

    colors = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    for draw in (
        lambda: with_palette(data, colors),
        lambda: with_raw_values(data, (0, 7, 300)),
        lambda: overlay(_png_seeds()[0], data, _CLASSES, colors, (0.2, 0.3, 0.5)),
        lambda: overlay(data, _png_seeds()[0], _CLASSES, colors, (0.2, 0.3, 0.5)),
    ):
        try:
            assert draw()
        except ValueError as error:
            _check_message(error)


def read_response(data: bytes) -> None:
    """A server's answer as the client reads it."""
    from google.protobuf.message import DecodeError

    from components.serving.messages import PREDICT, read_predict_response

    try:
        response = PREDICT.response_class.FromString(data)
    except DecodeError:
        return
    try:
        answer = read_predict_response(response)
    except ValueError as error:
        _check_message(error)
        return
    for name, proto in response.outputs.items():
        assert answer.outputs[name].shape == tuple(dim.size for dim in proto.tensor_shape.dim)


def read_request(data: bytes) -> None:
    """A PredictRequest as the embedded server reads it."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import predict_pb2

    from components.serving.server.errors import ServingError
    from components.serving.server.servable import MAX_MESSAGE_BYTES, read_tensor

    try:
        request = predict_pb2.PredictRequest.FromString(data)
    except DecodeError:
        return
    for name, proto in request.inputs.items():
        try:
            tensor = read_tensor(name, proto)
        except ServingError as error:
            _check_refusal(error)
        else:
            assert tensor.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
            assert tensor.nbytes <= MAX_MESSAGE_BYTES


def read_rest(data: bytes) -> None:
    """The body of a REST request as the embedded server reads it."""
    from components.serving.server.errors import ServingError
    from components.serving.server.rest_api import read_document, read_inputs

    for infos in _signatures():
        try:
            tensors = read_inputs(read_document(data), infos)
        except ServingError as error:
            _check_refusal(error)
        except RecursionError:
            # Whoever calls says so.
            return
        else:
            assert tensors.keys() == infos.keys()


def admit(data: bytes) -> None:
    """An image as a served model's graph admits, decodes and turns it."""
    import tensorflow as tf

    try:
        image = _admitted()(tf.constant([data])).numpy()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS


# What targets share


def _check_rejection(rejected: Any) -> None:
    from components.image_mask_example_gen.report import Reason, Rejection

    assert isinstance(rejected.reason, Reason)
    said = Rejection("file", rejected.reason, rejected.found).found
    assert said and not _UNPRINTABLE.search(said) and len(said) < 4000, said[:200]


def _check_message(error: Exception) -> None:
    assert 0 < len(str(error)) < 20_000, str(error)[:200]


def _check_refusal(error: Any) -> None:
    assert error.code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED", "OUT_OF_RANGE"), error.code
    assert error.message and len(error.message.encode()) <= 1024


def _read_mask(path: Path, values: Any) -> None:
    from components.image_mask_example_gen.files import InputRejectedError
    from components.image_mask_example_gen.mask import open_mask

    for as_colors in (False, True):
        try:
            _check_mask(open_mask(path, MAX_PIXELS, values), as_colors)
        except InputRejectedError as rejected:
            _check_rejection(rejected)


def _check_mask(mask: Any, as_colors: bool) -> None:
    from components.image_mask_example_gen.files import InputRejectedError

    raw = mask.read(as_colors=as_colors)
    assert 0 < mask.height * mask.width <= MAX_PIXELS
    assert raw.shape[:2] == (mask.height, mask.width), (raw.shape, mask.height, mask.width)
    assert raw.dtype.kind in "iu" and raw.ndim in (2, 3)
    assert raw.ndim == 2 or (raw.dtype == np.uint8 and raw.shape[2] == 3)
    mapping = _mapping(as_colors)
    try:
        class_ids = mapping.class_ids(raw)
    except InputRejectedError as rejected:
        _check_rejection(rejected)
        return
    assert class_ids.dtype == np.uint8 and class_ids.shape == raw.shape[:2]
    assert set(np.unique(class_ids)) <= {0, 1, 2, 255}
    mapping.repaired_pixels(raw)


@cache
def _mapping(of_colors: bool) -> Any:
    from components.image_mask_example_gen.label_mapping import LabelMapping

    raws = ((0, 0, 0), (128, 0, 0), (0, 128, 0)) if of_colors else (0, 1, 2)
    return LabelMapping(dict(zip(raws, _CLASSES, strict=True)), [(255,) * 3 if of_colors else 255], _CLASSES)


def _read_layout(layout: Any, name: str, data: bytes) -> None:
    from components.image_mask_example_gen.files import InputRejectedError

    # A folder of its own: lists are remembered as long as they stay the same.
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        root = Path(folder)
        (root / name).write_bytes(data)
        (root / "a.png").write_bytes(_png_seeds()[0])
        for entry in _scan(layout, root):
            try:
                mask = layout.open_mask(root, entry, MAX_PIXELS)
                raw = mask.read(as_colors=False)
            except InputRejectedError as rejected:
                _check_rejection(rejected)
                continue
            assert raw.shape == (mask.height, mask.width) and 0 < raw.size <= MAX_PIXELS
            assert set(np.unique(raw)) <= {0, 1, 2, 255}


def _scan(layout: Any, root: Path) -> list[Any]:
    """The entries; files are those of the folder, and what is said can be."""
    from components.errors import StageError

    try:
        if layout.missing(root):
            return []
        scan = layout.scan(root)
    except StageError as error:
        _check_message(error)
        return []
    for path in scan.files:
        assert (root / path).resolve().is_relative_to(root.resolve()), path
    for item in scan.rejected:
        assert not _UNPRINTABLE.search(item.file + item.found)
    return list(scan.entries)


@cache
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory(
        prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    )
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: Final[list[Any]] = []
"""What is to be there until the program ends."""


def _file(name: str, data: bytes) -> Path:
    path = _scratch() / name
    path.write_bytes(data)
    return path


@cache
def _signatures() -> list[Any]:
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

    types = {"image_bytes": types_pb2.DT_STRING, "images": types_pb2.DT_UINT8, "x": types_pb2.DT_FLOAT}
    return [{name: meta_graph_pb2.TensorInfo(dtype=kind)} for name, kind in types.items()]


@cache
def _admitted() -> Any:
    import tensorflow as tf

    from components.imaging.decode import decode_image
    from components.imaging.guard import admit_images
    from components.imaging.reading import Reading

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decoded(images: tf.Tensor) -> tf.Tensor:
        return decode_image(admit_images(images, MAX_PIXELS).images[0], Reading(exif="upright"))

    return decoded


# Seeds


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
def _picture_seeds() -> list[bytes]:
    """Small pictures in every format that is read, of many modes."""
    from PIL import Image

    values, gray, palette, color = _small_pictures()
    alpha = color.convert("RGBA")
    frames = {"save_all": True, "append_images": [palette.transpose(Image.Transpose.ROTATE_180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(values.astype(np.uint16) * 300)
    return [
        *_png_seeds(),
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
def _png_seeds() -> list[bytes]:
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
def _tiff_seeds() -> list[bytes]:
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
def _mat_seeds() -> list[bytes]:
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


def _coco_seeds() -> list[bytes]:
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


def _labelme_seeds() -> list[bytes]:
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
    shapes[-1]["mask"] = base64.b64encode(_png_seeds()[4]).decode()
    return [
        json.dumps({"shapes": each, "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8}).encode()
        for each in (shapes, *([shape] for shape in shapes))
    ]


def _label_seeds() -> list[bytes]:
    return [
        b"background\ncat\ndog\n",
        b"name,r,g,b\ncat,1,2,3\ndog,4,5,6\n",
        b"0: background\n1: cat\n",
        b"road:128,64,128::\nsky:1,2,3::\n",
        b'{"classes": [{"name": "cat", "color": "#ff0000"}, {"name": "dog", "color": "#00ff00"}]}',
        b"names:\n  0: cat\n  1: dog\n",
        *_mat_seeds()[5:6],
    ]


def _response_seeds() -> list[bytes]:
    from components.serving.messages import PREDICT, to_tensor_proto

    response = PREDICT.response_class()
    response.outputs["mask_bytes"].CopyFrom(to_tensor_proto(np.array([b"mask"], object)))
    response.outputs["class_fraction"].CopyFrom(to_tensor_proto(np.ones((1, 3), np.float32)))
    return [response.SerializeToString()]


def _request_seeds() -> list[bytes]:
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


def _rest_seeds() -> list[bytes]:
    return [
        b'{"instances": [{"b64": "aGVsbG8="}]}',
        b'{"instances": [{"image_bytes": {"b64": "aGVsbG8="}}]}',
        b'{"signature_name": "serving_pixels", "instances": [[[[1, 2, 3], [4, 5, 6]]]]}',
        b'{"instances": [1.5, 2]}',
        b'{"instances": ["text"]}',
    ]


def _files() -> list[bytes]:
    return [*_picture_seeds(), *_tiff_seeds()]


TARGETS: Final[dict[str, Target]] = {
    "image": Target(read_image, _picture_seeds),
    "bands": Target(read_bands, _tiff_seeds),
    "mask": Target(read_mask, _picture_seeds),
    "mat": Target(read_mat, _mat_seeds),
    "header": Target(read_header, lambda: [*_files(), *_mat_seeds()]),
    "labels": Target(read_labels, _label_seeds),
    "coco": Target(read_coco, _coco_seeds),
    "labelme": Target(read_labelme, _labelme_seeds),
    "voc": Target(read_voc_list, lambda: [b"a\n", b"a 1\nb -1\n", b"JPEGImages/a.png\n"]),
    "sent": Target(read_sent, _files),
    "answer": Target(draw_answer, _picture_seeds),
    "response": Target(read_response, _response_seeds),
    "request": Target(read_request, _request_seeds),
    "rest": Target(read_rest, _rest_seeds),
    "served": Target(admit, _picture_seeds),
}


# Mutations


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
    return with_checksums(bytes(content[:_LONGEST]))


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG whose chunks have right checksums, so that what is wrong in them is looked at."""
    if not data.startswith(_PNG):
        return data
    parts, position = [_PNG], len(_PNG)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        chunk = data[position:end]
        parts.append(chunk + zlib.crc32(chunk[4:]).to_bytes(4))
        position = end + 4
    return b"".join(parts) + data[position:]


def inputs(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """Yields the target's seeds, and so many mutations of them."""
    seeds, draw = target.seeds(), random.Random(seed)
    yield from seeds
    for _ in range(count):
        yield mutated(draw.choice(seeds), draw)


# The command


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes the targets, one after the other; returns 1 where something was found."""
    parser = command_parser("benchmarks.fuzz", __doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target; default: %(default)s")
    parser.add_argument("--corpus", type=Path, help="folder of inputs and findings; default: a temporary one")
    parser.add_argument("--slow", type=int, default=10, help="seconds that one input may take")
    parser.add_argument("--megabytes", type=int, default=3000, help="that the process may have resident")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"{unknown[0]!r} is no target; there are {', '.join(TARGETS)}")
    try:
        import atheris
    except ImportError:
        parser.error("atheris is not installed, which watches what an input reaches: pip install atheris")
    if args.here:
        _fuzz(atheris, args)
    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    clean = False
    try:
        found = [_fuzz_apart(name, corpus / name, args) for name in args.targets or TARGETS]
        clean = not any(found)
    finally:
        if not clean:
            print(f"inputs and findings are in {corpus}")
        elif not args.corpus:
            shutil.rmtree(corpus)
    return int(not clean)


def _fuzz_apart(name: str, corpus: Path, args: argparse.Namespace) -> bool:
    """Fuzzes a target in a process of its own, which a finding ends; returns whether there was one."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].seeds():
        (corpus / f"seed-{zlib.crc32(seed):08x}").write_bytes(seed)
    limits = [f"--{option}={getattr(args, option)}" for option in ("seconds", "slow", "megabytes")]
    command = [sys.executable, "-m", "benchmarks.fuzz", name, "--here", f"--corpus={corpus}", *limits]
    done = subprocess.run(
        command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    (corpus / "log").write_text(done.stdout)
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stdout))
    reached = re.findall(r"cov: (\d+)", done.stdout)[-1:] or ["?"]
    executions = figures.get("number_of_executed_units", "?")
    print(
        f"{name}: {executions} executions in {args.seconds} s, {reached[0]} branches, "
        f"{figures.get('peak_rss_mb', '?')} MB" + (f"; FOUND, see {corpus}/log" if done.returncode else ""),
        flush=True,
    )
    return bool(done.returncode)


def _fuzz(atheris: Any, args: argparse.Namespace) -> None:
    """Never returns: libFuzzer ends the process."""
    [name] = args.targets
    with atheris.instrument_imports(include=_WATCHED):
        # What a target imports as it runs is watched as well.
        target = TARGETS[name]
        for data in target.seeds():
            target.run(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 2:
            return atheris.Mutate(data, max_size)
        return mutated(data, random.Random(seed))[:max_size]

    options = [
        f"-max_total_time={args.seconds}",
        f"-timeout={args.slow}",
        f"-rss_limit_mb={args.megabytes}",
        f"-max_len={_LONGEST}",
        f"-artifact_prefix={args.corpus}/",
        "-print_final_stats=1",
        "-seed=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, str(args.corpus)],
        lambda data: target.run(with_checksums(data)),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
