"""The SavedModel that leaves the Trainer: from a file's bytes to a mask of the image's own size."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.dataset import features, transformed
from components.dataset.contracts import LABELS_FILE
from components.dataset.labels import LabelSet
from components.imaging.decode import encode_mask
from components.imaging.guard import admit_images, admit_pixels, map_images, require
from components.imaging.reading import InputSize, Reading
from components.imaging.resize import Answer, resize_image, restore_class_ids
from components.imaging.sliding_window import segment_windows
from components.saved_model import WARMUP_FILE
from components.serving.config import ServingLimits
from components.trainer.decoding import unpack_pixels

_VERSIONS_OF = ("tfx", "tensorflow", "keras", "tensorflow-transform")


class SegmentationModule(tf.Module):
    """One graph from encoded image to mask; holds the transform graph and the network.

    What comes from outside is checked before anything is decoded or computed, and refused with
    INVALID_ARGUMENT: see ``ServingLimits``.

    The methods' first argument must be called ``self``: ``tf.function`` looks for that name when an
    input signature is given. Nothing in them branches on a tensor in Python; to find that out, AutoGraph
    would take nearly half of the export's time.
    """

    def __init__(
        self,
        network: keras.Model,
        graph: tft.TFTransformOutput,
        size: InputSize,
        labels: LabelSet,
        limits: ServingLimits,
        reading: Reading,
        stride: int | None,
    ):
        super().__init__()
        # What TensorFlow Serving restores are tf.Variables. It would restore Keras's own, which wrap them,
        # into copies that no signature reads; so those are kept out of sight, in a function. One that is
        # traced once for all signatures.
        self._network_variables = [variable.value for variable in network.variables]
        traced = tf.function(lambda pixels: network(pixels, training=False), autograph=False)
        # Kept out of sight, too: what a module holds is saved with signatures of its own, which nobody calls.
        transform = graph.transform_features_layer()
        self._network = lambda pixels: traced(pixels)
        self._transform = lambda inputs: transform(inputs)
        self._size = size
        self._stride = stride
        self._labels = labels
        self._num_classes = labels.num_classes
        self._limits = limits
        self._reading = reading
        self._channels = network.input_shape[-1]
        images = tf.TensorSpec([None, None, None, self._channels], tf.uint8, name="images")
        self.serving_pixels = tf.function(self._segment_pixels, input_signature=[images], autograph=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments encoded images (JPEG, PNG, BMP), string [N]; see ``Reading`` where bands are read.

        Returns:
            mask_bytes: string [N], PNG of class ids, each at its image's own size: the stored one, or the
                upright one where the model applies EXIF orientations.
            class_fraction: float32 [N, C], the share of each class in the image's pixels, exact but for its
                own rounding.
        """

        def answer(class_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Integers: float32 would stop counting at 16.8 million pixels a class and thread.
            counts = tf.math.bincount(
                tf.cast(tf.reshape(class_ids, [-1]), tf.int32),
                minlength=self._num_classes,
                maxlength=self._num_classes,
                dtype=tf.int64,
            )
            shares = counts / tf.size(class_ids, tf.int64)
            return encode_mask(class_ids), tf.cast(shares, tf.float32)

        mask_bytes, class_fraction = self._map_class_ids(
            image_bytes, answer, (tf.string, tf.TensorSpec([self._num_classes], tf.float32))
        )
        return {"mask_bytes": mask_bytes, "class_fraction": class_fraction}

    def _segment_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments decoded images, uint8 [N, H, W, channels], all of one size.

        Returns:
            class_ids: uint8 [N, H, W].
            confidence: float32 [N, H, W], the softmax probability of the class chosen.
        """
        images, pixels = admit_pixels(self._admit_batch(images), self._limits.max_pixels)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        signature = (tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([None, None], tf.float32))
        if self._size.method == "native":

            def segment(image: tf.Tensor) -> Answer:
                scaled = resize_image(image, self._size)
                return self._segment_windows(scaled, height, width, confidence=True)

            class_ids, confidence = tf.map_fn(
                segment, images, parallel_iterations=1, fn_output_signature=signature
            )
            return {"class_ids": class_ids, "confidence": confidence}
        side_by_side = self._side_by_side(pixels)
        inputs = map_images(
            lambda image: resize_image(image, self._size),
            images,
            side_by_side=side_by_side,
            fn_output_signature=tf.TensorSpec(
                [self._size.height, self._size.width, self._channels], tf.uint8
            ),
        )
        class_ids, confidence = map_images(
            lambda logits: restore_class_ids(logits, self._size, height, width, confidence=True),
            self._network(inputs),
            side_by_side=side_by_side,
            fn_output_signature=signature,
        )
        return {"class_ids": class_ids, "confidence": confidence}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments serialised Examples, string [N]: what the Evaluator calls.

        Returns:
            mask_bytes: string [N], PNG of class ids, each at its image's (and so its mask's) own size.
        """
        parsed = tf.io.parse_example(examples, {features.IMAGE_ENCODED: tf.io.FixedLenFeature([], tf.string)})
        return {"mask_bytes": self._map_class_ids(parsed[features.IMAGE_ENCODED], encode_mask, tf.string)}

    # TensorFlow Serving asks for an input over REST, and for rows in and rows out where it batches requests.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="ignored")], autograph=False)
    def labels(self, ignored: tf.Tensor) -> dict[str, tf.Tensor]:
        """Says what the class ids mean, so that a client needs no files of the model.

        Args:
            ignored: string [N], any; one empty string will do.

        Returns:
            names: string [N, C] in UTF-8, the same in every row.
            colors: uint8 [N, C, 3], RGB, the same in every row.
            raw_values: int32 [N, C, 1], or [N, C, 3] of colours, the same in every row: what stands for the
                classes in the masks that the model was trained on; not there where they are not known.
            upright: int32 [N], 1 where an image's EXIF orientation is applied and its mask is that of the
                picture upright, 0 where pixels are taken as they are stored.
            bands: int32 [N, channels], the numbers, from 1, of a file's bands that an encoded image has one
                below the other; not there where images are pictures.
            value_range: float64 [N, 2], the values that become 0 and 255, for whoever makes pictures of 8
                bits of other numbers; not there where the recipe has none.
        """
        rows = tf.size(self._admit_batch(ignored))
        names = tf.constant(self._labels.names)
        colors = tf.constant(self._labels.palette, tf.uint8)
        answer = {
            "names": tf.tile(names[tf.newaxis], [rows, 1]),
            "colors": tf.tile(colors[tf.newaxis], [rows, 1, 1]),
            "upright": tf.fill([rows], int(self._reading.upright)),
        }
        if self._reading.bands is not None:
            answer["bands"] = tf.tile(tf.constant([self._reading.bands], tf.int32), [rows, 1])
        if self._reading.value_range is not None:
            answer["value_range"] = tf.tile(tf.constant([self._reading.value_range], tf.float64), [rows, 1])
        if self._labels.raw_values:
            raw_values = tf.reshape(
                tf.constant(self._labels.raw_values, tf.int32), [1, self._num_classes, -1]
            )
            answer["raw_values"] = tf.tile(raw_values, [rows, 1, 1])
        return answer

    def _admit_batch(self, rows: tf.Tensor) -> tf.Tensor:
        count, most = tf.shape(rows)[0], self._limits.max_batch_size
        fits = (count >= 1) & (count <= most)
        with tf.control_dependencies([require(fits, count, f" images at once; 1 to {most} are accepted")]):
            return tf.identity(rows)

    def _side_by_side(self, pixels: tf.Tensor) -> tf.Tensor:
        # A request then needs no more memory than one image may, whatever the number of its images. The
        # photographs of a usual batch together have less than that.
        return pixels <= self._limits.max_pixels

    def _map_class_ids(
        self, image_bytes: tf.Tensor, function: Callable[[tf.Tensor], Any], fn_output_signature: Any
    ) -> Any:
        """Maps a function of an image's class ids, uint8 [height, width], over encoded images, string [N]."""
        images, pixels = admit_images(
            self._admit_batch(image_bytes),
            self._limits.max_pixels,
            None if self._reading.bands is None else self._channels,
        )
        if self._size.method == "native":

            def segment(image: tf.Tensor) -> Any:
                packed, height, width = (values[0] for values in self._decode(image[tf.newaxis]))
                picture = tf.ensure_shape(tf.io.parse_tensor(packed, tf.uint8), [None, None, self._channels])
                return function(self._segment_windows(picture, height, width, confidence=False)[0])

            return tf.map_fn(segment, images, parallel_iterations=1, fn_output_signature=fn_output_signature)

        def restore(inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> Any:
            logits, height, width = inputs
            return function(restore_class_ids(logits, self._size, height, width, confidence=False)[0])

        side_by_side = self._side_by_side(pixels)
        inputs, heights, widths = tf.cond(
            side_by_side, lambda: self._decode(images), lambda: self._decode_one_by_one(images)
        )
        logits = self._network(unpack_pixels(inputs, (self._size.height, self._size.width, self._channels)))
        return map_images(
            restore,
            (logits, heights, widths),
            side_by_side=side_by_side,
            fn_output_signature=fn_output_signature,
        )

    def _segment_windows(
        self, picture: tf.Tensor, height: tf.Tensor, width: tf.Tensor, *, confidence: bool
    ) -> Answer:
        return segment_windows(
            picture,
            self._size,
            height,
            width,
            self._network,
            self._num_classes,
            stride=self._stride,
            confidence=confidence,
        )

    def _decode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The network's inputs, packed, string [N], and the images' heights and widths, int32 [N]."""
        outputs = self._transform({features.IMAGE_ENCODED: images})
        return (
            outputs[transformed.IMAGE],
            tf.cast(outputs[transformed.IMAGE_HEIGHT], tf.int32),
            tf.cast(outputs[transformed.IMAGE_WIDTH], tf.int32),
        )

    def _decode_one_by_one(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # The transform graph has its own loop over a batch; given one image at a time it has nothing to
        # work on at once.
        return tf.map_fn(
            lambda image: tuple(values[0] for values in self._decode(image[tf.newaxis])),
            images,
            parallel_iterations=1,
            fn_output_signature=(tf.string, tf.int32, tf.int32),
        )


def export(
    network: keras.Model,
    graph: tft.TFTransformOutput,
    size: InputSize,
    labels: LabelSet,
    limits: ServingLimits,
    reading: Reading,
    recipe: Mapping[str, Any],
    directory: Path,
    stride: int | None = None,
) -> None:
    """Writes the SavedModel with its signatures, its label set and its warm-up requests.

    Args:
        network: pixels uint8 [N, height, width, channels] to logits float32 [N, height, width, C]; where
            pictures are seen in windows, of any height and width that its stride divides.
        graph: the Transform component's output, whose decode and resize become part of the model.
        size: the network's input.
        labels: the classes' names, colours and raw values.
        limits: what the model refuses.
        reading: how the transform graph reads images.
        recipe: what the model was made from; kept beside it.
        directory: where the SavedModel is written.
        stride: the network's, where pictures are seen in windows, but small ones may be seen in one piece.
    """
    module = SegmentationModule(network, graph, size, labels, limits, reading, stride)
    signatures = {
        "serving_default": module.serving_default,
        "serving_pixels": module.serving_pixels,
        "evaluate": module.evaluate,
        "labels": module.labels,
    }
    tf.saved_model.save(module, str(directory), signatures=signatures)
    description = {
        "labels": {
            "names": labels.names,
            "colors": labels.palette,
            "raw_values": labels.raw_values,
            "ignore_label": features.IGNORE_LABEL,
        },
        "limits": limits.model_dump(),
        "recipe": dict(recipe),
        "versions": {package: version(package) for package in _VERSIONS_OF},
    }
    (directory / LABELS_FILE).parent.mkdir(exist_ok=True)
    (directory / LABELS_FILE).write_text(json.dumps(description, indent=2) + "\n")
    _write_warmup_requests(directory / WARMUP_FILE, size, reading, limits.max_pixels)


def _write_warmup_requests(path: Path, size: InputSize, reading: Reading, max_pixels: int) -> None:
    """One request a signature, on a grey picture: the first real one must not pay for TensorFlow's start.

    It is of the network's size, or of the part of it that the model accepts.
    """
    width = min(size.width, max_pixels)
    height = min(size.height, max_pixels // width)
    pixels = tf.fill([1, height, width, reading.channels], tf.constant(128, tf.uint8))
    if reading.bands is not None:
        encoded = tf.io.encode_png(tf.reshape(pixels, [-1, width, 1]))
    else:
        # JPEG, the likeliest format, has no fourth channel.
        encoded = (tf.io.encode_png if reading.has_alpha else tf.io.encode_jpeg)(pixels[0])
    requests = {
        "serving_default": {"image_bytes": tf.make_tensor_proto([encoded.numpy()])},
        "serving_pixels": {"images": tf.make_tensor_proto(pixels)},
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest(inputs=inputs)
            # The server fills in the name under which it serves the model.
            request.model_spec.signature_name = signature
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
