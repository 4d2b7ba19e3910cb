"""Tiny SavedModels for tests of servers and clients, which the Trainer's export need not have written.

They have its signatures ``serving_default``, ``serving_pixels`` and ``evaluate``, its warm-up requests, and
its ``labels.json`` without ``limits``. They lack the signature ``labels`` and refuse nothing by themselves:
for that, ``tiny_export.export_tiny_model``.
"""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.dataset import features
from components.imaging.decode import decode_image, encode_mask
from components.imaging.palette import default_palette

_PICTURE = (4, 6)
"""Height and width of the warm-up picture."""


def expected_class_ids(image: np.ndarray, *, classes: int = 3, offset: int = 0) -> np.ndarray:
    """What a model of `write_model` answers for ``image``, uint8 [height, width, 3]: the same in NumPy."""
    brightness = image.astype(np.int32).sum(axis=-1) // 3
    return ((brightness * classes // 256 + offset) % classes).astype(np.uint8)


def write_model(directory: Path, *, classes: int = 3, offset: int = 0, seconds: float = 0.0) -> Path:
    """Writes a SavedModel that cuts the brightness into ``classes`` equal bands.

    Args:
        directory: where it is written, parents included; often ``<base>/<version>``. It appears by rename,
            as a push makes it appear.
        classes: number of class ids; named class_0, class_1 …
        offset: added to every class id modulo ``classes``, so that versions can be told apart.
        seconds: how long every call computes, at least.

    Returns:
        ``directory``.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    copy = directory.parent / f".{directory.name}.copying"
    shutil.copytree(_built(classes, offset, seconds), copy)
    return copy.rename(directory)


@functools.cache
def _built(classes: int, offset: int, seconds: float) -> Path:
    """Building takes a second, copying a millisecond."""
    directory = Path(_build_root().name) / f"{classes}-{offset}-{seconds}"
    module = _Bands(classes, offset, seconds)
    signatures = {
        "serving_default": module.serving_default,
        "serving_pixels": module.serving_pixels,
        "evaluate": module.evaluate,
    }
    tf.saved_model.save(module, str(directory), signatures=signatures)
    assets = directory / "assets.extra"
    assets.mkdir(exist_ok=True)
    labels = {
        "names": [f"class_{index}" for index in range(classes)],
        "colors": default_palette(classes),
        "ignore_label": features.IGNORE_LABEL,
    }
    versions = {"tensorflow": tf.__version__}
    description = {"labels": labels, "recipe": {"model": "bands"}, "versions": versions}
    (assets / "labels.json").write_text(json.dumps(description, indent=2) + "\n")
    _write_warmup_requests(assets / "tf_serving_warmup_requests")
    return directory


@functools.cache
def _build_root() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="saved_models")


class _Bands(tf.Module):
    def __init__(self, classes: int, offset: int, seconds: float):
        super().__init__()
        self._classes = classes
        # A variable, as a network has: loading must restore it.
        self._offset = tf.Variable(offset, dtype=tf.int32, trainable=False)
        self._seconds = seconds

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def answer(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            class_ids = self._class_ids(decode_image(encoded))
            flat = tf.cast(tf.reshape(class_ids, [-1]), tf.int32)
            counts = tf.math.bincount(
                flat, minlength=self._classes, maxlength=self._classes, dtype=tf.float32
            )
            return encode_mask(class_ids), counts / tf.cast(tf.size(flat), tf.float32)

        with tf.control_dependencies([self._work()]):
            fraction = tf.TensorSpec([self._classes], tf.float32)
            mask_bytes, class_fraction = tf.map_fn(
                answer, image_bytes, fn_output_signature=(tf.string, fraction)
            )
        return {"mask_bytes": mask_bytes, "class_fraction": class_fraction}

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")]
    )
    def serving_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([self._work()]):
            class_ids = self._class_ids(images)
        return {"class_ids": class_ids, "confidence": tf.ones(tf.shape(class_ids))}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {features.IMAGE_ENCODED: tf.io.FixedLenFeature([], tf.string)})
        masks = tf.map_fn(
            lambda encoded: encode_mask(self._class_ids(decode_image(encoded))),
            parsed[features.IMAGE_ENCODED],
            fn_output_signature=tf.string,
        )
        return {"mask_bytes": masks}

    def _class_ids(self, pixels: tf.Tensor) -> tf.Tensor:
        brightness = tf.reduce_sum(tf.cast(pixels, tf.int32), axis=-1) // 3
        return tf.cast((brightness * self._classes // 256 + self._offset) % self._classes, tf.uint8)

    def _work(self) -> tf.Tensor:
        """Spins inside the graph: Python cannot be saved, and TensorFlow has no op that sleeps."""
        end = tf.timestamp() + tf.constant(self._seconds, tf.float64)
        return tf.while_loop(lambda now: now < end, lambda _: [tf.timestamp()], [tf.timestamp()])[0]


def _write_warmup_requests(path: Path) -> None:
    pixels = tf.fill([1, *_PICTURE, 3], tf.constant(128, tf.uint8))
    requests = {
        "serving_default": {"image_bytes": tf.make_tensor_proto([tf.io.encode_jpeg(pixels[0]).numpy()])},
        "serving_pixels": {"images": tf.make_tensor_proto(pixels)},
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest(inputs=inputs)
            request.model_spec.signature_name = signature
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
