"""Compares two runs: what differs in their recipes, data, metrics and examples."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.imaging.palette import Color
from components.report.data import GalleryItem, MetricRow, ReportData, ReportedClass


@dataclass(frozen=True)
class Setting:
    """A key that has not the same value in both; None is absent."""

    key: str
    left: str | None
    right: str | None


@dataclass(frozen=True)
class ClassPair:
    """A class of either run."""

    name: str
    color: Color
    left: ReportedClass | None
    right: ReportedClass | None


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common and what not."""

    left: ReportData
    right: ReportData

    @property
    def runs(self) -> tuple[tuple[str, ReportData], ...]:
        """Both, with the letters that the page calls them by."""
        return ("A", self.left), ("B", self.right)

    @property
    def same_data(self) -> bool | None:
        """Whether both saw the same Examples in the same splits; None where that is not known."""
        return _same(*(run.statistics.fingerprint if run.statistics else "" for _, run in self.runs))

    @property
    def same_test(self) -> bool | None:
        """Whether both were evaluated on the same Examples; None where that is not known.

        Files of earlier code say it only where all splits are the same.
        """
        return self.same_data or self._same_split("test")

    @property
    def same_learnt(self) -> bool | None:
        """Whether train and val are the same in both; None where that is not known, as of a second look."""
        same = [self._same_split(split) for split in ("train", "val")]
        _, run = self.runs[0]
        splits = run.statistics.splits if run.statistics else ()
        # All that two second looks saw may be the same: they have a test split alone.
        if self.same_data and any(split.name == "train" for split in splits):
            return True
        return False if False in same else None if None in same else True

    def _same_split(self, name: str) -> bool | None:
        found = (run.statistics.splits if run.statistics else () for _, run in self.runs)
        return _same(*(next((split.fingerprint for split in of if split.name == name), "") for of in found))

    @property
    def metrics(self) -> tuple[tuple[MetricRow | None, MetricRow | None], ...]:
        """The metrics of the table that either has."""
        left, right = ({row.name: row for row in run.metrics} for _, run in self.runs)
        return tuple((left.get(name), right.get(name)) for name in left | right)

    @property
    def classes(self) -> tuple[ClassPair, ...]:
        """The classes of both, by name."""
        left, right = ({each.name: each for each in run.classes} for _, run in self.runs)
        return tuple(
            ClassPair(name, (left.get(name) or right[name]).color, left.get(name), right.get(name))
            for name in left | right
        )

    @property
    def same_classes(self) -> bool:
        """Whether class ids mean the same in both."""
        left, right = ([(each.name, each.color) for each in run.classes] for _, run in self.runs)
        return left == right

    @property
    def examples(self) -> tuple[tuple[GalleryItem, GalleryItem], ...]:
        """The test images that both show; none where class ids do not mean the same.

        Where the test split is not known to be the same, a name may stand for two pictures or two truths.
        """
        if not self.same_classes:
            return ()
        right = {item.name: item for item in self.right.gallery}
        pairs = ((item, right.get(item.name)) for item in self.left.gallery)
        return tuple(
            (one, other) for one, other in pairs if other and _same_image(one, other, bool(self.same_test))
        )

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The recipes' settings that differ."""
        return tuple(_differing(self.left.recipe, self.right.recipe))

    @property
    def origins(self) -> tuple[Setting, ...]:
        """Versions, fingerprints and the like that differ."""
        return tuple(_differing(*(run.lineage.model_dump() for _, run in self.runs)))


def _same(left: str, right: str) -> bool | None:
    """Whether two digests are one; None where either is unknown."""
    return left == right if left and right else None


def _same_image(one: GalleryItem, other: GalleryItem, same_test: bool) -> bool:
    """Whether two of one name are one picture with one truth, as far as the thumbnails tell."""
    if one.own_size != other.own_size:
        return False
    if (one.width, one.height) != (other.width, other.height):
        return same_test
    return one.image == other.image and (same_test or one.truth == other.truth)


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a recipe's settings by their full keys, ``training.epochs``."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Setting]:
    ones, others = (dict(flattened(values)) for values in (left, right))
    for key in ones | others:
        texts = [
            json.dumps(values[key], ensure_ascii=False) if key in values else None
            for values in (ones, others)
        ]
        if texts[0] != texts[1]:
            yield Setting(key, *texts)
