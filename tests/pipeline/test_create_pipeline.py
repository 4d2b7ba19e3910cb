"""The graph of components: who waits for whom."""

from pathlib import Path
from typing import Any

import pytest

import components.serving
import pipeline.create_pipeline as create_pipeline_module
from pipeline.config import load_recipe
from pipeline.create_pipeline import create_pipeline
from pipeline.local.stages import stages_of


def stages(directory: Path, *overrides: str) -> list[Any]:
    recipe = load_recipe("shapes", overrides=overrides)
    pipeline = create_pipeline(
        recipe,
        recipe.run_parameters(str(directory / "serving")),
        pipeline_name="shapes",
        pipeline_root=str(directory / "artifacts"),
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
    assert {"Evaluator", "Baseline", "ServingCheck"} <= upstream["Pusher"]
    assert {"Evaluator", "Trainer", "ImageMaskExampleGen"} <= upstream["ServingCheck"]
    assert "Baseline" in upstream["Evaluator"]


@pytest.mark.parametrize(
    "stage",
    [
        *("ImageMaskExampleGen", "ExampleValidator", "Transform", "Trainer"),
        *("Baseline", "Evaluator", "ServingCheck"),
    ],
)
def test_other_code_of_a_stage_is_no_cached_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def node() -> Any:
        return next(each._node for each in stages(tmp_path) if each.name == stage)

    before = node()
    assert node() == before
    monkeypatch.setattr(create_pipeline_module, "source_fingerprint", lambda *packages: "other code")
    assert node() != before


def test_who_does_the_work_is_no_part_of_what_the_cache_compares(tmp_path: Path) -> None:
    one, two = (stages(tmp_path, f"beam.workers={workers}") for workers in (1, 2))
    for left, right in zip(one, two, strict=True):
        # The Report shows the whole recipe.
        assert left._node == right._node or left.name == "Report"
        assert left._deployment == right._deployment


@pytest.mark.parametrize(
    ("key", "values", "governed"),
    [
        ("transform.channels", ("[1, 2, 3, 4]", "[4, 3, 2, 1]"), "ImageMaskExampleGen Transform Trainer"),
        ("training.epochs", (10, 11), "Trainer"),
        ("training.learning_rate", (0.1, 0.2), "Trainer"),
        ("evaluation.min_mean_iou", (0.1, 0.9), "Evaluator"),
        ("serving.max_latency_ms", (10.0, 20.0), "ServingCheck"),
        ("serving.check_examples", (1, 2), "ServingCheck"),
        ("serving.keep_versions", (1, 2), "Pusher"),
        ("serving.signing_key", ("null", "key.pem"), "Pusher"),
        ("serving.max_pixels", (50_000_000, 60_000_000), "Trainer"),
    ],
)
def test_a_setting_changes_the_stage_that_it_governs_and_no_other(
    tmp_path: Path, key: str, values: tuple[Any, Any], governed: str
) -> None:
    one, other = (stages(tmp_path, f"{key}={value}") for value in values)
    changed = {left.name for left, right in zip(one, other, strict=True) if left._node != right._node}
    assert changed == {*governed.split(), "Report"}
    rows = Path("docs/how-it-works.md").read_text(encoding="utf-8").splitlines()
    for stage in governed.split():
        [row] = [row for row in rows if row.startswith(f"| {stage} | ")]
        assert f"`{key}`" in row or f"`{key.partition('.')[0]}`" in row


def test_other_limits_of_the_served_model_leave_the_training_as_it_is(tmp_path: Path) -> None:
    one, other = (
        next(stage for stage in stages(tmp_path, f"serving.max_batch_size={size}") if stage.name == "Trainer")
        for size in (32, 64)
    )
    one, other = (stage._node.parameters.parameters for stage in (one, other))
    assert one["settings"] == other["settings"]
    assert one["limits"] != other["limits"]


def test_other_code_that_serves_is_checked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stages(tmp_path)
    fingerprint = create_pipeline_module.source_fingerprint
    monkeypatch.setattr(
        create_pipeline_module,
        "source_fingerprint",
        lambda *packages: fingerprint(*packages) + "x" * (components.serving in packages),
    )
    changed = {
        left.name for left, right in zip(before, stages(tmp_path), strict=True) if left._node != right._node
    }
    assert changed == {"ServingCheck"}
