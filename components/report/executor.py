"""Gathers what a run left behind, and writes its page."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.dataset.features import SPLITS
from components.dataset.labels import LabelSet
from components.evaluation.results import load_evaluation
from components.model_store.store import VERSION_PROPERTY, content_fingerprint
from components.report.census import take_census
from components.report.collect import made_from, read_dataset, read_serving_check, read_training
from components.report.data import Baseline, ReportData, Run, Verdict
from components.report.gallery import gallery
from components.report.lineage import lineage
from components.report.measured import Measured
from components.report.page import write_page
from components.report.predictions import predict_split

RECIPE_KEY: Final = "recipe"
LABELS_KEY: Final = "labels"
MIN_MEAN_IOU_KEY: Final = "min_mean_iou"
INGESTION_KEY: Final = "ingestion"
REPORT_KEY: Final = "report"

_TEST: Final = SPLITS[-1]

logger = logging.getLogger(__name__)

_Inputs = Mapping[str, list[types.Artifact]]


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
            exec_properties: ``recipe`` and ``labels`` as JSON, ``min_mean_iou`` of this run.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        data = _gather(input_dict, exec_properties)
        report = Path(artifact_utils.get_single_instance(output_dict[REPORT_KEY]).uri)
        data.save(report)
        page = write_page(data, report)
        logger.info("%d KB, %d pictures: %s", page.stat().st_size // 1000, len(data.gallery), page)


def _gather(inputs: _Inputs, exec_properties: Mapping[str, Any]) -> ReportData:
    labels = LabelSet.model_validate_json(exec_properties[LABELS_KEY])
    recipe: dict[str, Any] = json.loads(exec_properties[RECIPE_KEY])
    model_dir = Path(path_utils.serving_model_path(_one(inputs, "model").uri))
    # What was replaced for this run alone: the model knows how it was trained.
    recipe["training"] = made_from(model_dir).get("training", recipe["training"])
    recipe["evaluation"]["min_mean_iou"] = exec_properties[MIN_MEAN_IOU_KEY]
    examples = _one(inputs, "examples")
    split_dirs = {
        split: Path(artifact_utils.get_split_uri([examples], split))
        for split in artifact_utils.decode_split_names(examples.split_names)
    }
    census = take_census(split_dirs, labels.num_classes)
    predictions = predict_split(model_dir, split_dirs[_TEST], labels.num_classes)
    baseline = _baseline(_one(inputs, "baseline_model"))
    evaluation = load_evaluation(
        _one(inputs, "evaluation").uri, str(baseline.version) if baseline and not baseline.obstacle else ""
    )
    measured = Measured(evaluation, baseline, predictions, labels)
    serving_check = read_serving_check(_uri(inputs, "infra_blessing"))
    return ReportData(
        run=Run(
            recipe=recipe["name"],
            description=recipe["description"],
            model_name=recipe["serving"]["model_name"],
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        verdict=_verdict(
            _one(inputs, "pushed_model"),
            [*evaluation.reasons, *(serving_check.reasons if serving_check else ())],
        ),
        classes=measured.classes(),
        evaluation=measured.evaluation(),
        training=read_training(_uri(inputs, "model_run")),
        gallery=gallery(split_dirs[_TEST], predictions, labels),
        dataset=read_dataset(_uri(inputs, INGESTION_KEY), census),
        serving_check=serving_check,
        recipe=recipe,
        lineage=lineage(recipe, content_fingerprint(model_dir)),
    )


def _verdict(pushed_model: types.Artifact, refusals: list[str]) -> Verdict:
    if not pushed_model.get_int_custom_property("pushed"):
        return Verdict(outcome="rejected", reasons=tuple(refusals))
    return Verdict(
        outcome="pushed",
        version=int(pushed_model.get_string_custom_property("pushed_version")),
        pushed_now=not pushed_model.get_int_custom_property("already_served"),
        serving_dir=str(Path(pushed_model.get_string_custom_property("pushed_destination")).parent),
    )


def _baseline(artifact: types.Artifact) -> Baseline | None:
    """What the candidate was, or could not be, compared with."""
    compared = artifact.get_string_custom_property(VERSION_PROPERTY)
    incomparable = artifact.get_string_custom_property("incomparable_version")
    if not compared and not incomparable:
        return None
    return Baseline(
        version=int(compared or incomparable),
        obstacle=artifact.get_string_custom_property("obstacle") if incomparable else "",
    )


def _one(inputs: _Inputs, key: str) -> types.Artifact:
    return artifact_utils.get_single_instance(list(inputs[key]))


def _uri(inputs: _Inputs, key: str) -> Path:
    return Path(_one(inputs, key).uri)
