"""One run of the predict command: images go to a server, masks and what is said of them come back."""

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from tqdm import tqdm

from components.image_mask_example_gen.files import InputRejectedError
from components.imaging.drawing import overlay, with_palette
from components.serving.channel import Tls
from components.serving.client import Prediction, SegmentationClient
from components.serving.failures import ServingClientError
from components.serving.model_labels import Labels
from pipeline.prediction.image_files import ImageFile
from pipeline.prediction.result_files import Existing, Record, ResultFiles, is_out_of_space, open_record
from pipeline.prediction.sent_bytes import sent_bytes


@dataclass(frozen=True)
class Options:
    """What the command line asks for; the client's options are `SegmentationClient`'s."""

    server: str
    model: str
    version: int | None
    label: str | None
    timeout: float
    patience: float
    tls: Tls | None
    max_message_bytes: int
    concurrency: int
    batch_size: int
    output: Path
    overlay: bool
    raw: bool
    json: str | None
    existing: Existing

    def client(self) -> SegmentationClient:
        """Returns the client; a ValueError says which option cannot be right."""
        return SegmentationClient(
            self.server,
            self.model,
            version=self.version,
            label=self.label,
            timeout=self.timeout,
            patience=self.patience,
            tls=self.tls,
            max_message_bytes=self.max_message_bytes,
        )


def predict_files(options: Options, client: SegmentationClient, images: Sequence[ImageFile]) -> bool:
    """Segments the images and returns whether all were answered.

    What people read goes to standard error: a progress bar if that is a terminal, a line for each image
    that failed, and a summary.
    """
    bar: tqdm[Never] = tqdm(total=len(images), unit="image", disable=None, dynamic_ncols=True)
    with client, bar, _client_log_shown():
        run = _Run(options, client, bar)
        try:
            run.predict(images)
        except ServingClientError as error:
            _say(str(error))
        except BrokenPipeError:
            raise
        except OSError as error:
            _say(_reason(error))
        finally:
            bar.close()
            _say(run.summary(len(images)))
    return run.answered == len(images)


class _Run:
    """The state of a run."""

    def __init__(self, options: Options, client: SegmentationClient, bar: "tqdm[Never]"):
        self.answered = 0
        self._options = options
        self._client = client
        self._files = ResultFiles(options.output, options.overlay)
        self._record = Record(None)
        self._bar = bar
        self._labels: dict[int, Labels] = {}
        self._asked: deque[tuple[ImageFile, bytes]] = deque()
        self._started = time.monotonic()

    def predict(self, images: Sequence[ImageFile]) -> None:
        # Asked for first: a server that is not there, or lacks the model, shows before any image is read.
        labels = self._client.labels()
        self._labels[labels.version] = labels
        with open_record(self._options.json, self._options.existing) as self._record:
            for answer in self._client.predict_many(
                self._read(images), concurrency=self._options.concurrency, batch_size=self._options.batch_size
            ):
                image, encoded = self._asked.popleft()
                if isinstance(answer, ServingClientError):
                    self._fail(image, str(answer))
                else:
                    self._keep(image, encoded, answer)

    def summary(self, count: int) -> str:
        """One line on how it went."""
        seconds = time.monotonic() - self._started
        versions = ", ".join(map(str, sorted(self._labels))) or "none"
        return (
            f"{self.answered} of {count} images answered by {self._options.model} (version {versions}) "
            f"in {seconds:.1f} s; masks in {self._options.output}"
        )

    def _read(self, images: Sequence[ImageFile]) -> Iterator[bytes]:
        for image in images:
            try:
                encoded = sent_bytes(image.path.read_bytes())
            except OSError as error:
                self._fail(image, error.strerror or str(error))
                continue
            except InputRejectedError as rejected:
                self._fail(image, rejected.found)
                continue
            # The picture is wanted again only to be drawn on.
            self._asked.append((image, encoded if self._options.overlay else b""))
            yield encoded

    def _keep(self, image: ImageFile, encoded: bytes, prediction: Prediction) -> None:
        labels = self._labels_of(prediction.version).covering(len(prediction.class_fraction))
        fractions = [float(fraction) for fraction in prediction.class_fraction]
        mask = prediction.mask_bytes
        try:
            self._files.write_mask(image, mask if self._options.raw else with_palette(mask, labels.colors))
            if self._options.overlay:
                picture = overlay(encoded, mask, labels.names, labels.colors, fractions)
                self._files.write_overlay(image, picture)
        except ValueError as error:
            self._fail(image, str(error))
            return
        except OSError as error:
            if is_out_of_space(error):
                raise
            self._fail(image, _reason(error))
            return
        self._record.write(
            file=str(image.path),
            mask=str(self._files.mask(image)),
            version=prediction.version,
            class_fraction=dict(
                zip(labels.names, (round(fraction, 6) for fraction in fractions), strict=False)
            ),
        )
        self.answered += 1
        self._bar.update()

    def _labels_of(self, version: int) -> Labels:
        """The labels of the version that answered; another may take over during the run."""
        if version not in self._labels:
            try:
                self._labels[version] = self._client.labels(version)
            except ServingClientError:
                # Gone already; the classes it answered with are most likely those of the one before.
                self._labels[version] = self._labels[max(self._labels)]
        return self._labels[version]

    def _fail(self, image: ImageFile, reason: str) -> None:
        _say(f"{image.path}: {reason}")
        self._bar.update()
        self._record.write(file=str(image.path), error=reason)


class _Lines(logging.Handler):
    """What the client has to say while it waits."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


@contextmanager
def _client_log_shown() -> Iterator[None]:
    logger, handler = logging.getLogger("components.serving"), _Lines(logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _say(line: str) -> None:
    # Around a progress bar, not into it.
    tqdm.write(line, file=sys.stderr)
