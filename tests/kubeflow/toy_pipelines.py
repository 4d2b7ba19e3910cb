"""Pipelines with what the project's own does not have, but TFX's compiler gets wrong for this backend too."""

from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.dsl.component.experimental.annotations import OutputArtifact, OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

NAME = "toy"


@component
def CountFiles() -> OutputDict(count=int):  # type: ignore[valid-type]
    return {"count": 1}


@component
def SayCount(count: Parameter[int]) -> None:
    print(count)


@component
def PushSomething(pushed_model: OutputArtifact[standard_artifacts.PushedModel]) -> None:
    pushed_model.set_int_custom_property("pushed", 1)


@component
def SayThatItWasPushed() -> None:
    print("pushed")


def awkward_pipeline() -> Pipeline:
    """A file-based ExampleGen, a parameter that another stage computes, and ids with underscores and dots."""
    count = CountFiles().with_id("count_files.v1")
    say = SayCount(count=count.outputs["count"].future()[0].value).with_id("say_count")
    return _pipeline(CsvExampleGen(input_base="/data"), count, say)


def conditional_pipeline() -> Pipeline:
    """TFX's own way to have a stage run only if a model was pushed."""
    push = PushSomething()
    pushed = push.outputs["pushed_model"]
    with Cond(pushed.future()[0].custom_property("pushed") == 1):
        say = SayThatItWasPushed()
    return _pipeline(push, say)


def pushing_pipeline() -> Pipeline:
    """A push, and nothing after it."""
    return _pipeline(PushSomething())


def _pipeline(*components: object) -> Pipeline:
    return Pipeline(
        pipeline_name=NAME, pipeline_root="s3://bucket/toy", components=list(components), enable_cache=True
    )
