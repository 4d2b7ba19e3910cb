"""What stages leave for others to read: names of files and of artifacts' properties, and shapes of records.

Imports neither TensorFlow nor TFX. A stage that reads what another one wrote needs this, not the other.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LABELS_FILE: Final = Path("assets.extra", "labels.json")
"""In a SavedModel: classes, colours, limits, recipe, versions."""
INGESTION_FILE: Final = "ingestion.json"
"""In the artifact ``ingestion``: an `Ingestion`."""
SPLITS_FILE: Final = "splits.csv"
"""Beside it, and beside a run's page: each image's file, relative to the dataset's root, and its split."""
HISTORY_FILE: Final = "history.json"
"""In the artifact ``model_run``: a `TrainingHistory`."""
EVALUATION_FILE: Final = "evaluation.json"
"""In the artifact ``evaluation``, beside what TFMA writes: an `Evaluation`."""
SERVING_CHECK_FILE: Final = "serving_check.json"
"""In the artifact ``infra_blessing``, unless the model was not tried: a `ServingCheck`."""

STATISTICS_ENVIRONMENT: Final = "statistics"
"""The schema's environment of the features that have statistics, in which the others are not looked for."""

VERSION: Final = "version"
"""Custom property of the baseline: the served version to compare with, empty if there is none."""
INCOMPARABLE_VERSION: Final = "incomparable_version"
"""Custom property of the baseline: the served version that cannot be compared with, or empty."""
OBSTACLE: Final = "obstacle"
"""Custom property of the baseline: why that version cannot be compared with."""
PUSHED: Final = "pushed"
"""Custom property of the pushed model, 0 or 1; this and the next two are TFX's."""
PUSHED_VERSION: Final = "pushed_version"
PUSHED_DESTINATION: Final = "pushed_destination"
ALREADY_SERVED: Final = "already_served"
"""Custom property of the pushed model, 0 or 1: the newest version was this model, nothing was copied."""


class Record(BaseModel):
    r"""Something that is written to a file and read again, also as earlier code wrote it.

    What such code did not know has a default; keys that nobody knows any more do not matter. Text that no
    encoding can say (file names may hold it) is spelt out with backslashes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _can_be_encoded(cls, data: Any) -> Any:
        return _printable(data)

    def save(self, path: Path, indent: int | None = 2) -> None:
        """Writes the record as JSON, whole or not at all."""
        write_whole(path, self.model_dump_json(indent=indent) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a record back.

        Raises:
            OSError: there is none.
            ValueError: it is none.
        """
        return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def load_if_any(cls, path: Path) -> Self | None:
        """Reads a record back; None where there is no such file."""
        return cls.load(path) if path.exists() else None


class RejectedFile(Record):
    """An input file that became no example."""

    file: str
    """Path relative to the dataset's root."""
    reason: str
    found: str = ""


class SharedPicture(Record):
    """An image of several splits: its files are the same, pixel by pixel."""

    members: tuple[tuple[str, str], ...]
    """Split and file each."""


class Ingestion(Record):
    """Where every input file went."""

    examples: dict[str, int]
    """Number of examples of each split."""
    split_origins: dict[str, str] = Field(default_factory=dict)
    """What decided about each split, in words; empty where shares of all pairs were drawn."""
    rejected: tuple[RejectedFile, ...] = ()
    shared_pictures: tuple[SharedPicture, ...] | None = None
    """None where nobody looked."""


Measured = Annotated[
    float | None,
    BeforeValidator(lambda value: None if isinstance(value, float) and not math.isfinite(value) else value),
]
"""What was measured; None is what was no number."""


class TrainingHistory(Record):
    """What every epoch measured."""

    best_epoch: int
    """The exported one, from 1."""
    epochs: tuple[dict[str, Measured], ...]
    """By name."""
    untrained_classes: tuple[str, ...] = ()
    """Those that the training split has no pixel of."""


class Metrics(Record):
    """One model's metrics on the whole test split, by the names of `components.metrics.table`.

    Null is what could not be measured.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    examples: int
    iou: dict[str, float | None]
    """Of each class, by its name."""
    resolution: str = "original"

    def __getitem__(self, name: str) -> float | None:
        """A metric of the table; KeyError where it was not computed."""
        return self.__pydantic_extra__[name]

    def __contains__(self, name: str) -> bool:
        """Whether a metric of the table was computed; earlier code had fewer."""
        return name in self.__pydantic_extra__

    def get(self, name: str) -> float | None:
        """A metric of the table; None also where it was not computed."""
        return self.__pydantic_extra__.get(name)


class Baseline(Record):
    """The model that was being served when the run took place."""

    version: int
    metrics: Metrics | None = None
    """On the same examples; None where the candidate could not be compared with it."""
    obstacle: str | None = None
    """Why it could not."""


NO_TEST_PIXEL: Final = "the test split has no pixel of"
"""How the gate's message begins where a class cannot be measured."""


class GateCheck(Record):
    """One threshold of the gate and what became of it."""

    what: str
    """E.g. ``mean IoU``, ``IoU of cat``, ``mean IoU of species=cat``, ``classes never found``."""
    setting: str
    """The recipe's key."""
    threshold: float
    """The lowest value allowed, or how far the value may fall below the baseline's, or the highest number of
    classes."""
    value: float | None
    """The candidate's; None if it could not be measured."""
    baseline: float | None = None
    """The served model's where the threshold is about it, else None."""
    passed: bool
    """TFMA's verdict."""
    message: str
    """One line for people."""
    digits: int = 3
    """After the point, with which value and bound read as the verdict says."""


LITTLE_LOST: Final = 0.97
"""An IoU that the resize leaves of a class and that needs no word."""
TOO_SMALL: Final = "at its input size"
"""In the gate's message where the resize alone keeps a threshold from being met."""


def larger_input(resize: str | None) -> str:
    """Returns what lifts a ceiling, by the recipe's ``transform.resize``; None is what no recipe says."""
    if resize == "native":
        return "enlarge transform.scale"
    return "enlarge transform.height and transform.width, or set transform.resize to native"


class Ceiling(Record):
    """What the resize to the network's input leaves: metrics, against the same truth, of masks that a network
    would give that reproduces its own training targets perfectly. Null is what could not be measured.
    """

    mean_iou: float | None
    iou: dict[str, float | None]
    """Of each class, by its name."""
    slices: dict[str, float | None] = Field(default_factory=dict)
    """Mean IoU a slice, keyed ``attribute=value``."""

    @property
    def low(self) -> dict[str, float]:
        """The classes of which so much is lost that it must be said, and what is left, the lowest first."""
        left = {name: iou for name, iou in self.iou.items() if iou is not None and iou < LITTLE_LOST}
        return dict(sorted(left.items(), key=lambda item: item[1]))


def of_at_most(value: float | None, ceiling: float | None) -> str:
    """Returns what stands beside a metric: ``of at most 0.716``; empty where the resize loses little.

    A network may answer better than its targets, which are blocks, and pass their ceiling by a little.
    """
    if value is None or ceiling is None or ceiling >= LITTLE_LOST:
        return ""
    return f"{'of at most' if value <= ceiling else 'above the'} {ceiling:.3f}"


class Evaluation(Record):
    """What the Evaluator found."""

    metrics: Metrics
    ceiling: Ceiling | None = None
    """The candidate's; None of a model that does not say how it resizes, or where nobody looked."""
    baseline: Baseline | None = None
    """What the candidate was compared with."""
    slices: dict[str, float | None] = Field(default_factory=dict)
    """Mean IoU of the candidate a slice, keyed ``attribute=value``."""
    checks: tuple[GateCheck, ...] = ()
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, C × C, of the candidate; rows are true classes, columns predicted ones."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gate refused, one line a threshold; empty if it did not."""
        return tuple(check.message for check in self.checks if not check.passed)


class Latency(Record):
    """Of requests with one image, one after the other; milliseconds."""

    first: float
    """The very first request: what a warm-up leaves to it."""
    p50: float
    p99: float
    requests: int
    """Of which these are the percentiles; the first is none of them."""


class Memory(Record):
    """Resident memory of the server's processes; megabytes of 10^6 bytes."""

    peak: float
    """The most there ever was, loading included."""


class HostileAnswer(Record):
    """What the server said to a request that it must refuse."""

    request: str
    code: str
    """Name of the gRPC status."""
    message: str


class ServingCheck(Record):
    """How the candidate did when it was served on trial; null is what was not reached."""

    server: str
    """Which one was asked: ``embedded``, or ``tensorflow_model_server`` and its version."""
    reasons: tuple[str, ...] = ()
    """Why the model must not be pushed; empty where it may."""
    load_seconds: float | None = None
    """From the start of the server's process to the first moment it would have answered."""
    masks: int = 0
    """Masks found equal to those of the model's signature ``evaluate``, pixel by pixel."""
    same_bytes: int = 0
    """Of these, those whose PNGs are equal byte by byte."""
    not_tried: int = 0
    """Test images that were passed over, as too large for a request."""
    latency_ms: Latency | None = None
    memory_mb: Memory | None = None
    hostile_requests: tuple[HostileAnswer, ...] = ()

    @property
    def measured(self) -> str:
        """Latency and memory as far as they were measured: ``9.1 ms an image (p99 45.6), up to 621 MB``."""
        latency, memory = self.latency_ms, self.memory_mb
        said = [f"{latency.p50:.1f} ms an image (p99 {latency.p99:.1f})"] if latency else []
        return ", ".join([*said, f"up to {memory.peak:.0f} MB"] if memory else said)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _printable(value: Any) -> Any:
    """Returns the value with lone surrogates, which file names may hold, as a backslash and a code."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
        case Mapping():
            return {_printable(key): _printable(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable(item) for item in value]
    return value
