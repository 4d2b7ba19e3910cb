"""What reads other people's bytes, and what it may do with them: the targets of `benchmarks.fuzz`.

The tests run them as well, on mutations drawn by a seed, which needs no atheris. A target imports what it
reads with as it runs, so that the fuzzer watches it.
"""

import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.fuzz_inputs import (
    PNG,
    coco_seeds,
    label_seeds,
    labelme_seeds,
    mat_seeds,
    picture_seeds,
    png_seeds,
    request_seeds,
    response_seeds,
    rest_seeds,
    tiff_seeds,
)

MAX_PIXELS: Final = 1 << 16
"""Of the pictures that targets let pass."""
_CLASSES: Final = ("background", "cat", "dog")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")


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
            "JPEGImages/a.png": png_seeds()[0],
            "SegmentationClass/a.png": png_seeds()[0],
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
            assert sent.startswith((PNG, b"\xff\xd8\xff"))


def draw_answer(data: bytes) -> None:
    """A mask as a server answers it, and an image, as the predict command draws them."""
    from components.imaging.drawing import overlay, with_palette, with_raw_values

    colors = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    for draw in (
        lambda: with_palette(data, colors),
        lambda: with_raw_values(data, (0, 7, 300)),
        lambda: overlay(png_seeds()[0], data, _CLASSES, colors, (0.2, 0.3, 0.5)),
        lambda: overlay(data, png_seeds()[0], _CLASSES, colors, (0.2, 0.3, 0.5)),
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
        (root / "a.png").write_bytes(png_seeds()[0])
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


def _files() -> list[bytes]:
    return [*picture_seeds(), *tiff_seeds()]


TARGETS: Final[dict[str, Target]] = {
    "image": Target(read_image, picture_seeds),
    "bands": Target(read_bands, tiff_seeds),
    "mask": Target(read_mask, picture_seeds),
    "mat": Target(read_mat, mat_seeds),
    "header": Target(read_header, lambda: [*_files(), *mat_seeds()]),
    "labels": Target(read_labels, label_seeds),
    "coco": Target(read_coco, coco_seeds),
    "labelme": Target(read_labelme, labelme_seeds),
    "voc": Target(read_voc_list, lambda: [b"a\n", b"a 1\nb -1\n", b"JPEGImages/a.png\n"]),
    "sent": Target(read_sent, _files),
    "answer": Target(draw_answer, picture_seeds),
    "response": Target(read_response, response_seeds),
    "request": Target(read_request, request_seeds),
    "rest": Target(read_rest, rest_seeds),
    "served": Target(admit, picture_seeds),
}
