"""A compiled pipeline of a few tasks, where the real one would take the import of TFX."""

import sys
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from pipeline.config import Recipe
from pipeline.kubeflow.spec.package import Package

STAGES = ("ImageMaskExampleGen", "Trainer", "Evaluator", "Pusher", "model-pushed")


class Compiler:
    """Stands in for ``pipeline.kubeflow.spec.compile`` and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def compile_pipeline(self, recipe: Recipe, *, image: str, pipeline_root: str) -> Package:
        self.calls.append({"recipe": recipe, "image": image, "pipeline_root": pipeline_root})
        parameters = {
            "data_path": _parameter("STRING", recipe.dataset.root or ""),
            "epochs": _parameter("NUMBER_INTEGER", recipe.training.epochs),
            "learning_rate": _parameter("NUMBER_DOUBLE", recipe.training.learning_rate),
            "min_mean_iou": _parameter("NUMBER_DOUBLE", recipe.evaluation.min_mean_iou),
            "serving_dir": _parameter("STRING", f"{recipe.kubeflow.serving_root}/pets"),
        }
        tasks = {name: {"taskInfo": {"name": name}, "componentRef": {"name": "comp"}} for name in STAGES}
        spec = {
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": recipe.name.lower().replace("_", "-")},
            "root": {"inputDefinitions": {"parameters": parameters}, "dag": {"tasks": tasks}},
            "components": {"comp": {"executorLabel": "exec"}},
            "deploymentSpec": {"executors": {"exec": {"container": {"image": image}}}},
        }
        return Package(
            json_format.ParseDict(spec, PipelineSpec()),
            json_format.ParseDict({"platforms": {"kubernetes": {}}}, PlatformSpec()),
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("pipeline.kubeflow.spec.compile")
        vars(module)["compile_pipeline"] = self.compile_pipeline
        monkeypatch.setitem(sys.modules, module.__name__, module)


def _parameter(kind: str, default: Any) -> dict[str, Any]:
    return {"parameterType": kind, "defaultValue": default}
