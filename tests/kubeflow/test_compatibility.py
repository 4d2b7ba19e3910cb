"""What the backend asks of a package, and that each one of the rules is needed to have it."""

from collections.abc import Iterable

import pytest
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from spec_rules import violations
from toy_pipelines import conditional_pipeline, pushing_pipeline

from pipeline.config import load_recipe
from pipeline.kubeflow.spec import compile as compile_module
from pipeline.kubeflow.spec.compatibility import RULES, Rule, Target, make_compatible
from pipeline.kubeflow.spec.compile import COMMAND, compile_for_vertex, compile_pipeline
from pipeline.kubeflow_config import KubeflowConfig

IMAGE = f"segmentation@sha256:{64 * '1'}"


def with_rules(compiled: tuple[PipelineSpec, Target], rules: Iterable[Rule]) -> PipelineSpec:
    spec = PipelineSpec()
    spec.CopyFrom(compiled[0])
    for rule in rules:
        rule(spec, compiled[1])
    return spec


@pytest.fixture(scope="module")
def compiled() -> list[tuple[PipelineSpec, Target]]:
    """The pipeline with its dataset on a claim and in a bucket, as TFX has compiled it."""
    seen: list[tuple[PipelineSpec, Target]] = []

    def remember(spec: PipelineSpec, target: Target) -> None:
        before = PipelineSpec()
        before.CopyFrom(spec)
        seen.append((before, target))
        make_compatible(spec, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "make_compatible", remember)
        # Only the one in a bucket needs `restrict_caching`: no key tells what the launcher will copy.
        for data in ("/data/pets", "s3://bucket/pets"):
            recipe = load_recipe("pets_unet", data, runs_here=False)
            compile_pipeline(recipe, image=IMAGE, pipeline_root="s3://bucket/root")
    return seen


def test_all_rules_together_give_what_the_backend_asks(compiled: list[tuple[PipelineSpec, Target]]) -> None:
    for case in compiled:
        assert violations(with_rules(case, RULES), case[1].config) == []


@pytest.mark.parametrize("left_out", RULES, ids=lambda rule: rule.__name__)
def test_without_any_one_of_them_something_is_missing(
    compiled: list[tuple[PipelineSpec, Target]], left_out: Rule
) -> None:
    others = [rule for rule in RULES if rule is not left_out]
    broken = [
        problem for case in compiled for problem in violations(with_rules(case, others), case[1].config)
    ]
    assert broken


def test_the_verdict_is_what_tfx_makes_of_a_condition() -> None:
    pushing = compile_for_vertex(pushing_pipeline(), IMAGE)
    target = Target(IMAGE, COMMAND, "s3://bucket/root", {}, KubeflowConfig())
    ours = with_rules((pushing, target), RULES).root.dag.tasks["model-pushed"]
    tfx_own = compile_for_vertex(conditional_pipeline(), IMAGE).root.dag.tasks["SayThatItWasPushed"]
    [(key, artifact)] = tfx_own.inputs.artifacts.items()
    assert ours.trigger_policy.condition == tfx_own.trigger_policy.condition.replace(key, "pushed_model")
    assert ours.inputs.artifacts["pushed_model"] == artifact
    assert ours.dependent_tasks == tfx_own.dependent_tasks
