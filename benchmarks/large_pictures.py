"""What memory it takes to answer a picture window by window, however large the picture.

    python -m benchmarks.large_pictures [--width 10000] [--height 5000] [--classes 60] [--window 256]
                                        [--overlap 0.5] [--scale 1] [--filters 4]

A U-Net of random weights is exported as the Trainer exports one with ``transform.resize: native``, and
answers in a process of its own, the embedded server: ``serving_default``, a JPEG in, the PNG of its mask out.
Printed are the seconds of the answer, and the most megabytes (10^6 bytes) that the server had resident until
it had loaded and warmed up the model, and until it had answered.
"""

import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.imaging.reading import RGB, InputSize
from components.serving.client import SegmentationClient
from components.serving.config import ServingLimits
from components.serving.process import ServerProcess
from components.serving.server.options import ServerOptions
from components.serving_check.check import peak_resident
from pipeline.command_line import command_parser

MODEL = "large"
SECONDS = 6 * 3600
DEPTH = 4


class Decoding:
    """As much of a ``TFTransformOutput`` as the export asks for: decoding and scaling, nothing learnt."""

    def __init__(self, size: InputSize):
        self._size = size

    def transform_features_layer(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        import tensorflow as tf

        from components.dataset import features, transformed
        from components.imaging.network_input import read_input

        def transform(inputs: Mapping[str, Any]) -> dict[str, Any]:
            pixels, height, width = read_input(inputs[features.IMAGE_ENCODED][0], RGB, self._size)
            return {
                transformed.IMAGE: tf.io.serialize_tensor(pixels)[tf.newaxis],
                transformed.IMAGE_HEIGHT: tf.cast(height, tf.int64)[tf.newaxis],
                transformed.IMAGE_WIDTH: tf.cast(width, tf.int64)[tf.newaxis],
            }

        return transform


def export_model(directory: Path, size: InputSize, classes: int, filters: int, max_pixels: int) -> None:
    from components.dataset.labels import LabelSet
    from components.trainer.export import export
    from models.options import stride
    from models.unet import unet

    network = unet(
        (None, None, 3), classes, filters=filters, depth=DEPTH, upsampling="bilinear", head_convolution=False
    )
    labels = LabelSet(names=tuple(f"class {number}" for number in range(classes)))
    limits = ServingLimits(max_pixels=max_pixels)
    export(
        network, Decoding(size), size, labels, limits, RGB, {"name": MODEL}, directory, stride=stride(DEPTH)
    )


def draw(width: int, height: int) -> bytes:
    """A JPEG of something everywhere, and yet small."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(file, "JPEG")
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser("benchmarks.large_pictures", __doc__)
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--height", type=int, default=5_000)
    parser.add_argument("--classes", type=int, default=60)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--filters", type=int, default=4)
    args = parser.parse_args(arguments)
    size = InputSize(args.window, args.window, "native", args.scale, args.overlap)
    picture = draw(args.width, args.height)
    with tempfile.TemporaryDirectory() as directory:
        export_model(Path(directory, "1"), size, args.classes, args.filters, args.width * args.height)
        options = ServerOptions(port=0, model_name=MODEL, model_base_path=directory)
        with (
            ServerProcess(options) as server,
            SegmentationClient(server.target, MODEL, timeout=SECONDS) as client,
        ):
            ready = peak_resident(server.pid)
            began = time.monotonic()
            [answer] = client.predict([picture])
            seconds = time.monotonic() - began
            answered = peak_resident(server.pid)
    with Image.open(io.BytesIO(answer.mask_bytes)) as mask:
        assert mask.size == (args.width, args.height), mask.size
    print(
        f"{args.width} x {args.height}, {args.classes} classes: {seconds:.1f} s, "
        f"{ready / 1e6:.0f} MB before, {answered / 1e6:.0f} MB with the picture"
    )


if __name__ == "__main__":
    main()
