"""What the backend asks of a package, and that each one of the rules is needed to have it."""

from collections.abc import Callable, Iterable

import pytest
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from spec_rules import violations
from tfx.orchestration.pipeline import Pipeline
from toy_pipelines import awkward_pipeline, conditional_pipeline, pushing_pipeline

from pipeline.config import load_recipe
from pipeline.kubeflow.spec import compile as compile_module
from pipeline.kubeflow.spec.compatibility import RULES, Rule, Target
from pipeline.kubeflow.spec.compile import COMMAND, compile_for_vertex, compile_pipeline
from pipeline.kubeflow_config import KubeflowConfig

IMAGE = f"segmentation@sha256:{64 * '1'}"


def target_of(config: KubeflowConfig) -> Target:
    return Target(IMAGE, COMMAND, "s3://bucket/root", {}, config)


def with_rules(compiled: tuple[PipelineSpec, Target], rules: Iterable[Rule]) -> PipelineSpec:
    spec = PipelineSpec()
    spec.CopyFrom(compiled[0])
    for rule in rules:
        rule(spec, compiled[1])
    return spec


@pytest.fixture(scope="module")
def compiled() -> list[tuple[PipelineSpec, Target]]:
    """The project's pipeline and the awkward one, as TFX has compiled them."""
    seen: list[tuple[PipelineSpec, Target]] = []

    def remember(spec: PipelineSpec, target: Target) -> None:
        seen.append((spec, target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "make_compatible", remember)
        recipe = load_recipe("pets_unet", "/data/pets", runs_here=False)
        compile_pipeline(recipe, image=IMAGE, pipeline_root="s3://bucket/root")
    seen.append((compile_for_vertex(awkward_pipeline(), IMAGE), target_of(KubeflowConfig())))
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


def test_references_follow_renamed_stages(compiled: list[tuple[PipelineSpec, Target]]) -> None:
    spec = with_rules(compiled[1], RULES)
    assert set(spec.root.dag.tasks) == {"CsvExampleGen", "count-files-v1", "say-count"}
    say = spec.root.dag.tasks["say-count"]
    assert list(say.dependent_tasks) == ["count-files-v1"]
    assert say.inputs.parameters["count"].task_output_parameter.producer_task == "count-files-v1"


def test_stages_whose_names_would_be_the_same_are_refused(
    compiled: list[tuple[PipelineSpec, Target]],
) -> None:
    spec = with_rules(compiled[1], ())
    spec.root.dag.tasks["say-count"].CopyFrom(spec.root.dag.tasks["say_count"])
    with pytest.raises(ValueError, match="punctuation"):
        with_rules((spec, compiled[1][1]), RULES)


def compatible(pipeline: Callable[[], Pipeline]) -> PipelineSpec:
    target = target_of(KubeflowConfig())
    return with_rules((compile_for_vertex(pipeline(), IMAGE), target), RULES)


def test_the_verdict_is_what_tfx_makes_of_a_condition() -> None:
    ours = compatible(pushing_pipeline).root.dag.tasks["model-pushed"]
    tfx_own = compile_for_vertex(conditional_pipeline(), IMAGE).root.dag.tasks["SayThatItWasPushed"]
    [(key, artifact)] = tfx_own.inputs.artifacts.items()
    assert ours.trigger_policy.condition == tfx_own.trigger_policy.condition.replace(key, "pushed_model")
    assert ours.inputs.artifacts["pushed_model"] == artifact
    assert ours.dependent_tasks == tfx_own.dependent_tasks


def test_a_pipeline_that_pushes_nothing_has_no_verdict() -> None:
    assert "model-pushed" not in compatible(awkward_pipeline).root.dag.tasks
