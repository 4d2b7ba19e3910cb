"""When an earlier verdict may answer for the serving check."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.types import standard_artifacts

from components.dataset.contracts import SERVING_CHECK_FILE
from components.serving.backends import BINARY
from components.serving_check.driver import Driver


class Checks:
    """A metadata store with the checks of one model."""

    def __init__(self, handle: Metadata) -> None:
        self._handle = handle
        self.model = standard_artifacts.Model()
        self._put("Trainer", {}, {"model": [self.model]})

    def _put(self, stage: str, inputs: dict[str, list], outputs: dict[str, list]) -> None:
        execution = execution_lib.prepare_execution(
            self._handle,
            metadata_store_pb2.ExecutionType(name=stage),
            metadata_store_pb2.Execution.COMPLETE,
        )
        execution_lib.put_execution(
            self._handle, execution, [], input_artifacts=inputs, output_artifacts=outputs
        )

    def add(self, verdict: standard_artifacts.InfraBlessing) -> None:
        self._put("ServingCheck", {"model": [self.model]}, {"infra_blessing": [verdict]})

    def token(self, *, approved: bool = True) -> str:
        approval = standard_artifacts.ModelBlessing()
        approval.set_int_custom_property("blessed", int(approved))
        inputs = {"model": [self.model], "model_blessing": [approval]}
        return Driver(self._handle).token(inputs, {})


@pytest.fixture
def checks(tmp_path: Path) -> Iterator[Checks]:
    with Metadata(sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))) as handle:
        yield Checks(handle)


Verdict = Callable[..., standard_artifacts.InfraBlessing]


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    def verdict(*, blessed: bool, checked: bool = True) -> standard_artifacts.InfraBlessing:
        artifact = standard_artifacts.InfraBlessing()
        artifact.uri = tempfile.mkdtemp(dir=tmp_path)
        artifact.set_int_custom_property("blessed", int(blessed))
        if checked:
            Path(artifact.uri, SERVING_CHECK_FILE).touch()
        return artifact

    return verdict


def test_a_model_found_fit_is_not_checked_again(checks: Checks, verdict: Verdict) -> None:
    before = checks.token()
    checks.add(verdict(blessed=True))
    assert checks.token() == before


def test_a_refused_model_is_checked_until_it_is_found_fit(checks: Checks, verdict: Verdict) -> None:
    tokens = [checks.token()]
    for _ in range(2):
        checks.add(verdict(blessed=False))
        tokens.append(checks.token())
    assert len(set(tokens)) == 3
    checks.add(verdict(blessed=True))
    assert checks.token() == tokens[-1]


def test_another_models_refusal_does_not_count(checks: Checks, verdict: Verdict) -> None:
    before = checks.token()
    other = Checks(checks._handle)
    other.add(verdict(blessed=False))
    assert checks.token() == before


def test_a_verdict_taken_from_the_cache_counts_once(checks: Checks, verdict: Verdict) -> None:
    refusal = verdict(blessed=False)
    checks.add(refusal)
    before = checks.token()
    checks.add(refusal)
    assert checks.token() == before


def test_a_model_that_was_not_approved_is_refused_from_the_cache(checks: Checks, verdict: Verdict) -> None:
    before = checks.token(approved=False)
    approved = checks.token()
    checks.add(verdict(blessed=False, checked=False))
    assert checks.token(approved=False) == before != approved
    # That says nothing of how it serves.
    assert checks.token() == approved


def test_another_server_on_the_path_checks_anew(
    checks: Checks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checks.token()
    binary = tmp_path / BINARY
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.token() != before
