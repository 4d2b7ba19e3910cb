"""What the exported model says of itself, and what it refuses before it computes anything."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import Pair, png_bytes
from PIL import Image
from pydantic import ValidationError
from raw_pictures import png
from tensorflow.python.autograph.impl import api
from tensorflow_serving.apis import prediction_log_pb2
from tiny_export import LABELS, export_tiny_model
from warm_process import WarmProcess

from components.evaluator.extractors import _MAX_BATCH_SIZE
from components.imaging.reading import RGB, Reading
from components.serving.config import ServingLimits

IMAGE = np.full((12, 10, 3), 200, np.uint8)
LIMITS = ServingLimits(max_pixels=1000, max_batch_size=32)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny_model(tmp_path_factory.mktemp("model"), LIMITS)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Any:
    return tf.saved_model.load(str(model_dir))


@pytest.fixture
def signatures(model: Any) -> Any:
    return model.signatures


def example(image: bytes) -> bytes:
    """An Example of the image and a mask that fits it or not."""
    serialised = tf.train.Example.FromString(Pair(IMAGE, IMAGE[..., 0]).example("x.png"))
    serialised.features.feature["image/encoded"].bytes_list.value[0] = image
    return bytes(serialised.SerializeToString())


ASK: dict[str, Callable[[Any, list[bytes]], Any]] = {
    "serving_default": lambda call, images: call(image_bytes=tf.constant(images)),
    "evaluate": lambda call, images: call(examples=tf.constant([example(image) for image in images])),
}


def test_without_python_objects_as_in_tensorflow_serving_the_answers_are_the_same(
    model_dir: Path, signatures: Any
) -> None:
    images = [png_bytes(IMAGE), png_bytes(IMAGE // 4)]
    expected = signatures["serving_default"](image_bytes=tf.constant(images))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(model_dir))
        signature = graph.signature_def["serving_default"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        answer = session.run(outputs, {signature.inputs["image_bytes"].name: images})
    assert answer["mask_bytes"].tolist() == expected["mask_bytes"].numpy().tolist()
    assert answer["class_fraction"].tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("max_pixels", "reading"),
    [(3, RGB), (20, Reading(channels=2, bands=(1, 2)))],
    ids=["less than a row", "bands"],
)
def test_a_model_accepts_its_own_warm_up_however_few_pixels_it_accepts(
    tmp_path: Path, max_pixels: int, reading: Reading
) -> None:
    directory = export_tiny_model(tmp_path, ServingLimits(max_pixels=max_pixels), reading)
    signatures = tf.saved_model.load(str(directory)).signatures
    [file] = directory.rglob("tf_serving_warmup_requests")
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)


def test_no_signature_is_rewritten_by_autograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes as long as all the rest of an export, and changes nothing."""
    converted = []
    convert = api._convert_actual

    def noting(entity: Any, *args: Any) -> Any:
        converted.append(entity)
        return convert(entity, *args)

    monkeypatch.setattr(api, "_convert_actual", noting)
    export_tiny_model(tmp_path, LIMITS)
    assert [each.__qualname__ for each in converted if each.__module__.startswith("components.")] == []


def test_the_network_is_traced_once_for_all_signatures(tmp_path: Path) -> None:
    """Of a deep one each time takes seconds, and as much again in the file and whenever it is loaded."""
    traced = []

    class Noting(keras.layers.Conv2D):
        def call(self, inputs: Any) -> Any:
            traced.append(inputs)
            return super().call(inputs)

    network = keras.Sequential(
        [keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255), Noting(2, 1)]
    )
    traced.clear()
    export_tiny_model(tmp_path, LIMITS, network=network)
    assert len(traced) == 1


def test_the_shares_of_a_picture_of_48_megapixels_are_those_of_its_mask(tmp_path: Path) -> None:
    """More pixels of a class than float32 can count, on however many threads there are."""
    model = tf.saved_model.load(str(export_tiny_model(tmp_path, ServingLimits(max_pixels=48_000_000))))
    picture, file = Image.new("1", (8000, 6000)), io.BytesIO()
    picture.paste(1, (0, 0, 8000, 5000))
    picture.save(file, "PNG")
    answer = model.signatures["serving_default"](image_bytes=tf.constant([file.getvalue()]))
    with Image.open(io.BytesIO(answer["mask_bytes"].numpy()[0])) as mask:
        counts = mask.histogram()[:2]
    assert sum(counts) == 48_000_000 and min(counts) > 2_000_000
    shares = np.array(counts) / 48_000_000
    assert answer["class_fraction"].numpy()[0] == pytest.approx(shares, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_model_says_what_its_classes_are_in_every_row(signatures: Any, rows: int) -> None:
    answer = signatures["labels"](ignored=tf.constant([""] * rows))
    names, colors = answer["names"].numpy(), answer["colors"].numpy()
    assert [[name.decode() for name in row] for row in names] == [list(LABELS.names)] * rows
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[list(color) for color in LABELS.palette]] * rows
    assert answer["raw_values"].numpy().tolist() == [[[0], [255]]] * rows


@pytest.mark.parametrize("signature", ASK)
def test_a_file_that_claims_too_much_is_refused_by_place_and_size(signatures: Any, signature: str) -> None:
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="image 1 claims 60000 x 60000 pixels; at most 1,"
    ):
        ASK[signature](signatures[signature], [png_bytes(IMAGE), png(60_000, 60_000)])


@pytest.mark.parametrize("signature", ASK)
@pytest.mark.parametrize("data", [b"", b"text", png_bytes(IMAGE)[:40]])
def test_what_cannot_be_decoded_is_an_invalid_argument(signatures: Any, signature: str, data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        ASK[signature](signatures[signature], [data])


@pytest.mark.parametrize("signature", ASK)
def test_a_gif_is_refused_with_what_to_do(signatures: Any, signature: str) -> None:
    file = io.BytesIO()
    Image.new("L", (10, 12)).save(file, "GIF")
    images = [png_bytes(np.zeros((4, 4, 3), np.uint8)), file.getvalue()]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 1 is a GIF, .*; save it as PNG"):
        ASK[signature](signatures[signature], images)


@pytest.mark.parametrize("signature", ASK)
def test_images_that_together_are_many_pixels_get_the_same_masks(signatures: Any, signature: str) -> None:
    images = [png_bytes(np.full((20, 16 + index, 3), 40 * index, np.uint8)) for index in range(6)]
    together = ASK[signature](signatures[signature], images)["mask_bytes"].numpy()
    alone = [ASK[signature](signatures[signature], [image])["mask_bytes"].numpy()[0] for image in images]
    assert together.tolist() == alone


_PEAKS = r"""
import io, re, sys
from pathlib import Path
import tensorflow as tf
from PIL import Image

# As many as a server has on a large machine.
tf.config.threading.set_inter_op_parallelism_threads(10)
segment = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]

def flat(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()

small, large = flat(4, 4), flat(4000, 2000)
peaks = []
for images in ([small], [large], [large] * 6):
    segment(image_bytes=tf.constant(images))
    peaks.append(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]))
print(*peaks)
"""


def test_many_large_images_in_a_request_need_little_more_memory_than_one(tmp_path: Path) -> None:
    model_dir = export_tiny_model(tmp_path, ServingLimits(max_pixels=8_000_000))
    program = tmp_path / "peaks.py"
    program.write_text(_PEAKS)
    output, errors = WarmProcess([str(program), str(model_dir)]).communicate()
    assert output, errors
    idle, one, six = map(int, output.split())
    assert one - idle > 50_000
    assert six - idle < 2 * (one - idle)


def test_decoded_images_have_the_same_limit(signatures: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="images of 26 x 40 pixels; at most 1,000"):
        signatures["serving_pixels"](images=tf.zeros((1, 40, 26, 3), tf.uint8))


def test_a_batch_may_be_full_but_neither_fuller_nor_empty(signatures: Any) -> None:
    batches = {
        "serving_default": {"image_bytes": [png_bytes(IMAGE)]},
        "evaluate": {"examples": [example(png_bytes(IMAGE))]},
        "serving_pixels": {"images": IMAGE[np.newaxis]},
        "labels": {"ignored": [""]},
    }
    assert set(batches) == set(signatures)
    for signature, inputs in batches.items():
        full = {name: tf.repeat(tf.constant(value), 32, axis=0) for name, value in inputs.items()}
        for answer in signatures[signature](**full).values():
            assert answer.shape[0] == 32
        over = {name: tf.repeat(tf.constant(value), 33, axis=0) for name, value in inputs.items()}
        with pytest.raises(tf.errors.InvalidArgumentError, match="33 images at once; 1 to 32 are accepted"):
            signatures[signature](**over)
        none = {name: tf.constant(value)[:0] for name, value in inputs.items()}
        with pytest.raises(tf.errors.InvalidArgumentError, match="0 images at once; 1 to 32 are accepted"):
            signatures[signature](**none)


def test_the_limits_can_be_read_beside_the_model(model_dir: Path) -> None:
    description = json.loads((model_dir / "assets.extra" / "labels.json").read_text())
    assert ServingLimits(**description["limits"]) == LIMITS


def test_the_label_values_of_the_data_can_be_read_beside_the_model(model_dir: Path) -> None:
    description = json.loads((model_dir / "assets.extra" / "labels.json").read_text())
    assert description["labels"]["raw_values"] == [0, 255]


def test_a_batch_of_the_evaluators_is_always_accepted() -> None:
    assert ServingLimits(max_batch_size=_MAX_BATCH_SIZE)
    with pytest.raises(ValidationError, match="max_batch_size"):
        ServingLimits(max_batch_size=_MAX_BATCH_SIZE - 1)
