"""The data of a page, and what a browser would make of the page."""

import json
from html.parser import HTMLParser
from typing import Any

import numpy as np

from components.dataset.contracts import GateCheck, Metrics, TrainingHistory
from components.metrics.table import METRICS
from components.report.data import (
    DatasetStatistics,
    GalleryItem,
    Interval,
    Lineage,
    ReportData,
    ReportedClass,
    SliceSample,
    Split,
)
from components.report.gallery import error_picture, mask_picture
from components.report.run_summary import RunSummary, Stage

COLORS = ((0, 0, 0), (200, 0, 0), (0, 200, 0))


VALUES = {metric.name: 0.9 - 0.11 * number for number, metric in enumerate(METRICS)} | {"mean_iou": 0.45}
"""Of the metrics in the table, whichever these are."""


def known_summary(**changes: Any) -> RunSummary:
    """A pushed run of two classes and one that occurs nowhere; ``changes`` replaces fields."""
    fields: dict[str, Any] = {
        "recipe": "known",
        "run_id": "1",
        "model_name": "known",
        "finished_at": "2026-01-02T03:04:05+00:00",
        "outcome": "pushed",
        "pushed_version": 7,
        "pushed_now": True,
        "serving_dir": "/serving/known",
        "metrics": Metrics(iou={"sky": 0.9, "tree": 0.0, "unicorn": None}, examples=40, **VALUES),
        "slices": {"species=cat": 0.5},
        "stages": (Stage(name="Trainer", seconds=61.2, cached=False, memory_mb=512.4),),
    }
    return RunSummary(**(fields | changes))


def known_run(summary: RunSummary | None = None, **changes: Any) -> ReportData:
    """The page of the `known_summary`, or of another; ``changes`` replaces fields."""
    ids = np.array([[0, 1], [1, 255]], np.uint8)
    found = np.array([[0, 1], [0, 1]], np.uint8)
    item = GalleryItem(
        name="images/a.jpg",
        why=("worst", "random"),
        iou=0.25,
        width=2,
        height=2,
        own_size=(2, 2),
        class_ids=(0, 1),
        image="data:image/webp;base64,AA==",
        truth=mask_picture(ids, COLORS),
        prediction=mask_picture(found, COLORS),
        errors=error_picture(ids, found),
    )
    fields: dict[str, Any] = {
        "summary": summary or known_summary(),
        "classes": (
            ReportedClass(name="sky", color=COLORS[0], interval=Interval(low=0.8, high=0.95), images=9),
            ReportedClass(name="tree", color=COLORS[1], interval=Interval(low=0.0, high=0.0), images=4),
            ReportedClass(name="unicorn", color=COLORS[2], images=0),
        ),
        "intervals": {"mean_iou": Interval(low=0.4, high=0.475)},
        "checks": (
            GateCheck(
                what="mean IoU",
                setting="evaluation.min_mean_iou",
                threshold=0.4,
                value=0.45,
                passed=True,
                message="mean IoU 0.450 reaches evaluation.min_mean_iou 0.400",
            ),
        ),
        "confusion": ((90, 0, 0), (10, 0, 0), (0, 0, 0)),
        "slices": {"species=cat": SliceSample(images=20)},
        "resamples": 2000,
        "history": TrainingHistory(
            best_epoch=2,
            epochs=(
                {"phase": 1, "loss": 1.0, "val_loss": None, "iou_at_input_size": 0.2},
                {"phase": 1, "loss": 0.5, "val_loss": 0.6, "iou_at_input_size": 0.4},
            ),
        ),
        "gallery": (item,),
        "statistics": DatasetStatistics(
            splits=(Split(name="train", examples=80), Split(name="test", examples=40)), fingerprint="f00d"
        ),
        "recipe": {"name": "known", "training": {"epochs": 2, "seed": 0}},
        "lineage": Lineage(model_fingerprint="beef", seeds={"training.seed": 0}),
    }
    return ReportData(**(fields | changes))


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "path"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self._texts.append((self._open[-1] if self._open else "", data))

    @property
    def text(self) -> str:
        """All that is to be read, scripts and styles left out."""
        return " ".join(" ".join(text for tag, text in self._texts if tag not in ("script", "style")).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def json(self) -> list[Any]:
        """What the page gives to its script."""
        return [json.loads(text) for tag, text in self._texts if tag == "script" and text[0] in "[{"]
