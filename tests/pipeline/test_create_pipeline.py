"""The graph of components: who waits for whom."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_recipe
from pipeline.create_pipeline import create_pipeline
from pipeline.local_runner import stages_of


def stages(directory: Path, *overrides: str) -> list[Any]:
    pipeline = create_pipeline(
        load_recipe("shapes", overrides=overrides),
        pipeline_name="shapes",
        pipeline_root=str(directory / "artifacts"),
        serving_dir=str(directory / "serving"),
        metadata_path=str(directory / "metadata.sqlite"),
        checkpoint_dir=str(directory / "checkpoints"),
    )
    return stages_of(pipeline, "run")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """For each stage, all those that must be done before it, directly or not."""
    found: dict[str, set[str]] = {}
    for stage in stages(tmp_path_factory.mktemp("pipeline")):
        direct = set(stage._node.upstream_nodes)
        found[stage.name] = direct.union(*(found[name] for name in direct))
    return found


@pytest.mark.parametrize("stage", ["Transform", "Trainer", "Evaluator", "Pusher"])
def test_nothing_is_learnt_from_examples_before_they_are_validated(
    upstream: dict[str, set[str]], stage: str
) -> None:
    assert "ExampleValidator" in upstream[stage]


def test_the_gate_knows_the_baseline_and_comes_before_the_push(
    upstream: dict[str, set[str]],
) -> None:
    assert {"Evaluator", "Baseline"} <= upstream["Pusher"]
    assert "Baseline" in upstream["Evaluator"]


def test_who_does_the_work_is_no_part_of_what_the_cache_compares(tmp_path: Path) -> None:
    one, two = (stages(tmp_path, f"beam.workers={workers}") for workers in (1, 2))
    for left, right in zip(one, two, strict=True):
        assert left._node == right._node
        assert left._deployment == right._deployment


def test_a_threshold_changes_the_gate_and_no_training(tmp_path: Path) -> None:
    low, high = (stages(tmp_path, f"evaluation.min_mean_iou={value}") for value in (0.1, 0.9))
    changed = {left.name for left, right in zip(low, high, strict=True) if left._node != right._node}
    assert changed == {"Evaluator"}
