"""The Report component."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.dataset.artifacts import HtmlReport, IngestionReportArtifact
from components.dataset.labels import LabelSet
from components.report.executor import (
    INGESTION_KEY,
    LABELS_KEY,
    RECIPE_KEY,
    REPORT_KEY,
    Executor,
)
from components.report.lineage import lineage
from components.run_parameters import DATA_PATH, EPOCHS, LEARNING_RATE, MIN_MEAN_IOU, settings_of_any_run
from components.token_driver import InputArtifacts, TokenDriver


class Driver(TokenDriver):
    """What was gathered holds as long as the code and the libraries that the page names are the same."""

    PROPERTY = "origin"

    def token(self, inputs: InputArtifacts, exec_properties: Mapping[str, Any]) -> str:
        # Seeds and model are known to the cache: they are a parameter and an input.
        return lineage({}).model_dump_json()


class ReportSpec(ComponentSpec):
    """Inputs, outputs and parameters of `Report`."""

    INPUTS: ClassVar = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        INGESTION_KEY: ChannelParameter(type=IngestionReportArtifact),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "infra_blessing": ChannelParameter(type=standard_artifacts.InfraBlessing),
        "pushed_model": ChannelParameter(type=standard_artifacts.PushedModel),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS: ClassVar = {REPORT_KEY: ChannelParameter(type=HtmlReport)}
    PARAMETERS: ClassVar = {
        RECIPE_KEY: ExecutionParameter(type=str),
        LABELS_KEY: ExecutionParameter(type=str),
        DATA_PATH: ExecutionParameter(type=str),
        EPOCHS: ExecutionParameter(type=int),
        LEARNING_RATE: ExecutionParameter(type=float),
        MIN_MEAN_IOU: ExecutionParameter(type=float),
    }


class Report(base_component.BaseComponent):
    """Puts all that people want to know of a run on one page, whether the model was pushed or refused.

    The model is asked and the pictures are drawn only where inputs, settings, code or libraries are others. A
    page tells of one run nevertheless: on this machine each run writes its own of what the stage has left.

    Its output ``report`` is an ``HtmlReport``.

    Args:
        examples: all splits are looked at.
        ingestion: the rejected files.
        model: the candidate, asked once more for the masks of the test split.
        model_run: the record of its training.
        evaluation: the gate's verdict and all metrics.
        infra_blessing: the ServingCheck's verdict.
        pushed_model: whether it was pushed.
        baseline_model: what it was compared with.
        recipe: what was run.
        labels: names and colours of the classes.
        data_path: of this run, as what follows; the recipe's own are not read.
        epochs: of this run.
        learning_rate: of this run.
        min_mean_iou: of this run.
    """

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        ingestion: types.BaseChannel,
        model: types.BaseChannel,
        model_run: types.BaseChannel,
        evaluation: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        pushed_model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        recipe: Mapping[str, Any],
        labels: LabelSet,
        data_path: str | RuntimeParameter,
        epochs: int | RuntimeParameter,
        learning_rate: float | RuntimeParameter,
        min_mean_iou: float | RuntimeParameter,
    ) -> None:
        spec = ReportSpec(
            examples=examples,
            ingestion=ingestion,
            model=model,
            model_run=model_run,
            evaluation=evaluation,
            infra_blessing=infra_blessing,
            pushed_model=pushed_model,
            baseline_model=baseline_model,
            recipe=settings_of_any_run(recipe),
            labels=labels.model_dump_json(),
            data_path=data_path,
            epochs=epochs,
            learning_rate=learning_rate,
            min_mean_iou=min_mean_iou,
            report=types.Channel(type=HtmlReport),
        )
        super().__init__(spec=spec)
