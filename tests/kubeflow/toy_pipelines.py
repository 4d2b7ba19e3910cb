"""Pipelines with what the project's own does not have, but TFX's compiler gets wrong for this backend too."""

from tfx import v1 as tfx
from tfx.types import standard_artifacts

NAME = "toy"


@tfx.dsl.components.component
def CountFiles() -> tfx.dsl.components.OutputDict(count=int):  # type: ignore[valid-type]
    return {"count": 1}


@tfx.dsl.components.component
def SayCount(count: tfx.dsl.components.Parameter[int]) -> None:
    print(count)


@tfx.dsl.components.component
def PushSomething(pushed_model: tfx.dsl.components.OutputArtifact[standard_artifacts.PushedModel]) -> None:
    pushed_model.set_int_custom_property("pushed", 1)


@tfx.dsl.components.component
def SayThatItWasPushed() -> None:
    print("pushed")


def awkward_pipeline() -> tfx.dsl.Pipeline:
    """A file-based ExampleGen, a parameter that another stage computes, and ids with underscores and dots."""
    count = CountFiles().with_id("count_files.v1")
    say = SayCount(count=count.outputs["count"].future()[0].value).with_id("say_count")
    return _pipeline(tfx.components.CsvExampleGen(input_base="/data"), count, say)


def conditional_pipeline() -> tfx.dsl.Pipeline:
    """TFX's own way to have a stage run only if a model was pushed."""
    push = PushSomething()
    pushed = push.outputs["pushed_model"]
    with tfx.dsl.Cond(pushed.future()[0].custom_property("pushed") == 1):
        say = SayThatItWasPushed()
    return _pipeline(push, say)


def pushing_pipeline() -> tfx.dsl.Pipeline:
    """A push, and nothing after it."""
    return _pipeline(PushSomething())


def _pipeline(*components: object) -> tfx.dsl.Pipeline:
    return tfx.dsl.Pipeline(
        pipeline_name=NAME, pipeline_root="s3://bucket/toy", components=list(components), enable_cache=True
    )
