"""One run of the predict command: images go to a server, masks and what is said of them come back."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from components.errors import printable
from components.image_mask_example_gen.files import InputRejectedError, read_bytes
from components.imaging.drawing import overlay, with_palette, with_raw_values
from components.imaging.reading import Reading
from components.serving.client import Labels, Prediction, SegmentationClient
from components.serving.failures import ServingClientError
from pipeline.predict.image_files import ImageFile, sent_bytes
from pipeline.predict.result_files import Record, ResultFiles, is_out_of_space

_CONSOLE: Final = Console(stderr=True, soft_wrap=True, markup=False, highlight=False, emoji=False)


class Values(StrEnum):
    """What a mask's pixels hold."""

    IDS = "ids"
    """Class ids, under a palette of the classes' colours."""
    RAW = "raw"
    """The label values of the data that the model was trained on."""
    AS_SENT = "as sent"
    """The server's bytes."""


class _NoRawValuesError(Exception):
    """The model does not know its data's label values."""


def predict_files(
    client: SegmentationClient,
    images: Sequence[ImageFile],
    results: ResultFiles,
    *,
    values: Values,
    concurrency: int,
    batch_size: int,
) -> bool:
    """Segments the images and returns whether all were answered.

    What people read goes to standard error: a progress bar if that is a terminal, a line for each image
    that failed, and a summary.

    Args:
        client: asks the model.
        images: the images to segment.
        results: where masks, overlays and the record go.
        values: what the masks' pixels hold.
        concurrency: how many requests are under way at once.
        batch_size: images in a request, at most.
    """
    with client, _progress_bar(len(images)) as one_more_done, _client_log_shown():
        run = _Run(client, results, values, one_more_done)
        try:
            run.predict(images, concurrency, batch_size)
        except (ServingClientError, _NoRawValuesError) as error:
            _say(str(error))
        except BrokenPipeError:
            raise
        except OSError as error:
            _say(_reason(error))
        finally:
            _say(run.summary(len(images)))
    return run.answered == len(images)


class _Run:
    """The state of a run."""

    def __init__(
        self,
        client: SegmentationClient,
        results: ResultFiles,
        values: Values,
        one_more_done: Callable[[], None],
    ):
        self.answered = 0
        self._client = client
        self._results = results
        self._values = values
        self._record = Record(None)
        self._one_more_done = one_more_done
        self._labels: dict[int, Labels] = {}
        self._asked: deque[tuple[ImageFile, bytes]] = deque()
        self._started = time.monotonic()

    def predict(self, images: Sequence[ImageFile], concurrency: int, batch_size: int) -> None:
        # Asked for first: a server that is not there, or lacks the model, shows before any image is read.
        labels = self._client.labels()
        self._labels[labels.version] = labels
        if self._values is Values.RAW and not labels.raw_values:
            raise _NoRawValuesError(
                f"{self._client.model.name} (version {labels.version}) does not say its data's own label "
                "values: it was exported before they were kept; leave --values raw out, or train it anew"
            )
        with self._results.open_record() as self._record:
            encoded_images = self._read(images, labels.reading)
            for answer in self._client.predict_many(
                encoded_images, concurrency=concurrency, batch_size=batch_size
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
            f"{self.answered} of {count} images answered by {self._client.model.name} (version {versions}) "
            f"in {seconds:.1f} s; masks in {self._results.output}"
        )

    def _read(self, images: Sequence[ImageFile], reading: Reading) -> Iterator[bytes]:
        for image in images:
            try:
                encoded = sent_bytes(read_bytes(image.path, "request"), reading)
            except OSError as error:
                self._fail(image, error.strerror or str(error))
                continue
            except InputRejectedError as rejected:
                self._fail(image, rejected.found)
                continue
            # The picture is wanted again only to be drawn on.
            self._asked.append((image, encoded if self._results.overlays else b""))
            yield encoded

    def _keep(self, image: ImageFile, encoded: bytes, prediction: Prediction) -> None:
        labels = self._labels_of(prediction.version).covering(len(prediction.class_fraction))
        fractions = [float(fraction) for fraction in prediction.class_fraction]
        mask = prediction.mask_bytes
        try:
            self._results.write_mask(image, self._valued(mask, labels))
            if self._results.overlays:
                picture = overlay(
                    encoded,
                    mask,
                    labels.names,
                    labels.colors,
                    fractions,
                    reading=labels.reading,
                )
                self._results.write_overlay(image, picture)
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
            mask=str(self._results.mask(image)),
            version=prediction.version,
            class_fraction=dict(
                zip(labels.names, (round(fraction, 6) for fraction in fractions), strict=False)
            ),
        )
        self.answered += 1
        self._one_more_done()

    def _valued(self, mask: bytes, labels: Labels) -> bytes:
        match self._values:
            case Values.IDS:
                return with_palette(mask, labels.colors)
            case Values.RAW:
                return with_raw_values(mask, labels.raw_values)
            case Values.AS_SENT:
                return mask

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
        self._one_more_done()
        self._record.write(file=str(image.path), error=reason)


class _Lines(logging.Handler):
    """What the client has to say while it waits."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


@contextmanager
def _progress_bar(images: int) -> Iterator[Callable[[], None]]:
    """Shows how far the run is, where a person looks; yields what to call after each image."""
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn()
    bar = Progress(
        *columns,
        console=_CONSOLE,
        transient=True,
        # Standard output is the record's, if --json says so.
        redirect_stdout=False,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=images)
        yield lambda: bar.advance(task)


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
    # Above the progress bar, not into it.
    _CONSOLE.print(printable(line))
