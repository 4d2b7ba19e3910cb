"""The requests that docs/serving.md's table of refusals speaks of, made for both APIs."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from raw_pictures import png
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from components.serving.config import ServingLimits
from components.serving.server.servable import MAX_MESSAGE_BYTES

_SECONDS = 30
_MOST = ServingLimits().max_batch_size


@dataclass(frozen=True)
class Asked:
    """One request."""

    inputs: Mapping[str, Sequence[Any]]
    """Strings as bytes."""
    signature: str = "serving_default"
    model: str = "pets"
    version: int | None = None
    label: str | None = None
    method: str = "Predict"

    @property
    def path(self) -> str:
        """The request's path over REST."""
        version = f"/versions/{self.version}" if self.version else ""
        label = f"/labels/{self.label}" if self.label else ""
        return f"/v1/models/{self.model}{version}{label}:{self.method.lower()}"

    def body(self) -> str:
        """The request over REST."""

        def value(item: Any) -> Any:
            return {"b64": base64.b64encode(item).decode()} if isinstance(item, bytes) else item

        columns = ([value(item) for item in values] for values in self.inputs.values())
        rows = [dict(zip(self.inputs, row, strict=True)) for row in zip(*columns, strict=True)]
        return json.dumps({"signature_name": self.signature, "instances": rows})

    def over_grpc(self, channel: grpc.Channel) -> Any:
        """Sends it; returns the answer."""
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        if self.method == "Classify":
            return stub.Classify(classification_pb2.ClassificationRequest(), timeout=_SECONDS)
        if self.method == "Regress":
            return stub.Regress(regression_pb2.RegressionRequest(), timeout=_SECONDS)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = self.signature
        if self.version:
            request.model_spec.version.value = self.version
        if self.label:
            request.model_spec.version_label = self.label
        for name, values in self.inputs.items():
            strings = not values or isinstance(values[0], bytes)
            array = np.array(values, object if strings else np.float32)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array, tf.string if strings else None))
        return stub.Predict(request, timeout=_SECONDS)


def _image(file_format: str, mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return _file(Image.fromarray(pixels).convert(mode), file_format)


def _file(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _images(*images: bytes) -> Asked:
    return Asked({"image_bytes": images})


def _first_half(image: bytes) -> bytes:
    return image[: len(image) // 2]


_GOOD = _image("JPEG")
_ASKED = {"image_bytes": [_GOOD]}
_NOISE = np.random.default_rng(0).bytes(100_000)

REFUSED = {
    "an empty file, a text, noise, a GIF, TIFF or WebP": [
        _images(file) for file in (b"", b"text", _NOISE, _image("GIF"), _image("TIFF"), _image("WEBP"))
    ],
    "a BMP with a palette": [_images(_image("BMP", "P"))],
    "a JPEG, PNG or BMP that breaks off": [
        _images(_first_half(_image(file_format))) for file_format in ("JPEG", "PNG", "BMP")
    ],
    "a PNG of a hundred bytes that claims 60,000 × 60,000 pixels": [_images(png(60_000, 60_000))],
    "a good image and a bad one": [_images(_GOOD, b"text")],
    f"{_MOST + 1} images": [_images(*[_GOOD] * (_MOST + 1))],
    "no image at all": [_images()],
    "numbers instead of image bytes": [Asked({"image_bytes": [1.5]})],
    "an input that the signature does not have": [Asked({"image": [_GOOD]})],
    "a signature that the model does not have": [Asked(_ASKED, signature="nope")],
    "a version by its label, embedded server": [Asked(_ASKED, label="nope")],
    "a model or a version that is not there": [Asked(_ASKED, model="nope"), Asked(_ASKED, version=9)],
    "the method Classify or Regress": [Asked({}, method="Classify"), Asked({}, method="Regress")],
    "more than 64 MiB, embedded server": [_images(bytes(MAX_MESSAGE_BYTES + 1))],
}
"""By the table's first column."""

ANSWERED = {
    "CMYK": [_image("JPEG", "CMYK")],
    "16-bit": [_file(Image.fromarray(np.full((40, 60), 40_000, np.uint16)), "PNG")],
    "one pixel": [_image("PNG", size=(1, 1))],
    "grey": [_image("JPEG", "L")],
    "palette": [_image("PNG", "P")],
    "alpha channel": [_image("PNG", "RGBA")],
}
