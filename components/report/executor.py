"""Gathers what a run left behind, and writes its page."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.dataset.contracts import PUSHED_DESTINATION
from components.dataset.features import SPLITS
from components.dataset.labels import LabelSet
from components.imaging.reading import Reading
from components.metrics.confusion import Margins
from components.metrics.table import MEAN_IOU
from components.model_store.store import content_fingerprint
from components.report.bootstrap import RESAMPLES, bootstrap
from components.report.data import ReportData, ReportedClass, SliceSample
from components.report.gallery import gallery
from components.report.lineage import lineage
from components.report.page import write_page
from components.report.predictions import Candidate, Predictions, predict_split
from components.report.run_summary import summarize
from components.report.statistics import dataset_statistics
from components.run_parameters import recipe_of_run

RECIPE_KEY: Final = "recipe"
LABELS_KEY: Final = "labels"
INGESTION_KEY: Final = "ingestion"
REPORT_KEY: Final = "report"

_TEST: Final = SPLITS[-1]

logger = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Writes ``report.json`` and ``index.html``."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the stage.

        Args:
            input_dict: what the component's arguments say.
            output_dict: ``report``.
            exec_properties: ``recipe`` and ``labels`` as JSON, and the values of this run.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        artifacts = {key: artifact_utils.get_single_instance(found) for key, found in input_dict.items()}
        data = _gather(artifacts, exec_properties)
        report = Path(artifact_utils.get_single_instance(output_dict[REPORT_KEY]).uri)
        data.save(report)
        page = write_page(data, report, artifacts)
        logger.info("%d KB, %d pictures: %s", page.stat().st_size // 1000, len(data.gallery), page)


def _gather(artifacts: Mapping[str, types.Artifact], exec_properties: Mapping[str, Any]) -> ReportData:
    labels = LabelSet.model_validate_json(exec_properties[LABELS_KEY])
    model_dir = Path(path_utils.serving_model_path(artifacts["model"].uri))
    recipe = recipe_of_run(exec_properties[RECIPE_KEY], exec_properties)
    destination = artifacts["pushed_model"].get_string_custom_property(PUSHED_DESTINATION)
    summary = summarize(
        artifacts,
        recipe=recipe["name"],
        model_name=recipe["serving"]["model_name"],
        serving_dir=str(Path(destination).parent) if destination else "",
    ).model_copy(update={"finished_at": datetime.now(UTC)})
    known = ReportData.of(
        summary,
        artifacts,
        recipe,
        labels,
        lineage(recipe, content_fingerprint(model_dir)),
    )
    return with_examples(known, model_dir, artifacts["examples"], labels)


def with_examples(
    known: ReportData, model_dir: Path, examples: types.Artifact, labels: LabelSet
) -> ReportData:
    """Adds what only a look at the Examples tells: what is in the splits, intervals, pictures.

    Args:
        known: what is known of the run without it.
        model_dir: the SavedModel that was evaluated.
        examples: its splits are looked at; that of the evaluation is ``test``.
        labels: names and colours of the classes.
    """
    split_dirs = {
        split: Path(artifact_utils.get_split_uri([examples], split))
        for split in artifact_utils.decode_split_names(examples.split_names)
    }
    candidate = Candidate(model_dir)
    predictions = predict_split(candidate, split_dirs[_TEST], labels.num_classes)
    dataset, channels = known.recipe["dataset"], known.recipe["transform"]["channels"]
    reading = Reading(
        bands=tuple(channels) if isinstance(channels, list) else None,
        exif=dataset.get("exif"),
        value_range=dataset.get("value_range"),
    )
    return _with_intervals(known, predictions).model_copy(
        update={
            "statistics": dataset_statistics(split_dirs),
            "gallery": gallery(split_dirs[_TEST], candidate, predictions, labels, reading),
        }
    )


def _with_intervals(known: ReportData, predictions: Predictions) -> ReportData:
    """Adds how sure the metrics of the whole split, of its classes and of its slices are."""
    intervals = bootstrap(predictions.margins)
    images = (predictions.margins.truth > 0).sum(axis=0).tolist()
    return known.model_copy(
        update={
            "classes": tuple(
                ReportedClass(
                    name=each.name,
                    color=each.color,
                    interval=intervals.iou[class_id] if intervals else None,
                    images=images[class_id],
                )
                for class_id, each in enumerate(known.classes)
            ),
            "intervals": intervals.metrics if intervals else {},
            "slices": {name: _slice(name, predictions) for name in known.summary.slices},
            "resamples": RESAMPLES if intervals else 0,
            # A pixel that moved is missing in one cell and too many in another, unless one took its place.
            "moved_pixels": int(np.abs(predictions.confusion - np.array(known.confusion)).sum()) // 2,
        }
    )


def _slice(name: str, predictions: Predictions) -> SliceSample:
    attribute, _, value = name.partition("=")
    members = np.array([image.attributes.get(attribute) == value for image in predictions.images], bool)
    intervals = bootstrap(Margins(*(counts[members] for counts in predictions.margins)))
    return SliceSample(
        images=int(members.sum()), interval=intervals.metrics[MEAN_IOU.name] if intervals else None
    )
