"""``report.json``: all that a run's page shows. Imports neither TensorFlow nor TFX."""

import os
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field

from components.imaging.palette import Color
from components.settings import Settings

DATA_FILE: Final = "report.json"
PAGE_FILE: Final = "index.html"

Outcome = Literal["pushed", "rejected", "failed", "interrupted"]


class Verdict(Settings):
    """What became of the run."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """Why it was rejected or failed, a line each."""
    version: int | None = None
    """Under which the model is served."""
    pushed_now: bool = False
    """Whether this run pushed it; otherwise it had been served already."""
    serving_dir: str = ""
    log: str = ""
    """The file with all details."""


class Run(Settings):
    """Which run it was."""

    recipe: str
    description: str = ""
    model_name: str
    run_id: str = ""
    finished: str = ""
    """ISO 8601, with the offset from UTC."""


class Baseline(Settings):
    """The model that was being served when the run took place."""

    version: int
    obstacle: str = ""
    """Why the candidate could not be compared with it; empty where it was."""


class Interval(Settings):
    """Of a percentile bootstrap."""

    low: float
    high: float


class Metric(Settings):
    """A metric on the whole test split."""

    key: str
    """As in ``summary.json``, e.g. ``mean_iou``."""
    value: float | None
    baseline: float | None = None
    interval: Interval | None = None


class Check(Settings):
    """One threshold of the gate."""

    what: str
    setting: str
    """The recipe's key."""
    threshold: float
    """The lowest value allowed, or how far the value may fall below the baseline's, or the highest number of
    classes."""
    value: float | None
    baseline: float | None
    passed: bool
    message: str
    digits: int = 3
    """After the point, with which these numbers read as the verdict says."""


class ClassResult(Settings):
    """One class on the test split."""

    name: str
    color: Color
    iou: float | None = None
    baseline: float | None = None
    """IoU of the baseline."""
    interval: Interval | None = None
    images: int | None = None
    """Test images in whose ground truth it occurs."""


class Slice(Settings):
    """The examples of the test split that share an attribute."""

    name: str
    """``attribute=value``."""
    mean_iou: float | None
    images: int | None = None
    interval: Interval | None = None


class Evaluation(Settings):
    """What the Evaluator found, and how sure it is."""

    metrics: tuple[Metric, ...]
    examples: int
    baseline: Baseline | None = None
    checks: tuple[Check, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """Pixels; rows are true classes, columns predicted ones."""
    slices: tuple[Slice, ...] = ()
    resamples: int = 0
    """Of the bootstrap; 0 where there was none."""
    moved_pixels: int = 0
    """Pixels to which the prediction made for this page gives another class than the evaluation's."""


class Training(Settings):
    """The record of the Trainer."""

    best_epoch: int
    """The exported one, from 1."""
    epochs: tuple[dict[str, float | None], ...]
    """What was measured, by name; null is what was no number."""
    untrained_classes: tuple[str, ...] = ()
    """Those that the training split has no pixel of."""


class GalleryItem(Settings):
    """A test example. All pictures have the same size, a thumbnail's; they are data URIs."""

    name: str
    why: tuple[str, ...]
    """``worst``, ``median``, ``best``, ``random``."""
    iou: float | None
    """Mean over the classes that occur in this image's truth or prediction."""
    width: int
    """Of the thumbnail."""
    height: int
    own_size: tuple[int, int]
    """Width and height of the image itself."""
    class_ids: tuple[int, ...]
    """Classes in truth or prediction."""
    image: str
    truth: str
    prediction: str
    errors: str


class SizeCount(Settings):
    width: int
    height: int
    images: int


class Split(Settings):
    """What one split is made of."""

    name: str
    examples: int
    sizes: tuple[SizeCount, ...] = ()
    """The commonest."""
    smallest: tuple[int, int] | None = None
    """Width and height of the image with the fewest pixels."""
    largest: tuple[int, int] | None = None
    class_pixels: tuple[int, ...] = ()
    ignored_pixels: int = 0
    class_images: tuple[int, ...] = ()
    """Images in which each class occurs."""


class RejectedFile(Settings):
    """An input file that became no example."""

    file: str
    reason: str
    found: str = ""


class Leak(Settings):
    """Images of several splits that are the same, pixel by pixel."""

    members: tuple[tuple[str, str], ...]
    """Split and file name each."""


class Census(Settings):
    """All splits, looked through once."""

    splits: tuple[Split, ...] = ()
    leak_count: int | None = None
    """Null where nobody looked for them."""
    leaks: tuple[Leak, ...] = ()
    """The first ones."""
    fingerprint: str = ""
    """A digest of all Examples and of the splits that they are in."""


class Dataset(Settings):
    """What went in."""

    census: Census
    rejected_count: int = 0
    rejected: tuple[RejectedFile, ...] = ()
    """The first ones."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """How many files were rejected for which reason."""


class ServingCheck(Settings):
    """How the candidate did when it was served on trial."""

    server: str
    reasons: tuple[str, ...]
    load_seconds: float | None
    masks: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    memory_peak_mb: float | None
    """Megabytes of 10^6 bytes."""
    refused_requests: int


class Stage(Settings):
    """What a stage cost."""

    name: str
    seconds: float
    cached: bool
    peak_memory_mb: float | None = None
    """Megabytes of 10^6 bytes; null where it was not measured."""


class Lineage(Settings):
    """Which data, which code, which model; empty is unknown."""

    code_fingerprint: str = ""
    git_commit: str = ""
    model_fingerprint: str = ""
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    """Of libraries, by name."""
    platform: str = ""


class ReportData(Settings):
    """All that a run's page shows; null is what the run did not reach."""

    run: Run
    verdict: Verdict
    classes: tuple[ClassResult, ...] = ()
    evaluation: Evaluation | None = None
    training: Training | None = None
    gallery: tuple[GalleryItem, ...] = ()
    dataset: Dataset | None = None
    serving_check: ServingCheck | None = None
    stages: tuple[Stage, ...] = ()
    recipe: dict[str, Any] = Field(default_factory=dict)
    lineage: Lineage = Lineage()
    obstacle: str = ""
    """Why the Report stage could not add what only it knows; empty where it could, or was not reached."""

    def metric(self, key: str) -> Metric | None:
        """Returns a metric of the whole test split; None where nothing was evaluated."""
        metrics = self.evaluation.metrics if self.evaluation else ()
        return next((metric for metric in metrics if metric.key == key), None)

    def save(self, directory: Path) -> None:
        """Writes ``report.json``, whole or not at all."""
        write_whole(directory / DATA_FILE, self.model_dump_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a ``report.json``, or that of a folder.

        Raises:
            OSError: there is none.
            ValueError: it is none.
        """
        file = path / DATA_FILE if path.is_dir() else path
        return cls.model_validate_json(file.read_text(encoding="utf-8"))


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half of one."""
    # What UTF-8 cannot say, a lone surrogate, becomes \uXXXX, which in JSON is the very same character.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
