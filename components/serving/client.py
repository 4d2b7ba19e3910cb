"""A client of TensorFlow Serving for this project's segmentation models.

    with SegmentationClient("localhost:8500", "pets") as client:
        prediction = client.predict([Path("cat.jpg").read_bytes()])[0]
        Path("cat.png").write_bytes(prediction.mask_bytes)

It needs gRPC, protobuf and NumPy, not TensorFlow.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import grpc
import numpy as np

from components.imaging.palette import Color, default_palette
from components.imaging.reading import RGB, Reading
from components.serving import CONCURRENCY, MAX_MESSAGE_BYTES, PATIENCE, TIMEOUT, messages
from components.serving.connection import Connection, Tls
from components.serving.failures import ModelUnavailableError, ServingClientError
from components.serving.messages import Metadata, ModelSpec, Tensors

LABELS_SIGNATURE: Final = "labels"
"""Answers the classes' ``names``, string [N, C], RGB ``colors``, uint8 [N, C, 3], and where they are known
``raw_values``, int32 [N, C, 1] or [N, C, 3], alike in every row; ``upright``, int32 [N], ``bands``,
int32 [N, B], and ``value_range``, float64 [N, 2], of newer models."""
LABELS_INPUT: Final = "ignored"
"""String [N]; a server that batches requests takes no signature without an input."""
DEFAULT_SIGNATURE: Final = "serving_default"
PIXELS_SIGNATURE: Final = "serving_pixels"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """The answer to one encoded image."""

    mask_bytes: bytes
    """PNG of class ids, one 8-bit channel, at the image's own size."""
    class_fraction: np.ndarray
    """float32 [C], the share of each class in the image's pixels."""
    version: int
    """The model version that answered."""


@dataclass(frozen=True)
class PixelPrediction:
    """The answer to a batch of decoded images."""

    class_ids: np.ndarray
    """uint8 [N, H, W]."""
    confidence: np.ndarray
    """float16 or float32 [N, H, W], the probability of the class chosen."""
    version: int
    """The model version that answered."""


@dataclass(frozen=True)
class Labels:
    """Names, RGB colours and raw values of the classes, in the order of their ids."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    version: int
    """The model version that these are the classes of."""
    raw_values: tuple[int | Color, ...] = ()
    """What stands for them in the masks that the model was trained on; empty where it does not say."""
    reading: Reading | None = RGB
    """How the model reads images; what it does not say is as in RGB. None where it should say and did not."""

    @staticmethod
    def numbered(count: int, version: int) -> "Labels":
        """The classes of a model that names none: ``class-0`` … in the default palette."""
        names = tuple(f"class-{class_id}" for class_id in range(count))
        return Labels(names, default_palette(count), version)

    def covering(self, count: int) -> "Labels":
        """These labels, continued by number to ``count`` classes; never fewer than these."""
        known = len(self.names)
        if count <= known:
            return self
        rest = Labels.numbered(count, self.version)
        return replace(self, names=self.names + rest.names[known:], colors=self.colors + rest.colors[known:])


class SegmentationClient:
    """Asks one model; safe to share between threads.

    A request waits for a server that is away, and is repeated, with growing pauses, where it is overloaded.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        tls: Tls | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ):
        """Prepares the channel; the connection is made by the first request.

        Args:
            address: HOST:PORT of the server's gRPC port; the servers behind one name are asked in turn.
            model: the name under which the model is served.
            version: which version to ask; the latest by default.
            label: the version's label, such as ``stable``, instead of its number.
            timeout: seconds that a request may take, to which ``patience`` is added.
            patience: seconds more, in which a server that is away or overloaded is waited for and asked
                again; a slow one has them, too. 0 for no waiting and no repeating.
            tls: the files of an encrypted connection; None for plain text.
            max_message_bytes: the largest request and the largest answer.

        Raises:
            ValueError: an impossible address, version, message size or TLS file, or both version and label.
        """
        self.model = ModelSpec(model, version, label)
        self._connection = Connection(
            address, timeout=timeout, patience=patience, tls=tls, max_message_bytes=max_message_bytes
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; requests under way fail."""
        self._connection.close()

    def predict(self, images: Sequence[bytes]) -> list[Prediction]:
        """Segments encoded images (JPEG, PNG, BMP) in one request.

        Raises:
            ModelUnavailableError: no server, no such model, or no permission.
            ServingClientError: the server refuses this request, or does not answer it in time.
        """
        answer = self._predict(self.model, DEFAULT_SIGNATURE, {"image_bytes": np.array(list(images), object)})
        masks = _output(answer, "mask_bytes", len(images))
        fractions = _output(answer, "class_fraction", len(images))
        return [
            Prediction(mask, fraction, answer.version)
            for mask, fraction in zip(masks, fractions, strict=True)
        ]

    def predict_pixels(self, images: np.ndarray) -> PixelPrediction:
        """Segments decoded images, uint8 [N, H, W, channels], in one request; raises as `predict` does."""
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype} {list(images.shape)}, not uint8 [N, H, W, channels]")
        answer = self._predict(self.model, PIXELS_SIGNATURE, {"images": images})
        return PixelPrediction(
            _output(answer, "class_ids", len(images)),
            _output(answer, "confidence", len(images)),
            answer.version,
        )

    def predict_many(
        self, images: Iterable[bytes], *, concurrency: int = CONCURRENCY, batch_size: int = 1
    ) -> Iterator[Prediction | ServingClientError]:
        """Segments any number of encoded images; the answers come in the images' order.

        At most ``2 * concurrency * batch_size`` images are held at a time. For an image that the server
        refuses its error comes instead, and the others go on: a refused batch is asked for again in halves.
        Where those are answered, the batch itself was too large; a warning says so, and the following ones
        are smaller.

        Args:
            images: read as they are needed, in the caller's thread.
            concurrency: how many requests are under way at once.
            batch_size: images in a request, at most.

        Raises:
            ModelUnavailableError: nothing will be answered any more.
        """
        requests = _SplittingRequests(self.predict, batch_size)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="predict")
        pending: deque[Future[list[Prediction | ServingClientError]]] = deque()
        try:
            for batch in _batches(images, requests):
                pending.append(pool.submit(requests.answers, batch))
                while pending and (len(pending) >= 2 * concurrency or pending[0].done()):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def labels(self, version: int | None = None) -> Labels:
        """Asks for the classes' names and colours, those of this version or of the one the client asks.

        A model without the signature ``labels`` gets numbers and the default palette; one whose answer is
        missing or unreadable gets them, too, and nothing is known of its reading then. Raises as `predict`
        does.
        """
        metadata = self._metadata(self.model if version is None else ModelSpec(self.model.name, version))
        if LABELS_SIGNATURE not in metadata.signatures:
            return Labels.numbered(_class_count(metadata), metadata.version)
        # The version that described itself, even if a newer one has come up since.
        spec = ModelSpec(self.model.name, metadata.version)
        try:
            return _read_labels(
                self._predict(spec, LABELS_SIGNATURE, {LABELS_INPUT: np.array([b""], object)})
            )
        except ModelUnavailableError:
            raise
        except (ServingClientError, ValueError) as error:
            _logger.warning("the classes have numbers instead of names: %s", error)
            return replace(Labels.numbered(_class_count(metadata), metadata.version), reading=None)

    def served_version(self) -> int:
        """Asks which version answers now, of those that the client asks; raises as `predict` does."""
        return self._metadata(self.model).version

    def _metadata(self, spec: ModelSpec) -> Metadata:
        request = messages.metadata_request(spec)
        return messages.read_metadata_response(
            self._connection.call(messages.GET_MODEL_METADATA, request, spec)
        )

    def _predict(self, spec: ModelSpec, signature: str, inputs: Mapping[str, np.ndarray]) -> Tensors:
        request = messages.predict_request(spec, signature, inputs)
        response = self._connection.call(messages.PREDICT, request, spec)
        try:
            return messages.read_predict_response(response)
        except ValueError as error:
            raise ServingClientError(grpc.StatusCode.INTERNAL, f"unreadable answer: {error}") from None


def _output(answer: Tensors, name: str, rows: int) -> np.ndarray:
    """An output of the answer, one row an image."""
    values = answer.outputs.get(name)
    if values is None:
        given = ", ".join(sorted(answer.outputs)) or "nothing"
        raise ServingClientError(
            grpc.StatusCode.INTERNAL, f"the model answers {given}, not {name!r}: is it a segmentation model?"
        )
    if values.ndim == 0 or len(values) != rows:
        raise ServingClientError(
            grpc.StatusCode.INTERNAL, f"output {name!r} has shape {list(values.shape)} for {rows} images"
        )
    return values


class _SplittingRequests:
    """Asks for many images, a request at a time; threads may share it.

    Attributes:
        size: how many images a request may have. Falls when a request was refused although each of its
            images is answered in a smaller one.
    """

    def __init__(self, ask: Callable[[Sequence[bytes]], list[Prediction]], size: int):
        """Prepares requests.

        Args:
            ask: sends one request, returns one answer an image, and raises `ServingClientError`.
            size: how many images a request may have to begin with.
        """
        self.size = size
        self._ask = ask
        self._said = False
        self._lock = threading.Lock()

    def answers(self, images: Sequence[bytes]) -> list[Prediction | ServingClientError]:
        """Returns an answer for each image, or why there is none.

        Raises:
            ModelUnavailableError: nothing will be answered any more.
        """
        if len(images) > self.size:
            return self._in_halves(images)
        try:
            return [*self._ask(images)]
        except ModelUnavailableError:
            raise
        except ServingClientError as error:
            if len(images) == 1:
                return [error]
            answers = self._in_halves(images)
            refused = any(isinstance(answer, ServingClientError) for answer in answers)
            if not refused and not error.transient:
                self._learn(len(images), error)
            return answers

    def _in_halves(self, images: Sequence[bytes]) -> list[Prediction | ServingClientError]:
        middle = (len(images) + 1) // 2
        return [*self.answers(images[:middle]), *self.answers(images[middle:])]

    def _learn(self, refused: int, error: ServingClientError) -> None:
        with self._lock:
            self.size = min(self.size, (refused + 1) // 2)
            first, self._said = not self._said, True
            size = self.size
        if first:
            _logger.warning(
                "a request of %d images was refused, its images were not (%s); "
                "from now on at most %d go together",
                refused,
                error,
                size,
            )


def _batches(images: Iterable[bytes], requests: _SplittingRequests) -> Iterator[list[bytes]]:
    iterator = iter(images)
    # The size may fall meanwhile.
    while batch := list(itertools.islice(iterator, requests.size)):
        yield batch


def _class_count(metadata: Metadata) -> int:
    """Returns C of ``class_fraction`` [N, C], 0 where the signature does not say."""
    shape = metadata.signatures.get(DEFAULT_SIGNATURE, {}).get("class_fraction")
    return max(0, shape[-1]) if shape else 0


def _read_labels(answer: Tensors) -> Labels:
    """Reads the answer to one row of input: ``names`` [1, C], ``colors`` [1, C, 3], maybe ``raw_values``.

    Raises:
        ValueError: the outputs are others, or do not fit together.
    """
    missing = {"names", "colors"} - set(answer.outputs)
    if missing:
        raise ValueError(f"signature {LABELS_SIGNATURE!r} has no output {', '.join(sorted(missing))}")
    names, colors = answer.outputs["names"], answer.outputs["colors"]
    if not names.dtype.hasobject or colors.dtype != np.uint8 or colors.shape != (1, names.size, 3):
        raise ValueError(
            f"signature {LABELS_SIGNATURE!r} gives names {names.dtype} {list(names.shape)} and colors "
            f"{colors.dtype} {list(colors.shape)}, not strings [1, C] and uint8 [1, C, 3]"
        )
    raw_values = answer.outputs.get("raw_values")
    if raw_values is not None and raw_values.shape not in ((1, names.size, 1), (1, names.size, 3)):
        raise ValueError(
            f"signature {LABELS_SIGNATURE!r} gives raw_values {list(raw_values.shape)}, "
            "not [1, C, 1] or [1, C, 3]"
        )
    bands, value_range = answer.outputs.get("bands"), answer.outputs.get("value_range")
    return Labels(
        tuple(name.decode("utf-8", "replace") for name in names.flat),
        tuple((int(red), int(green), int(blue)) for red, green, blue in colors[0]),
        answer.version,
        () if raw_values is None else tuple(_number_or_color(*raw) for raw in raw_values[0].tolist()),
        Reading(
            bands=None if bands is None else tuple(bands.ravel().tolist()),
            exif="upright" if np.any(answer.outputs.get("upright", False)) else None,
            value_range=None if value_range is None else tuple(value_range.ravel().tolist()),
        ),
    )


def _number_or_color(*values: int) -> int | Color:
    if len(values) == 1:
        return values[0]
    red, green, blue = values
    return red, green, blue
