"""Pipelines that push, with TFX's own condition and without: what `add_verdict` is held to."""

from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

NAME = "toy"


@component
def PushSomething(pushed_model: OutputArtifact[standard_artifacts.PushedModel]) -> None:
    pushed_model.set_int_custom_property("pushed", 1)


@component
def SayThatItWasPushed() -> None:
    print("pushed")


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
