"""``report.json``: all that a run's page shows. Imports neither TensorFlow nor TFX."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pydantic import Field

from components.dataset.contracts import (
    EVALUATION_FILE,
    HISTORY_FILE,
    INGESTION_FILE,
    Evaluation,
    GateCheck,
    Ingestion,
    Record,
    SharedPicture,
    TrainingHistory,
)
from components.dataset.labels import LabelSet
from components.imaging.palette import Color, told_apart
from components.metrics.table import MEAN_IOU, METRICS
from components.report.run_summary import REJECTED, RunSummary

if TYPE_CHECKING:
    from tfx.types import Artifact

DATA_FILE: Final = "report.json"
PAGE_FILE: Final = "index.html"
_SHOWN_SHARED: Final = 50
_SHOWN_MEMBERS: Final = 10


class Interval(Record):
    """Of a percentile bootstrap."""

    low: float
    high: float


class ReportedClass(Record):
    """One class; its IoU is in the summary."""

    name: str
    color: Color
    interval: Interval | None = None
    """Of its IoU."""
    images: int | None = None
    """Test images in whose ground truth it occurs."""


class SliceSample(Record):
    """The examples of the test split that share an attribute; their mean IoU is in the summary."""

    images: int
    interval: Interval | None = None


class GalleryItem(Record):
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


class SizeCount(Record):
    width: int
    height: int
    images: int


class Split(Record):
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
    fingerprint: str = ""
    """A digest of its Examples; earlier code wrote none."""


class DatasetStatistics(Record):
    """All splits, looked through once."""

    splits: tuple[Split, ...] = ()
    fingerprint: str = ""
    """A digest of all Examples and of the splits that they are in."""


class Lineage(Record):
    """Which data, which code, which model; empty is unknown."""

    code_fingerprint: str = ""
    git_commit: str = ""
    model_fingerprint: str = ""
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    """Of libraries, by name."""
    platform: str = ""


class MetricRow(NamedTuple):
    """A metric of the table as a page shows it."""

    name: str
    label: str
    value: float | None
    baseline: float | None
    interval: Interval | None
    ceiling: float | None = None


class ReportedPicture(SharedPicture):
    """A picture of several splits, with the first of its members."""

    more: int = 0
    """Members beyond those."""

    @classmethod
    def of(cls, picture: SharedPicture) -> Self:
        """Keeps few members, one of each split among them: a file may be there ten thousand times."""
        first = {split: index for index, (split, _) in reversed([*enumerate(picture.members)])}
        ranked = sorted(
            range(len(picture.members)), key=lambda index: first[picture.members[index][0]] != index
        )
        kept = sorted(ranked[:_SHOWN_MEMBERS])
        return cls(
            members=tuple(picture.members[index] for index in kept), more=len(picture.members) - len(kept)
        )


class ReportData(Record):
    """The summary of a run and what else its page shows; null or empty is what the run did not reach."""

    summary: RunSummary
    description: str = ""
    log: str = ""
    """The file with all details, where it is worth a look."""
    obstacle: str = ""
    """Why the Report stage could not add what only it knows; empty where it could, or was not reached."""
    classes: tuple[ReportedClass, ...] = ()
    """In the order of their ids."""
    checks: tuple[GateCheck, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    """Pixels; rows are true classes, columns predicted ones."""
    intervals: dict[str, Interval | None] = Field(default_factory=dict)
    """By the metric's name."""
    slices: dict[str, SliceSample] = Field(default_factory=dict)
    """By the slice's name."""
    resamples: int = 0
    """Of the bootstrap; 0 where there was none."""
    moved_pixels: int = 0
    """At least so many pixels get another class of the prediction made for this page than of the
    evaluation's: of those that changed places in the confusion matrix only the difference shows."""
    history: TrainingHistory | None = None
    gallery: tuple[GalleryItem, ...] = ()
    statistics: DatasetStatistics | None = None
    split_origins: dict[str, str] = Field(default_factory=dict)
    """What decided about each split; empty where shares of all pairs were drawn."""
    shared_count: int | None = None
    """How many pictures are in several splits; null where the ingestion did not look."""
    shared_pictures: tuple[ReportedPicture, ...] = ()
    """The first ones."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    lineage: Lineage = Lineage()

    @classmethod
    def of(
        cls,
        summary: RunSummary,
        artifacts: Mapping[str, "Artifact"],
        recipe: Mapping[str, Any],
        labels: LabelSet,
        lineage: Lineage,
    ) -> Self:
        """Returns what is known without a look at the examples.

        Args:
            summary: of the run.
            artifacts: those of the stages that are done, by output key.
            recipe: what was run.
            labels: names and colours of the classes.
            lineage: what it was made with.
        """
        evaluation = (
            Evaluation.load(Path(artifacts["evaluation"].uri, EVALUATION_FILE)) if summary.metrics else None
        )
        ingestion = (
            Ingestion.load_if_any(Path(artifacts["ingestion"].uri, INGESTION_FILE))
            if "ingestion" in artifacts
            else None
        )
        shared = ingestion.shared_pictures if ingestion else None
        return cls(
            summary=summary,
            split_origins=ingestion.split_origins if ingestion else {},
            shared_count=None if shared is None else len(shared),
            shared_pictures=tuple(map(ReportedPicture.of, (shared or ())[:_SHOWN_SHARED])),
            description=recipe["description"],
            classes=tuple(
                ReportedClass(name=name, color=color)
                for name, color in zip(labels.names, told_apart(labels.palette), strict=True)
            ),
            checks=evaluation.checks if evaluation else (),
            confusion=evaluation.confusion if evaluation else (),
            history=TrainingHistory.load_if_any(Path(artifacts["model_run"].uri, HISTORY_FILE))
            if "model_run" in artifacts
            else None,
            recipe=dict(recipe),
            lineage=lineage,
        )

    @property
    def metrics(self) -> tuple[MetricRow, ...]:
        """The metrics of the whole test split, as in the table; none where nothing was evaluated."""
        own, baseline = self.summary.metrics, self.summary.baseline
        if own is None:
            return ()
        other = baseline.metrics if baseline else None
        return tuple(
            MetricRow(
                name=metric.name,
                label=metric.label,
                value=own[metric.name],
                baseline=other.get(metric.name) if other else None,
                interval=self.intervals.get(metric.name),
                ceiling=self.summary.ceiling.mean_iou
                if self.summary.ceiling and metric is MEAN_IOU
                else None,
            )
            for metric in METRICS
            if metric.name in own
        )

    def iou(self, class_name: str) -> float | None:
        """Of a class of the candidate."""
        return self.summary.metrics.iou.get(class_name) if self.summary.metrics else None

    def ceiling(self, class_name: str) -> float | None:
        """What the resize leaves of a class's IoU."""
        return self.summary.ceiling.iou.get(class_name) if self.summary.ceiling else None

    @property
    def low(self) -> dict[str, float]:
        """The classes of which the resize loses much, and what is left, the least first."""
        return self.summary.ceiling.low if self.summary.ceiling else {}

    @property
    def limited(self) -> dict[str, float]:
        """Those of which it loses more than the network does."""
        lost = {name: left - (self.iou(name) or 0.0) for name, left in self.low.items()}
        return {name: left for name, left in self.low.items() if 0 <= lost[name] < 1 - left}

    def baseline_iou(self, class_name: str) -> float | None:
        """Of a class of the baseline."""
        baseline = self.summary.baseline
        return baseline.metrics.iou.get(class_name) if baseline and baseline.metrics else None

    @property
    def splits(self) -> tuple[Split, ...]:
        """What is known of each split."""
        if self.statistics:
            return self.statistics.splits
        examples = self.summary.examples or {}
        return tuple(Split(name=name, examples=count) for name, count in examples.items() if name != REJECTED)

    @property
    def rejections(self) -> dict[str, int]:
        """How many files were rejected for which reason, most first."""
        return dict(Counter(file.reason for file in self.summary.rejected_files).most_common())

    def save(self, path: Path, indent: int | None = None) -> None:
        """Writes ``report.json`` into a folder, whole or not at all."""
        super().save(path / DATA_FILE, indent)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a ``report.json``, or that of a folder.

        Raises:
            OSError: there is none.
            ValueError: it is none.
        """
        return super().load(path / DATA_FILE if path.is_dir() else path)
