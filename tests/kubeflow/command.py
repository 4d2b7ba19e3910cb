"""``python -m pipeline.run_kubeflow`` in the test's own process, against a fake backend."""

import faulthandler
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import fake_kfp
import kfp
import pytest
from fake_kfp import FakeKfp, Step
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from pipeline.config import Recipe
from pipeline.kubeflow.client import transport, waiting
from pipeline.kubeflow.spec.package import Package
from pipeline.run_kubeflow import main

STAGES = ("ImageMaskExampleGen", "Trainer", "Evaluator", "Pusher", "model-pushed")
PIPELINE = [
    "--recipe",
    "pets_unet",
    "--data",
    "/data/pets",
    "--image",
    "seg:1",
    "--pipeline-root",
    "s3://b/root",
]
PUSHED = Step("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))
REFUSED = Step("SUCCEEDED", {**PUSHED.tasks, "model-pushed": "SKIPPED"})


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def fake_backend() -> Iterator[FakeKfp]:
    """A backend that answers."""
    with fake_kfp.running() as backend:
        yield backend


@pytest.fixture
def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """The command, with a stand-in for the compiler, no configuration of kfp's, and short waits."""
    forget_configuration(monkeypatch, tmp_path)
    Compiler().install(monkeypatch)
    monkeypatch.setattr(waiting, "PACE", waiting.Pace(shortest=0.01, longest=0.05, patience=0.5))
    # On a busy machine even a fake that answers at once takes its time.
    monkeypatch.setattr(transport, "TIMEOUT", (10.0, 10.0))

    def run(*args: str | Path) -> Finished:
        capfd.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as exit_:
            code = int(str(exit_.code))
        return Finished(code, *capfd.readouterr())

    yield run
    faulthandler.enable(2)


def forget_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides what this machine's user has set up for kfp and kubectl."""
    for name in ("ENDPOINT", "UI_ENDPOINT", "SA_TOKEN_PATH", "IAP_OAUTH2_CLIENT_ID"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))


def submission(fake: FakeKfp, *more: str | Path) -> list[str | Path]:
    return ["submit", *PIPELINE, "--host", fake.host, *more]


class Compiler:
    """Stands in for ``pipeline.kubeflow.spec.compile``, which imports TFX, and remembers what it was asked.

    Compiles a pipeline of a few tasks.
    """

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
