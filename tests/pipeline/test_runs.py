"""The command that lists, shows and deletes runs; none of it needs TensorFlow."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.runs import main

OLD, NEW = "20260101-080000-000001", "20260102-080000-000001"


class Finished(NamedTuple):
    code: int
    out: str
    err: str


class Runs:
    """Runs the command in a directory of its own."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]):
        self.root = root
        self._capsys = capsys

    def __call__(self, *args: str) -> Finished:
        self._capsys.readouterr()
        code = main(args)
        return Finished(code, *self._capsys.readouterr())

    def add(self, run_id: str, workdir: str = "runs/shapes", **changes: Any) -> Path:
        """Leaves behind what a run leaves; returns its folder in the history."""
        root = self.root / workdir
        folder = root / "history" / run_id
        folder.mkdir(parents=True)
        summary = summary_of(run_id, root, **changes)
        report = root / "report" / "index.html"
        for directory, page in ((folder, folder / "index.html"), (root, report)):
            page.parent.mkdir(exist_ok=True)
            page.write_text(run_id)
            page.with_name("splits.csv").write_text(run_id)
            text = json.dumps({**summary, "report": str(page)}, ensure_ascii=False)
            (directory / "summary.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        (root / "logs").mkdir(exist_ok=True)
        (root / "logs" / f"{run_id}.log").touch()
        return folder


def summary_of(run_id: str, root: Path, **changes: Any) -> dict[str, Any]:
    metrics = {
        "examples": 9,
        "mean_iou": 0.9123,
        "mean_dice": 0.95,
        "pixel_accuracy": 0.99,
        "iou": {"disc": None},
    }
    return {
        "recipe": "shapes",
        "run_id": run_id,
        "started_at": "2026-01-02T08:00:00+01:00",
        "finished_at": "2026-01-02T08:03:05+01:00",
        "seconds": 185.2,
        "outcome": "pushed",
        "reasons": [],
        "model_name": "shapes",
        "pushed_version": 7,
        "serving_dir": str(root / "serving" / "shapes"),
        "metrics": metrics,
        "slices": {},
        "baseline": {"version": 6, "metrics": metrics, "obstacle": None},
        "serving_check": None,
        "stages": [{"name": "Trainer", "seconds": 61.0, "cached": False, "memory_mb": 1845.2}],
        **changes,
    }


@pytest.fixture
def runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.chdir(tmp_path)
    return Runs(tmp_path, capsys)


def test_all_work_directories_are_listed_the_newest_run_first(runs: Runs) -> None:
    runs.add(OLD)
    runs.add(NEW, outcome="rejected", pushed_version=None, reasons=["mean IoU is too low"])
    runs.add(
        OLD, "runs/street", outcome="failed", metrics=None, pushed_version=None, reasons=["interrupted in X"]
    )
    (runs.root / "runs" / "other").mkdir()
    lines = [line.split() for line in runs().out.splitlines()]
    assert lines == [
        ["runs/shapes"],
        ["RUN", "STARTED", "RECIPE", "VERDICT", "VERSION", "MEAN", "IOU", "TOOK"],
        [NEW, "2026-01-02", "08:00", "shapes", "rejected", "-", "0.912", "3", "min", "05", "s"],
        [OLD, "2026-01-02", "08:00", "shapes", "pushed", "7", "0.912", "3", "min", "05", "s"],
        [],
        ["runs/street"],
        ["RUN", "STARTED", "RECIPE", "VERDICT", "VERSION", "MEAN", "IOU", "TOOK"],
        [OLD, "2026-01-02", "08:00", "shapes", "interrupted", "-", "-", "3", "min", "05", "s"],
    ]


def test_a_clock_that_was_put_back_makes_no_run_older(runs: Runs) -> None:
    runs.add(NEW, started_at="2026-10-25T02:59:00+02:00")
    runs.add(OLD, started_at="2026-10-25T02:01:00+01:00")
    listed = [json.loads(line)["run_id"] for line in runs("--json").out.splitlines()]
    assert listed == [OLD, NEW]


def test_one_work_directory_may_be_named_before_and_after_the_command(runs: Runs) -> None:
    runs.add(OLD)
    runs.add(OLD, "runs/street")
    assert runs("show", OLD).code == 2
    assert "say which with --workdir" in runs("show", OLD).err
    assert runs("show", OLD, "--workdir", "runs/street").code == 0
    assert runs("--workdir", "runs/street", "show", OLD).code == 0


def test_json_lists_an_object_a_run(runs: Runs) -> None:
    runs.add(OLD)
    [entry] = [json.loads(line) for line in runs("--json").out.splitlines()]
    assert entry == {
        "workdir": str(runs.root / "runs" / "shapes"),
        "run_id": OLD,
        "started_at": "2026-01-02T08:00:00+01:00",
        "finished_at": "2026-01-02T08:03:05+01:00",
        "seconds": 185.2,
        "recipe": "shapes",
        "verdict": "pushed",
        "pushed_version": 7,
        "mean_iou": 0.9123,
    }


def test_show_has_verdict_metrics_stages_and_places_and_says_what_is_gone(runs: Runs) -> None:
    folder = runs.add(OLD)
    out = runs("show", OLD).out
    assert f"Run {OLD} of recipe shapes, work directory runs/shapes\nPushed as version 7\n" in out
    assert "  mean IoU 0.912, mean Dice 0.950, pixel accuracy 0.990" in out
    assert "  version 6, served before this run: mean IoU 0.912" in out
    assert "  IoU of disc  not measurable" in out
    assert ["Trainer", "1", "min", "01", "s", "1845", "MB"] in [line.split() for line in out.splitlines()]
    assert "Model:   runs/shapes/serving/shapes/7 (no longer there)" in out
    assert f"Report:  {folder.relative_to(runs.root)}/index.html\n" in out
    assert f"Log:     runs/shapes/logs/{OLD}.log\n" in out


def test_show_finds_model_and_report_in_a_work_directory_that_was_moved(runs: Runs) -> None:
    runs.add(OLD)
    Path("runs/shapes/serving/shapes/7").mkdir(parents=True)
    Path("runs/shapes").rename("runs/moved")
    out = runs("show", OLD).out
    assert "Model:   runs/moved/serving/shapes/7\n" in out
    assert f"Report:  runs/moved/history/{OLD}/index.html\n" in out
    # Of earlier versions, which kept the newest run alone.
    shutil.rmtree("runs/moved/history")
    assert "Report:  runs/moved/report/index.html\n" in runs("show", OLD).out
    Path("runs/moved/report/index.html").unlink()
    assert "Report:  runs/shapes/report/index.html (no longer there)\n" in runs("show", OLD).out


def test_a_folder_that_may_not_be_looked_into_hides_no_other(
    runs: Runs, forbid: Callable[[str], None]
) -> None:
    runs.add(OLD)
    Path("runs/lost+found").mkdir()
    forbid("lost+found/")
    listed = runs()
    assert (listed.code, listed.err) == (0, "")
    assert OLD in listed.out and "lost+found" not in listed.out


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        ("runs", 2, "runs: Permission denied"),
        ("runs/shapes/history", 0, "runs/shapes/history is left out: it cannot be read: Permission denied"),
    ],
)
def test_a_folder_that_may_not_be_read_does_not_count_as_empty(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, closed: str, code: int, said: str
) -> None:
    runs.add(OLD)
    (runs.root / "runs" / "shapes" / "summary.json").unlink(missing_ok=True)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        # Not by permissions, which do not hold for the superuser.
        if os.path.realpath(path) == os.path.realpath(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listed = runs()
    assert (listed.code, listed.err) == (code, f"{said}\n")
    assert "There are no runs" not in listed.out
    assert runs("show", OLD).code == 2


def test_show_as_json_is_the_summary_and_its_places(runs: Runs) -> None:
    folder = runs.add(OLD)
    shown = json.loads(runs("show", OLD, "--json").out)
    assert shown["summary"] == json.loads((folder / "summary.json").read_text())
    assert shown["log"] == str(runs.root / "runs" / "shapes" / "logs" / f"{OLD}.log")


def test_an_unknown_run_is_answered_with_the_nearest(runs: Runs) -> None:
    assert runs("show", OLD).err == f"there is no run {OLD}; there are no runs at all\n"
    runs.add(OLD)
    finished = runs("show", OLD[:-1])
    assert (finished.code, finished.out) == (2, "")
    assert finished.err == f"there is no run {OLD[:-1]}; did you mean {OLD}?\n"


def test_a_work_directory_that_is_not_there_is_a_mistake(runs: Runs) -> None:
    finished = runs("--workdir", "nowhere")
    assert (finished.code, finished.out) == (2, "")
    assert "there is no work directory nowhere" in finished.err
    assert runs().code == 0


def test_delete_removes_what_only_the_run_has(runs: Runs) -> None:
    root = runs.add(OLD).parents[1]
    folder = runs.add(NEW)
    kept = root / "artifacts" / "Trainer"
    kept.mkdir(parents=True)
    finished = runs("delete", OLD, "--yes")
    assert (finished.code, finished.err) == (0, "")
    assert not (root / "history" / OLD).exists() and not (root / "logs" / f"{OLD}.log").exists()
    assert folder.exists() and kept.exists() and (root / "logs" / f"{NEW}.log").exists()
    assert json.loads((root / "summary.json").read_text())["run_id"] == NEW
    assert NEW in runs().out and OLD not in runs().out


def test_where_the_newest_run_is_deleted_the_one_before_is_the_newest(runs: Runs) -> None:
    root = runs.add(OLD).parents[1]
    runs.add(NEW)
    runs("delete", NEW, "--yes")
    assert json.loads((root / "summary.json").read_text())["run_id"] == OLD
    assert [path.read_text() for path in (root / "report").iterdir()] == [OLD, OLD]
    runs("delete", OLD, "--yes")
    assert not (root / "summary.json").exists() and not list((root / "report").iterdir())
    assert "  no runs" in runs().out


def test_what_is_no_summary_never_becomes_the_newest_one(runs: Runs) -> None:
    root = runs.add(OLD).parents[1]
    runs.add(NEW)
    (root / "history" / "zzz").mkdir()
    (root / "history" / "zzz" / "summary.json").write_text("{}")
    runs("delete", NEW, "--yes")
    assert json.loads((root / "summary.json").read_text())["run_id"] == OLD


def test_of_a_link_in_the_history_only_the_link_is_deleted(runs: Runs, tmp_path: Path) -> None:
    folder = runs.add(OLD)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    finished = runs("delete", OLD, "--yes")
    assert (finished.code, finished.err) == (0, "")
    assert not folder.is_symlink() and (elsewhere / "summary.json").exists()


def test_nothing_is_deleted_unless_someone_says_yes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.add(OLD)
    finished = runs("delete", OLD)
    assert finished.code == 2
    assert f"say --yes to delete {OLD}" in finished.err
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        assert runs("delete", OLD) == finished
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer in ("", "n"):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: answer)
        assert runs("delete", OLD).out == "Nothing was deleted.\n"

    def end_of_file(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end_of_file)
    assert runs("delete", OLD) == (0, "\nNothing was deleted.\n", "")
    assert folder.exists()
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    assert "Deleted runs/shapes/history" in runs("delete", OLD).out
    assert not folder.exists()


def test_a_disk_that_cannot_lock_is_one_line(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.add(OLD)

    def no_locks(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    finished = runs("delete", OLD, "--yes")
    assert finished.code == 2 and folder.exists()
    assert finished.err.count("\n") == 1 and "cannot be locked: No locks available" in finished.err


def test_nothing_is_deleted_where_a_run_is_at_work(runs: Runs) -> None:
    folder = runs.add(OLD)
    with (folder.parents[1] / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = runs("delete", OLD, "--yes")
    assert finished.code == 2
    assert "is at work in" in finished.err
    assert folder.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON in line 1"),
        ("[]", "the whole: input should be a valid dictionary"),
        ('{"recipe": 1}', "run_id: field required"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_is_no_summary_is_left_out_with_a_line(runs: Runs, text: str | bytes, why: str) -> None:
    folder = runs.add(OLD)
    broken = folder.parent / "broken"
    broken.mkdir()
    (broken / "summary.json").write_bytes(text.encode() if isinstance(text, str) else text)
    finished = runs()
    assert finished.code == 0
    assert OLD in finished.out
    [line] = finished.err.splitlines()
    assert line.startswith("runs/shapes/history/broken/summary.json is left out") and why in line


def test_a_run_id_that_leads_out_of_the_history_is_no_summary(runs: Runs) -> None:
    folder = runs.add(OLD)
    path = folder / "summary.json"
    path.write_text(path.read_text().replace(OLD, "../../serving"))
    finished = runs("delete", "../../serving", "--yes")
    assert finished.code == 2
    assert "run_id" in finished.err


def test_a_run_that_an_earlier_version_left_is_listed_and_can_be_deleted(runs: Runs) -> None:
    root = runs.root / "runs" / "shapes"
    root.mkdir(parents=True)
    summary = summary_of(OLD, root)
    for key in ("started_at", "finished_at", "seconds"):
        del summary[key]
    summary["stages"] = [{"name": "Trainer", "seconds": 61.0, "cached": False}]
    (root / "summary.json").write_text(json.dumps(summary))
    assert [OLD, "-", "shapes", "pushed", "7", "0.912", "1", "min", "01", "s"] in [
        line.split() for line in runs().out.splitlines()
    ]
    assert runs("show", OLD).code == 0
    assert runs("delete", OLD, "--yes").code == 0
    assert not (root / "summary.json").exists()


def test_a_file_name_that_is_not_utf8_is_shown_as_far_as_it_can_be(runs: Runs) -> None:
    runs.add(OLD, outcome="failed", reasons=["Two files are named caf\udce9.jpg"])
    assert "caf\\udce9.jpg" in runs("show", OLD).out


def test_help_and_listing_import_nothing_heavy_and_head_is_no_error(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.runs import main; main(['--workdir', sys.argv[1]]);"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'numpy', 'PIL', 'scipy'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    result = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "bash", sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
