"""Baseline and Pusher in TFX's own runner: what is run again, and what is taken from the cache."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from candidates import write_candidate
from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.baseline.component import Baseline
from components.model_store import store
from components.pusher.component import Pusher
from components.pusher.executor import Executor


@component
def FakeTrainer(
    content: Parameter[str],
    model: OutputArtifact[standard_artifacts.Model],
) -> None:
    write_candidate(Path(model.uri) / "Format-Serving", content)


@component
def FakeEvaluator(
    model: InputArtifact[standard_artifacts.Model],
    baseline_model: InputArtifact[standard_artifacts.Model],
    blessed: Parameter[int],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
) -> None:
    blessing.set_int_custom_property("blessed", blessed)


@component
def FakeServingCheck(
    model: InputArtifact[standard_artifacts.Model],
    serves: Parameter[int],
    infra_blessing: OutputArtifact[standard_artifacts.InfraBlessing],
) -> None:
    infra_blessing.set_int_custom_property("blessed", serves)


class Workplace:
    """A pipeline of three fakes, Baseline and Pusher, in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.serving_dir = root / "serving"
        self._metadata = sqlite_metadata_connection_config(str(root / "metadata.sqlite"))

    def run(
        self, content: str, *, blessed: bool = True, serves: bool = True, keep_versions: int = 3
    ) -> dict[str, str]:
        """Runs the pipeline; returns how each stage went, ``COMPLETE`` or ``CACHED``."""
        known = self._executions().keys()
        trainer = FakeTrainer(content=content)
        baseline = Baseline(
            model=trainer.outputs["model"], serving_dir=str(self.serving_dir), code_fingerprint=""
        )
        evaluator = FakeEvaluator(
            model=trainer.outputs["model"],
            baseline_model=baseline.outputs["baseline_model"],
            blessed=int(blessed),
        )
        check = FakeServingCheck(model=trainer.outputs["model"], serves=int(serves))
        pusher = Pusher(
            model=trainer.outputs["model"],
            model_blessing=evaluator.outputs["blessing"],
            infra_blessing=check.outputs["infra_blessing"],
            baseline_model=baseline.outputs["baseline_model"],
            serving_dir=str(self.serving_dir),
            keep_versions=keep_versions,
        )
        LocalDagRunner().run(
            Pipeline(
                pipeline_name="cycle",
                pipeline_root=str(self.root / "artifacts"),
                components=[trainer, baseline, evaluator, check, pusher],
                enable_cache=True,
                metadata_connection_config=self._metadata,
            )
        )
        return dict(value for key, value in self._executions().items() if key not in known)

    def newest(self, node: str) -> standard_artifacts.Artifact:
        """Output of the node's newest execution, fresh or cached."""
        with metadata.Metadata(self._metadata) as handle:
            executions = [run for run in handle.store.get_executions() if _node(handle.store, run) == node]
            latest = max(executions, key=lambda execution: execution.id)
            events = handle.store.get_events_by_execution_ids([latest.id])
            outputs = [event.artifact_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
            (artifact,) = handle.store.get_artifacts_by_id(outputs)
        return artifact

    def _executions(self) -> dict[int, tuple[str, str]]:
        states = metadata_store_pb2.Execution.State
        try:
            with metadata.Metadata(self._metadata) as handle:
                return {
                    execution.id: (_node(handle.store, execution), states.Name(execution.last_known_state))
                    for execution in handle.store.get_executions()
                }
        except errors.NotFoundError:
            return {}


def _node(mlmd: metadata.Metadata, execution: metadata_store_pb2.Execution) -> str:
    (node,) = [
        context.name for context in mlmd.get_contexts_by_execution(execution.id) if context.type == "node"
    ]
    return node.removeprefix("cycle.")


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


STAGES = ("FakeTrainer", "Baseline", "FakeEvaluator", "FakeServingCheck", "Pusher")
ALL_CACHED = dict.fromkeys(STAGES, "CACHED")


def test_a_rerun_with_nothing_changed_reuses_every_stage_and_pushes_nothing(workplace: Workplace) -> None:
    first = workplace.run("one")
    assert first == dict.fromkeys(ALL_CACHED, "COMPLETE")
    pushed = store.newest(workplace.serving_dir)
    assert pushed
    assert workplace.newest("Pusher").custom_properties["pushed_version"].string_value == str(pushed.number)
    assert workplace.run("one") == ALL_CACHED
    assert workplace.run("one") == ALL_CACHED
    assert store.versions(workplace.serving_dir) == [pushed.number]


def test_after_a_second_model_too_a_rerun_reuses_every_stage(workplace: Workplace) -> None:
    workplace.run("one")
    (first,) = store.versions(workplace.serving_dir)
    assert workplace.run("two", keep_versions=1)["Baseline"] == "COMPLETE"
    assert workplace.newest("Baseline").custom_properties["version"].string_value == str(first)
    assert workplace.run("two", keep_versions=1) == ALL_CACHED
    (second,) = store.versions(workplace.serving_dir)
    assert second > first


def test_a_version_deleted_behind_our_back_is_pushed_again(workplace: Workplace) -> None:
    workplace.run("one")
    workplace.run("two")
    first, second = store.versions(workplace.serving_dir)
    store.shutil.rmtree(workplace.serving_dir / str(second))
    assert workplace.run("two") == ALL_CACHED | {"Pusher": "COMPLETE"}
    assert store.versions(workplace.serving_dir)[0] == first
    assert len(store.versions(workplace.serving_dir)) == 2
    store.shutil.rmtree(workplace.serving_dir)
    # With nothing left to compare with, what was said of the comparison does not hold any more.
    compared_anew = {"Baseline": "COMPLETE", "FakeEvaluator": "COMPLETE", "Pusher": "COMPLETE"}
    assert workplace.run("two") == ALL_CACHED | compared_anew
    assert len(store.versions(workplace.serving_dir)) == 1


@pytest.mark.parametrize("verdicts", [{"blessed": False}, {"serves": False}])
def test_a_refusal_changes_nothing_and_is_reused(workplace: Workplace, verdicts: dict[str, bool]) -> None:
    workplace.run("one")
    entries = sorted(workplace.serving_dir.rglob("*"))
    assert workplace.run("two", **verdicts)["Pusher"] == "COMPLETE"
    assert workplace.newest("Pusher").custom_properties["pushed"].int_value == 0
    assert workplace.run("two", **verdicts) == ALL_CACHED
    assert sorted(workplace.serving_dir.rglob("*")) == entries


def test_a_refused_model_is_compared_again_once_another_one_is_served(workplace: Workplace) -> None:
    workplace.run("one")
    workplace.run("two", blessed=False)
    workplace.run("three")
    again = workplace.run("two", blessed=False)
    assert again["Baseline"] == again["FakeEvaluator"] == "COMPLETE"
    newest = store.newest(workplace.serving_dir)
    assert newest
    assert workplace.newest("Baseline").custom_properties["version"].string_value == str(newest.number)


def test_going_back_to_an_earlier_model_pushes_it_as_the_newest(workplace: Workplace) -> None:
    for content in ("one", "two", "one"):
        workplace.run(content)
    first, _, third = store.versions(workplace.serving_dir)
    paths = [workplace.serving_dir / str(number) for number in (first, third)]
    assert store.content_fingerprint(paths[0]) == store.content_fingerprint(paths[1])
    assert workplace.run("one") == ALL_CACHED


def test_a_run_killed_right_after_the_push_does_not_push_twice(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Executor, "_MarkPushed", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            workplace.run("one")
    (pushed,) = store.versions(workplace.serving_dir)
    assert workplace.run("one") == ALL_CACHED | {"Pusher": "COMPLETE"}
    assert store.versions(workplace.serving_dir) == [pushed]
    assert workplace.newest("Pusher").custom_properties["pushed_version"].string_value == str(pushed)
    assert workplace.run("one") == ALL_CACHED
