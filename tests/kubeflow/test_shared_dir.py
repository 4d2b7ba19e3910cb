"""What a stage lends to other machines: where it lies, what comes back, and that nothing stays."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

from components.errors import StageError
from pipeline.kubeflow.shared_dir import end_loans, lend_artifacts

SECONDS = 3600


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    # JSON spells it in another way.
    return tmp_path / "claim ü" / "shared"


@pytest.fixture
def given(tmp_path: Path) -> ExecutorInput:
    """As a stage gets it that reads a model, a page and a folder named by a property as well."""
    pod = tmp_path / "pod"
    for path, text in {"model/saved/graph": "graph", "page.html": "page", "pets/a.png": "a"}.items():
        (pod / "s3" / path).parent.mkdir(parents=True, exist_ok=True)
        (pod / "s3" / path).write_text(text)
    return _task(pod, "run-1")


def _task(pod: Path, run: str) -> ExecutorInput:
    inputs = {key: {"artifacts": [{"uri": f"{pod}/s3/{key}"}]} for key in ("model", "page.html", "pets")}
    content = {
        "inputs": {
            "artifacts": {**inputs, "empty": {"artifacts": [{"uri": f"{pod}/s3/empty"}]}},
            "parameterValues": {"root": f"{pod}/s3/pets", "other": "/data/pets", "epochs": 2},
        },
        "outputs": {
            "artifacts": {"out": {"artifacts": [{"uri": f"{pod}/s3/{run}/out"}]}},
            "outputFile": f"{pod}/kfp/output_metadata.json",
        },
    }
    return json_format.ParseDict(content, ExecutorInput())


def _uri(of: ExecutorInput, key: str) -> Path:
    artifacts = of.outputs.artifacts if key == "out" else of.inputs.artifacts
    return Path(artifacts[key].artifacts[0].uri)


def test_the_stage_reads_and_writes_below_the_shared_folder_alone(given: ExecutorInput, shared: Path) -> None:
    before = ExecutorInput()
    before.CopyFrom(given)
    with lend_artifacts(given, str(shared), SECONDS) as lent:
        assert (_uri(lent, "model") / "saved/graph").read_text() == "graph"
        assert _uri(lent, "page.html").read_text() == "page"
        assert not _uri(lent, "empty").exists()
        assert _uri(lent, "out").is_dir()
        parameters = lent.inputs.parameter_values
        assert parameters["root"].string_value == str(_uri(lent, "pets"))
        assert (parameters["other"].string_value, parameters["epochs"].number_value) == ("/data/pets", 2)
        paths = re.findall(r'"(/[^"]*)"', json.dumps(json_format.MessageToDict(lent), ensure_ascii=False))
        assert len(paths) == 8
        assert {path for path in paths if not Path(path).is_relative_to(shared)} == {"/data/pets"}
        assert Path(tempfile.gettempdir()).is_relative_to(shared)
        Path(lent.outputs.output_file).write_text("{}")
    assert given == before


def test_what_the_stage_has_put_out_comes_back_under_the_pods_own_paths(
    given: ExecutorInput, shared: Path
) -> None:
    temporary = tempfile.gettempdir()
    with lend_artifacts(given, str(shared), SECONDS) as lent:
        out = _uri(lent, "out")
        (out / "Split-train").mkdir()
        (out / "Split-train/data").write_bytes(b"\0records")
        answer = {"artifacts": {"out": {"artifacts": [{"uri": str(out)}]}}, "model": str(_uri(lent, "model"))}
        Path(lent.outputs.output_file).write_text(json.dumps(answer))
    assert (_uri(given, "out") / "Split-train/data").read_bytes() == b"\0records"
    answer = json.loads(Path(given.outputs.output_file).read_text())
    assert answer["artifacts"]["out"]["artifacts"][0]["uri"] == str(_uri(given, "out"))
    assert answer["model"] == str(_uri(given, "model"))
    assert list(shared.iterdir()) == []
    assert tempfile.gettempdir() == temporary


def test_of_a_failed_stage_nothing_is_taken_and_nothing_stays(given: ExecutorInput, shared: Path) -> None:
    def stage() -> None:
        with lend_artifacts(given, str(shared), SECONDS) as lent:
            (_uri(lent, "out") / "half").touch()
            raise StageError("no masks")

    with pytest.raises(StageError, match="no masks"):
        stage()
    assert list(shared.iterdir()) == []
    assert not _uri(given, "out").exists() and not Path(given.outputs.output_file).exists()


def test_two_runs_of_a_stage_do_not_meet(given: ExecutorInput, shared: Path, tmp_path: Path) -> None:
    other = _task(tmp_path / "pod", "run-2")
    with (
        lend_artifacts(given, str(shared), SECONDS) as first,
        lend_artifacts(other, str(shared), SECONDS) as second,
    ):
        assert _uri(first, "model").exists() and _uri(second, "model").exists()
        assert _uri(first, "model") != _uri(second, "model")
        for lent in (first, second):
            Path(lent.outputs.output_file).write_text("{}")


_KILLED = """
import os, sys, time
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput
from pipeline import interrupt
from pipeline.kubeflow import shared_dir

interrupt.leave_when_asked(shared_dir.remove_lent)
given = json_format.Parse(sys.argv[1], ExecutorInput())
with shared_dir.lend_artifacts(given, sys.argv[2], int(sys.argv[3])):
    print("lent", flush=True)
    time.sleep(600)
"""


def _killed(given: ExecutorInput, shared: Path, seconds: int, by: signal.Signals) -> int:
    arguments = [json_format.MessageToJson(given), str(shared), str(seconds)]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pod:
        assert pod.stdout is not None and pod.stdout.readline() == "lent\n"
        assert pod.stderr is not None
        # As where the launcher, which is sent the signal as well, ends before it.
        pod.stdout.close()
        pod.stderr.close()
        pod.send_signal(by)
        return pod.wait(60)


def test_a_stage_that_is_asked_to_end_takes_its_folder_along(given: ExecutorInput, shared: Path) -> None:
    assert _killed(given, shared, SECONDS, signal.SIGTERM) == 143
    assert list(shared.iterdir()) == []


def test_a_loan_that_has_ended_may_be_removed_by_the_next_stage(given: ExecutorInput, shared: Path) -> None:
    def cancelled() -> None:
        with lend_artifacts(given, str(shared), SECONDS) as lent:
            end_loans()
            assert not _uri(lent, "model").exists()
            [left] = shared.iterdir()
            with lend_artifacts(_task(shared.parent / "pod", "run-2"), str(shared), SECONDS) as other:
                assert not left.exists()
                Path(other.outputs.output_file).write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert list(shared.iterdir()) == []


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    given: ExecutorInput, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def stale(path: Any) -> Any:
        if str(path).endswith("saved"):
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(StageError, match="Stale file handle"), lend_artifacts(given, str(shared), SECONDS):
        pass


def test_what_a_killed_pod_left_goes_with_the_next_attempt_or_when_its_time_is_over(
    given: ExecutorInput, shared: Path, tmp_path: Path
) -> None:
    pods = tmp_path / "pod"
    assert _killed(given, shared, SECONDS, signal.SIGKILL) == -signal.SIGKILL
    assert _killed(_task(pods, "run-2"), shared, SECONDS, signal.SIGKILL) == -signal.SIGKILL
    [same, running] = sorted(shared.iterdir(), key=os.path.getmtime)
    assert (same / str(_uri(given, "model"))[1:] / "saved/graph").exists()
    theirs = shared / "of-somebody-else"
    theirs.mkdir()
    over = shared / f"stage-{'0' * 16}-until-{int(time.time()) - 1}-abcd_123"
    over.mkdir()
    (over / "file").touch()
    with lend_artifacts(given, str(shared), SECONDS) as lent:
        Path(lent.outputs.output_file).write_text("{}")
    assert set(shared.iterdir()) == {running, theirs}


def test_a_folder_that_cannot_be_written_is_one_line(given: ExecutorInput, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StageError, match=r"^kubeflow\.shared_dir: nothing .* \(Not a directory\); the claim"),
        lend_artifacts(given, str(tmp_path / "file/shared"), SECONDS),
    ):
        pass
