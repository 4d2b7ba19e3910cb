"""One run of the predict command: images go to a server, masks and what is said of them come back."""

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from components.errors import printable
from components.image_mask_example_gen.files import InputRejectedError, read_bytes
from components.imaging.drawing import overlay, with_palette, with_raw_values
from components.imaging.reading import RGB, Reading
from components.serving.client import Labels, Prediction, SegmentationClient
from components.serving.failures import ModelUnavailableError, ServingClientError
from pipeline.predict.image_files import ImageFile, sent_bytes
from pipeline.predict.result_files import Record, ResultFiles, is_out_of_space

_CONSOLE: Final = Console(stderr=True, soft_wrap=True, markup=False, highlight=False, emoji=False)
_REPEATS: Final = 4
"""Of one image, until the version that answers is one that reads it as it was sent."""
_TRIES: Final = 3
"""To learn a version's classes: each may take as long as an image."""


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


@dataclass(frozen=True)
class _Asked:
    """An image whose answer is awaited."""

    image: ImageFile
    encoded: bytes
    """What was sent."""
    reading: Reading
    """How the version reads images that it was encoded for."""

    def suits(self, reading: Reading) -> bool:
        """Whether a version that reads so was sent what it takes; orientations it applies by itself."""
        return (reading.bands, reading.value_range) == (self.reading.bands, self.reading.value_range)


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
        self._versions: set[int] = set()
        """Those that answered."""
        self._labels: dict[int, Labels] = {}
        self._asked_for: Counter[int] = Counter()
        """How often a version was asked for its classes."""
        self._guessed: set[int] = set()
        """Versions that answered and did not say their classes."""
        self._reading = RGB
        """How images are encoded: as the version reads them that answered last."""
        self._asked: deque[_Asked] = deque()
        self._started = time.monotonic()

    def predict(self, images: Sequence[ImageFile], concurrency: int, batch_size: int) -> None:
        # Asked for first: a server that is not there, or lacks the model, shows before any image is read.
        labels = self._client.labels()
        self._labels[labels.version] = labels
        self._asked_for[labels.version] += 1
        self._versions.add(labels.version)
        # Where the reading is unknown the request failed: the next may bring the values, too.
        if self._values is Values.RAW and not labels.raw_values and labels.reading is not None:
            raise _NoRawValuesError(
                f"{self._client.model.name} (version {labels.version}) does not say its data's own label "
                "values: it was exported before they were kept; leave --values raw out, or train it anew"
            )
        self._reading = labels.reading or RGB
        with self._results.open_record() as self._record:
            for answer in self._client.predict_many(
                self._read(images), concurrency=concurrency, batch_size=batch_size
            ):
                self._settle(self._asked.popleft(), answer)

    def summary(self, count: int) -> str:
        """One line on how it went."""
        seconds = time.monotonic() - self._started
        versions = ", ".join(map(str, sorted(self._versions))) or "none"
        return (
            f"{self.answered} of {count} images answered by {self._client.model.name} (version {versions}) "
            f"in {seconds:.1f} s; masks in {self._results.output}"
        )

    def _read(self, images: Sequence[ImageFile]) -> Iterator[bytes]:
        for image in images:
            if asked := self._encode(image):
                # The picture is wanted again only to be drawn on.
                self._asked.append(asked if self._results.overlays else replace(asked, encoded=b""))
                yield asked.encoded

    def _encode(self, image: ImageFile) -> _Asked | None:
        """Returns what is sent of an image; None where it has failed."""
        try:
            encoded = sent_bytes(read_bytes(image.path, "request"), self._reading)
        except OSError as error:
            self._fail(image, error.strerror or str(error))
        except InputRejectedError as rejected:
            self._fail(image, rejected.found)
        except MemoryError:
            self._fail(image, "memory is at its end")
        else:
            return _Asked(image, encoded, self._reading)
        return None

    def _settle(
        self, asked: _Asked, answer: Prediction | ServingClientError, repeats: int = _REPEATS
    ) -> None:
        """Keeps an answer or says why there is none; asks again where the version reads images otherwise.

        A version that takes over finds requests on their way that were made for the one before.
        """
        # Asked for once: a second try could tell of another reading than the one that is compared here.
        labels = self._labels_behind(answer)
        reading = labels.reading if labels else None
        if reading is not None and not asked.suits(reading):
            self._reading = reading
            if not repeats:
                self._fail(
                    asked.image, "versions that read other bands or values answer in turn: give --version"
                )
            elif again := self._encode(asked.image):
                self._settle(again, self._ask(again.encoded), repeats - 1)
        elif isinstance(answer, ServingClientError):
            self._fail(asked.image, str(answer))
        elif labels is not None:
            self._keep(asked, answer, labels)

    def _labels_behind(self, answer: Prediction | ServingClientError) -> Labels | None:
        """The labels of the version that gave this answer; None where a refusal does not tell of one."""
        if isinstance(answer, Prediction):
            self._versions.add(answer.version)
            return self._labels_or_guess(answer.version)
        if answer.code is not grpc.StatusCode.INVALID_ARGUMENT or self._client.model.version is not None:
            return None
        # Who reads bands refuses a photograph, without saying which version it is.
        try:
            return self._labels_of(self._client.served_version())
        except ServingClientError:
            return None

    def _ask(self, encoded: bytes) -> Prediction | ServingClientError:
        try:
            return self._client.predict([encoded])[0]
        except ModelUnavailableError:
            raise
        except ServingClientError as error:
            return error

    def _keep(self, asked: _Asked, prediction: Prediction, labels: Labels) -> None:
        image = asked.image
        labels = labels.covering(len(prediction.class_fraction))
        # The shortest number that is the float32 which came: 0.1, not 0.10000000149011612.
        fractions = [float(str(fraction)) for fraction in prediction.class_fraction]
        mask = prediction.mask_bytes
        try:
            self._results.write_mask(image, self._valued(mask, labels))
            if self._results.overlays:
                picture = overlay(
                    asked.encoded,
                    mask,
                    labels.names,
                    labels.colors,
                    fractions,
                    reading=labels.reading or asked.reading,
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
            class_fraction=dict(zip(labels.names, fractions, strict=False)),
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

    def _labels_or_guess(self, version: int) -> Labels:
        """The labels of the version that answered; another may take over during the run."""
        try:
            return self._labels_of(version)
        except ServingClientError as error:
            # Gone already, or with another server of the same name, which may be asked the next time.
            guess = self._labels[max(self._labels)]
            if version not in self._guessed:
                self._guessed.add(version)
                _say(
                    f"version {version} answered and does not say its classes; those of version "
                    f"{guess.version} are taken for them ({error})"
                )
            # What the classes are called may be guessed, not what was read.
            return replace(guess, reading=None)

    def _labels_of(self, version: int) -> Labels:
        """The labels of a version, which is asked but for what is known; raises as the client does."""
        labels = self._labels.get(version)
        if labels is None or (labels.reading is None and self._asked_for[version] < _TRIES):
            self._asked_for[version] += 1
            labels = self._labels[version] = self._client.labels(version)
        return labels

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
