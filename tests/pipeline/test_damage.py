"""What a run makes of files that are not what earlier runs wrote."""

import errno
import gzip
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
import tensorflow as tf
from tfx.orchestration.portable import launcher as tfx_launcher
from tfx.types import Artifact, standard_artifacts
from toy_run import Run, runs_here, summary_of
from toy_stages import SHARD

import components
import models
from components import fingerprint
from components.errors import StageError
from components.report import lineage
from pipeline.local.launcher import CHECKSUMS, Launcher, checksums, damaged_record, difference
from pipeline.local.running_code import RunningCode
from pipeline.local.workdir import WorkDir, WorkDirError

run = pytest.fixture(runs_here)


def turn_a_bit(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x10
    path.write_bytes(content)


def cached(workdir: Path) -> dict[str, bool]:
    return {stage["name"]: stage["cached"] for stage in summary_of(workdir)["stages"]}


def published(kind: type[Artifact], root: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(root)
    artifact.set_string_custom_property(CHECKSUMS, json.dumps(checksums(artifact)))
    return artifact


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: turn_a_bit(root / "saved_model.pb"), "saved_model.pb has changed since it was written"),
        (lambda root: (root / "variables" / "data").unlink(), "variables/data is gone"),
        (lambda root: (root / "variables" / "more").touch(), "variables/more was not written by this stage"),
    ],
)
def test_an_artifact_that_is_not_what_was_published_is_found_out(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(bytes(9))
    (tmp_path / "saved_model.pb").write_bytes(b"a graph")
    model = published(standard_artifacts.Model, tmp_path)
    # What a program that shows folders leaves.
    (tmp_path / ".DS_Store").touch()
    assert difference(model) == ""
    damage(tmp_path)
    assert difference(model) == f"{tmp_path}/{said}"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_of_examples_the_sizes_are_compared_and_records_have_checksums_of_their_own(
    tmp_path: Path, suffix: str
) -> None:
    shard = tmp_path / "Split-train" / f"data_tfrecord-00000-of-00001{suffix}"
    shard.parent.mkdir()
    with tf.io.TFRecordWriter(str(shard), "GZIP" if suffix else "") as writer:
        for number in range(9):
            writer.write(bytes([number]) * 100)
    whole = shard.read_bytes()
    examples = published(standard_artifacts.Examples, tmp_path)
    assert (difference(examples), damaged_record(examples)) == ("", "")
    turn_a_bit(shard)
    assert difference(examples) == ""
    assert damaged_record(examples).startswith(f"{shard} has a record that cannot be read: ")
    # Eight whole records, which TensorFlow reads as if that were all.
    shard.write_bytes(gzip.compress(gzip.decompress(whole)[: 8 * 116]) if suffix else whole[: 8 * 116])
    assert damaged_record(examples) == ""
    assert difference(examples) == f"{shard} has changed since it was written"


def test_a_damaged_artifact_is_not_reused_but_made_anew(run: Run, tmp_path: Path) -> None:
    # Three earlier runs, of which the cache asks one after the other.
    for _ in range(3):
        run(tmp_path)
    [count] = (tmp_path / "artifacts" / "Numbers" / "numbers").glob("*/count")
    right = count.read_text()
    count.write_text(f"{right}0")
    rerun = run(tmp_path)
    assert rerun.code == 0
    assert f"WARNING  {count} has changed since it was written: this stage runs again" in rerun.out
    assert rerun.out.count("WARNING") == 1
    assert cached(tmp_path) == {"Numbers": False, "Worker": False, "Pusher": False}
    newest = max(
        (tmp_path / "artifacts" / "Worker" / "model").glob("*/count"), key=lambda path: int(path.parent.name)
    )
    assert newest.read_text() == right
    assert "WARNING" not in run(tmp_path).out
    assert all(cached(tmp_path).values())


def test_a_work_directory_that_was_moved_takes_nothing_from_what_is_now_in_its_old_place(
    run: Run, tmp_path: Path
) -> None:
    """Artifacts' places are absolute, and of Examples equal sizes are enough."""
    first, moved = tmp_path / "first", tmp_path / "moved"
    run(first)
    shutil.copytree(first, moved)
    rerun = run(moved)
    assert rerun.code == 0
    assert f"WARNING  {first}/artifacts/Numbers/numbers/1 is not in this work directory" in rerun.out
    assert cached(moved) == {"Numbers": False, "Worker": False, "Pusher": False}
    (tmp_path / "link").symlink_to(moved)
    assert "WARNING" not in run(tmp_path / "link").out
    assert all(cached(moved).values())


@pytest.mark.parametrize("left_behind", ["nothing", "artifacts", "what may not be looked at"])
def test_a_work_directory_that_was_moved_says_why_its_stages_run_again(
    run: Run, tmp_path: Path, left_behind: str, forbid: Callable[[str], None]
) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    run(first)
    if left_behind == "what may not be looked at":
        shutil.copytree(first, moved)
        forbid(str(first))
    elif left_behind == "artifacts":
        shutil.copytree(first, moved, ignore=shutil.ignore_patterns("artifacts"))
    else:
        first.rename(moved)
    rerun = run(moved)
    assert rerun.code == 0
    assert f"WARNING  {first}/artifacts/Numbers/numbers/1 is not in this work directory" in rerun.out
    run(moved)
    assert all(cached(moved).values())


def test_what_was_made_after_an_edit_of_the_code_under_a_run_is_not_reused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache's key is of the code that the run began with."""
    source, package = tmp_path / "code/stage.py", ModuleType("code")
    source.parent.mkdir()
    source.write_text("x = 1")
    package.__path__ = [str(source.parent)]
    monkeypatch.setattr(lineage, "CODE", (package,))
    monkeypatch.setenv("TOY_SOURCE", str(source))
    workdir = tmp_path / "work"
    edited = run(workdir, trouble="edited")
    assert edited.code == 0
    said = "has changed since this run began: no later run reuses what its stages make from now on"
    assert said in edited.out and edited.out.count("WARNING") == 1
    source.write_text("x = 1")
    again = run(workdir)
    assert cached(workdir) == {"Numbers": True, "Worker": False, "Pusher": False}
    assert "was made after the code had changed under its run: this stage runs again" in again.out
    assert "WARNING" not in run(workdir).out
    assert all(cached(workdir).values())


@pytest.mark.parametrize("package", [components, models])
def test_an_edit_of_either_package_is_another_code(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with = RunningCode()
    assert begun_with.is_as_it_was()
    (tmp_path / "added.py").write_text("x = 1")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert not begun_with.is_as_it_was()


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("version", PackageNotFoundError("keras")),
        ("_files", FileNotFoundError(2, "No such file or directory")),
    ],
)
def test_code_that_is_gone_while_it_is_replaced_is_other_code(
    asked: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between pip's removal and installation of a library, or as a checkout goes through the files."""
    begun_with = RunningCode()
    with monkeypatch.context() as replaced:
        replaced.setattr(fingerprint, asked, Mock(side_effect=error))
        assert not begun_with.is_as_it_was() and not begun_with.is_as_it_was()
    [said] = caplog.messages
    assert "has changed since this run began" in said
    assert begun_with.is_as_it_was()


def test_a_stage_that_fails_over_a_damaged_record_says_so_and_the_rerun_makes_it_anew(
    run: Run,
    tmp_path: Path,
) -> None:
    assert run(tmp_path, trouble="reads").code == 0
    [shard] = (tmp_path / "artifacts").glob(f"Records/examples/*/Split-train/{SHARD}")
    turn_a_bit(shard)
    failed = run(tmp_path, "--set", "training.epochs=7", trouble="reads")
    assert failed.code == 1 and "[1/4] Records … cached" in failed.out
    [reason] = summary_of(tmp_path)["reasons"]
    assert reason.startswith(f"Reader failed: {shard} has a record that cannot be read: ")
    assert reason.endswith("; run the same command again: it is made anew")
    rerun = run(tmp_path, "--set", "training.epochs=7", trouble="reads")
    assert rerun.code == 0
    assert not any(cached(tmp_path).values())


def failing_over(
    failure: Exception, examples: Artifact, monkeypatch: pytest.MonkeyPatch
) -> tuple[Exception, list[Artifact]]:
    """Runs a stage that fails; returns what is raised in the end, and the artifacts withdrawn."""

    def fail(*_: object) -> None:
        raise failure

    withdrawn: list[Artifact] = []
    monkeypatch.setattr(tfx_launcher.Launcher, "_run_executor", fail)
    stage = Launcher.__new__(Launcher)
    monkeypatch.setattr(stage, "_withdraw", withdrawn.append)
    with pytest.raises(Exception, match=r".") as raised:
        stage._run_executor(SimpleNamespace(output_dict={}, input_dict={"examples": [examples]}))
    return raised.value, withdrawn


@pytest.fixture
def damaged(tmp_path: Path) -> Artifact:
    """Examples with a shard of which a bit has turned."""
    shard = tmp_path / "Split-train" / SHARD
    shard.parent.mkdir()
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(bytes(100))
    examples = published(standard_artifacts.Examples, tmp_path)
    turn_a_bit(shard)
    return examples


def test_a_record_is_looked_for_where_a_failure_speaks_of_one(
    damaged: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "components.cache")
    of_beam = RuntimeError("ValueError: Not a valid TFRecord. Mismatch of data mask [while running 'Read']")
    for failure in (of_beam, tf.errors.DataLossError(None, None, "corrupted record at 0")):
        raised, withdrawn = failing_over(failure, damaged, monkeypatch)
        assert isinstance(raised, StageError) and "has a record that cannot be read" in str(raised)
        assert withdrawn == [damaged]
    assert caplog.messages == 2 * [f"a record cannot be read: looking for it in {damaged.uri}"]


def test_a_failure_of_the_machine_is_shown_and_looks_at_no_artifact(
    damaged: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "components.cache")
    full = OSError(errno.ENOSPC, "No space left on device")
    assert failing_over(full, damaged, monkeypatch) == (full, [])
    away = OSError(errno.ESTALE, "Stale file handle")
    shutil.rmtree(damaged.uri)
    assert failing_over(away, damaged, monkeypatch) == (away, [])
    assert caplog.messages == []


def test_examples_that_cannot_be_read_now_are_not_withdrawn(
    damaged: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = tf.errors.DataLossError(None, None, "truncated record at 0")

    def refuse(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(tf.data, "TFRecordDataset", refuse)
        assert failing_over(lost, damaged, monkeypatch) == (lost, [])
    shutil.rmtree(damaged.uri)
    assert failing_over(lost, damaged, monkeypatch) == (lost, [])


def test_files_of_an_execution_that_nobody_knows_of_are_not_mixed_with_new_ones(
    run: Run,
    tmp_path: Path,
) -> None:
    run(tmp_path)
    (tmp_path / "metadata.sqlite").unlink()
    [count] = (tmp_path / "artifacts" / "Numbers" / "numbers").glob("*/count")
    (count.parent / "more").touch()
    assert run(tmp_path).code == 0
    assert [path.name for path in count.parent.iterdir()] == ["count"]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with some rows, and text in them."""
    path = tmp_path_factory.mktemp("metadata") / "metadata.sqlite"
    with closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE Artifact (id INTEGER PRIMARY KEY, uri TEXT)")
        store.executemany("INSERT INTO Artifact (uri) VALUES (?)", [(f"runs/{n}/" * 20,) for n in range(99)])
        store.commit()
    return path


@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.99])
def test_metadata_of_which_a_bit_has_turned_is_refused_until_it_is_gone(
    tmp_path: Path, metadata: Path, place: float
) -> None:
    workdir = WorkDir(tmp_path)
    workdir.metadata.write_bytes(metadata.read_bytes())
    for _ in range(2):
        with workdir.sound_metadata():
            pass
    turn_a_bit(workdir.metadata, place)
    for _ in range(2):
        with pytest.raises(WorkDirError, match=r"sqlite is damaged: .*; put a copy of it back and remove "):
            workdir.sound_metadata().__enter__()
    workdir.metadata.unlink()
    with workdir.sound_metadata():
        workdir.metadata.write_bytes(metadata.read_bytes())
    with workdir.sound_metadata():
        pass


@pytest.mark.parametrize("damaged_at", [None, 0.01, 0.99])
def test_an_older_copy_of_the_metadata_is_taken_where_the_advice_is_followed(
    tmp_path: Path, metadata: Path, damaged_at: float | None
) -> None:
    workdir, older = WorkDir(tmp_path), metadata.read_bytes()
    workdir.metadata.write_bytes(older)
    with workdir.sound_metadata(), closing(sqlite3.connect(workdir.metadata)) as store:
        store.execute("DELETE FROM Artifact WHERE id < 50")
        store.commit()
    if damaged_at is None:
        workdir.metadata.write_bytes(older)
    else:
        turn_a_bit(workdir.metadata, damaged_at)
    with pytest.raises(WorkDirError) as refused:
        workdir.sound_metadata().__enter__()
    [note] = re.findall(r"put a copy of it back and remove (\S+), without which", str(refused.value))
    workdir.metadata.write_bytes(older)
    Path(note).unlink()
    for _ in range(2):
        with workdir.sound_metadata():
            assert workdir.metadata.read_bytes() == older
    # It is compared again from then on.
    turn_a_bit(workdir.metadata, 0.99)
    with pytest.raises(WorkDirError, match="damaged"):
        workdir.sound_metadata().__enter__()


def test_metadata_after_a_run_that_died_are_looked_through_by_sqlite(tmp_path: Path, metadata: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.metadata.write_bytes(metadata.read_bytes())
    with workdir.sound_metadata():
        pass
    dying = workdir.sound_metadata()
    dying.__enter__()
    with closing(sqlite3.connect(workdir.metadata)) as store:
        store.execute("DELETE FROM Artifact WHERE id < 50")
        store.commit()
    del dying
    with workdir.sound_metadata():
        pass
    workdir.metadata.write_bytes(metadata.read_bytes()[:5000])
    with pytest.raises(WorkDirError, match="damaged"):
        workdir.sound_metadata().__enter__()


def test_a_damaged_store_of_metadata_ends_the_command_with_2(run: Run, tmp_path: Path) -> None:
    run(tmp_path)
    turn_a_bit(tmp_path / "metadata.sqlite")
    refused = run(tmp_path)
    assert refused.code == 2 and refused.out == ""
    assert refused.err.count("\n") == 1 and "metadata.sqlite is damaged: " in refused.err
