"""The command as a person meets it, with toy stages; signals and deaths with processes of their own."""

import errno
import fcntl
import json
import logging
import os
import pty
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from tiny_screen import Screen
from toy_run import Run, runs_here, summary_of
from warm_process import WarmProcess

from components.report.run_summary import RunSummary, summarize
from pipeline import run_local
from pipeline.local import run as run_module
from pipeline.local import stages
from pipeline.local.workdir import WorkDir, WorkDirError
from pipeline.run_local import main

_REPOSITORY = Path(__file__).resolve().parents[2]
_TOY = str(Path(__file__).with_name("toy_pipeline.py"))


run = pytest.fixture(runs_here)


def start(
    workdir: Path, *args: str, trouble: str = "", stdout: int | None = None, **environment: str
) -> WarmProcess:
    return WarmProcess(
        [_TOY, "--workdir", str(workdir), *args],
        environment={**os.environ, "TOY_TROUBLE": trouble, **environment},
        stdout=stdout,
    )


def wait_for(process: WarmProcess, line: str) -> None:
    """Reads the process's terminal up to a line."""
    assert process.stdout is not None
    seen = ""
    for text in process.stdout:
        seen += text
        if line in text:
            return
    pytest.fail(f"the run ended before {line!r}: {seen}")


def test_the_terminal_shows_stages_and_their_own_words_and_nothing_else(tmp_path: Path) -> None:
    process = start(tmp_path, "--set", "training.epochs=12")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == ""
    lines = out.splitlines()
    assert lines[:3] == [f"Recipe shapes, work directory {tmp_path}", "[1/3] Numbers …", "      12 numbers"]
    assert lines[3].endswith(" s")
    assert lines[4].startswith("[2/3] Worker … ")
    assert lines[5].startswith("[3/3] Pusher … ")
    assert f"Pushed version 7: {tmp_path}/serving/shapes/7" in lines

    log = (tmp_path / "logs" / f"{summary_of(tmp_path)['run_id']}.log").read_text(encoding="utf-8")
    assert "chatter on stdout" in log
    assert "chatter of a child process" in log
    assert "components.toy: 12 numbers" in log


def test_the_summary_says_what_was_pushed(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path).code == 0
    summary = summary_of(tmp_path)
    assert summary["recipe"] == "shapes"
    assert (summary["outcome"], summary["reasons"]) == ("pushed", [])
    assert (summary["model_name"], summary["pushed_version"]) == ("shapes", 7)
    assert summary["serving_dir"] == str(tmp_path / "serving" / "shapes")
    assert [(stage["name"], stage["cached"]) for stage in summary["stages"]] == [
        ("Numbers", False),
        ("Worker", False),
        ("Pusher", False),
    ]


def test_a_rerun_with_nothing_changed_is_all_cached_and_sums_up_the_same(run: Run, tmp_path: Path) -> None:
    run(tmp_path)
    before = summary_of(tmp_path)
    rerun = run(tmp_path)
    assert rerun.code == 0
    assert "[2/3] Worker … cached" in rerun.out
    assert "Nothing has changed, version 7 stays" in rerun.out
    after = summary_of(tmp_path)
    assert all(stage["cached"] for stage in after["stages"])
    assert (before["pushed_now"], after["pushed_now"]) == (True, False)
    clock = {"started_at", "finished_at", "seconds"}
    assert {key for key in before if before[key] != after[key]} - clock == {"run_id", "stages", "pushed_now"}


def test_a_changed_setting_runs_its_stage_and_those_after_it_anew(run: Run, tmp_path: Path) -> None:
    run(tmp_path, "--set", "training.epochs=4")
    run(tmp_path, "--set", "training.epochs=5")
    assert [stage["cached"] for stage in summary_of(tmp_path)["stages"]] == [False, False, False]


def test_a_model_that_the_pusher_found_served_is_not_said_to_be_pushed(run: Run, tmp_path: Path) -> None:
    finished = run(tmp_path, trouble="served")
    assert finished.code == 0
    assert "already served as version 7, nothing was copied" in finished.out
    assert "Pushed version" not in finished.out
    assert summary_of(tmp_path)["pushed_now"] is False


def test_a_failed_run_keeps_the_whole_list_of_rejected_files(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, trouble="unusable_dataset").code == 1
    summary = summary_of(tmp_path)
    assert summary["examples"] is None
    assert len(summary["rejected_files"]) == 30
    assert summary["rejected_files"][7] == {"file": "7.jpg", "reason": "empty file", "found": "0 bytes"}


def test_a_name_that_is_not_utf8_spoils_neither_terminal_nor_log_nor_summary(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest itself captures must be UTF-8 to travel between the processes that share the tests.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, type(caplog.handler)):
            monkeypatch.setattr(handler, "emit", lambda record: None)
    finished = run(tmp_path, trouble="strange_name")
    assert finished.code == 1
    assert "rejected caf\\udce9.jpg" in finished.out
    assert "Worker failed: Two files are named caf\\xe9.jpg; rename one" in finished.out.splitlines()
    summary = summary_of(tmp_path)
    assert summary["reasons"] == ["Worker failed: Two files are named caf\\xe9.jpg; rename one"]
    log = tmp_path / "logs" / f"{summary['run_id']}.log"
    assert "rejected caf\\udce9.jpg" in log.read_text(encoding="utf-8")
    assert "Logging error" not in log.read_text(encoding="utf-8")


def test_a_record_that_cannot_be_summed_up_ends_with_1_and_one_line_and_what_was_pushed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def garbled(artifacts: Mapping[str, Any], **known: Any) -> RunSummary:
        if "model" in artifacts:
            raise ValueError("the report is garbled")
        return summarize(artifacts, **known)

    monkeypatch.setattr(run_module, "summarize", garbled)
    finished = run(tmp_path)
    assert finished.code == 1
    lines = finished.out.splitlines()
    assert "Summing up failed: ValueError: the report is garbled" in lines
    assert f"Pushed version 7: {tmp_path}/serving/shapes/7" in lines
    assert "Traceback" not in finished.out + finished.err
    summary = summary_of(tmp_path)
    assert (summary["outcome"], summary["pushed_version"], summary["pushed_now"]) == ("failed", 7, True)
    assert [stage["name"] for stage in summary["stages"]] == ["Numbers", "Worker", "Pusher"]


@pytest.mark.parametrize(
    ("trouble", "code", "page"),
    [
        ("", 0, "pushed after Numbers, Worker, Pusher"),
        ("refused", 3, "rejected after Numbers, Worker, Pusher"),
        ("stage_error", 1, "failed after Numbers"),
    ],
)
def test_every_run_is_reported_and_kept(run: Run, tmp_path: Path, trouble: str, code: int, page: str) -> None:
    finished = run(tmp_path, trouble=trouble)
    assert finished.code == code
    newest, summary = tmp_path / "report" / "index.html", summary_of(tmp_path)
    assert f"Report:  {newest}" in finished.out.splitlines()
    assert newest.read_text() == page
    assert summary["report"] == str(newest)
    kept = tmp_path / "history" / summary["run_id"]
    assert summary_of(kept) == {**summary, "report": str(kept / "index.html")}


def test_the_summary_says_when_and_how_long_and_how_much_memory(run: Run, tmp_path: Path) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    run(tmp_path)
    first = summary_of(tmp_path)
    started, finished = (datetime.fromisoformat(first[key]) for key in ("started_at", "finished_at"))
    assert before <= started <= finished <= datetime.now().astimezone() + timedelta(seconds=1)
    assert sum(stage["seconds"] for stage in first["stages"]) <= first["seconds"] < 60
    if stages.forget_peak_memory():
        assert all(stage["memory_mb"] > 50 for stage in first["stages"])
    run(tmp_path)
    assert [stage["memory_mb"] for stage in summary_of(tmp_path)["stages"]] == [None, None, None]
    assert len(list((tmp_path / "history").iterdir())) == 2


@pytest.mark.parametrize(
    ("trouble", "code", "report", "obstacle"),
    [
        ("", 0, "fails", "the page has no ink"),
        ("stage_error", 1, "fails", "the page has no ink"),
        ("", 0, "interrupted", "interrupted while it was being written"),
    ],
)
def test_a_report_that_cannot_be_written_changes_nothing_else(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    code: int,
    report: str,
    obstacle: str,
) -> None:
    monkeypatch.setenv("TOY_REPORT", report)
    finished = run(tmp_path, trouble=trouble)
    assert finished.code == code
    assert f"No report: {obstacle}" in finished.out.splitlines()
    assert "Traceback" not in finished.out + finished.err
    assert summary_of(tmp_path)["report"] is None


@pytest.mark.parametrize(
    ("trouble", "obstacle"),
    [
        ("report_fails", "Report failed: the pictures are too large"),
        ("report_interrupted", "interrupted in Report"),
    ],
)
def test_a_pushed_model_stays_pushed_when_its_report_cannot_be_made(
    run: Run, tmp_path: Path, trouble: str, obstacle: str
) -> None:
    finished = run(tmp_path, trouble=trouble)
    assert finished.code == 0
    assert f"The report holds only what the summary says: {obstacle}" in finished.out.splitlines()
    assert "Pushed version 7" in finished.out
    assert "Traceback" not in finished.out + finished.err
    summary = summary_of(tmp_path)
    assert (summary["outcome"], summary["reasons"]) == ("pushed", [])
    page = Path(summary["report"]).read_text()
    assert page.startswith("pushed after Numbers, Worker, Pusher") and page.endswith(obstacle)


def test_quiet_shows_how_it_ends(tmp_path: Path) -> None:
    out, err = start(tmp_path, "--quiet", trouble="stage_error").communicate(timeout=120)
    assert err == ""
    assert out.splitlines()[0] == "Worker failed: the images are upside down; turn them round"


def test_json_is_events_alone_the_last_one_with_the_summary(tmp_path: Path) -> None:
    out, err = start(tmp_path, "--json", trouble="training").communicate(timeout=120)
    assert err == ""
    *events, last = [json.loads(line) for line in out.splitlines()]
    assert (last["event"], last["exit_code"], last["summary"]) == ("finished", 0, summary_of(tmp_path))
    assert Path(last["log"]).exists()
    assert [(event["event"], event["stage"], event.get("epoch"), event.get("step")) for event in events] == [
        ("stage_started", "Numbers", None, None),
        ("stage_finished", "Numbers", None, None),
        ("stage_started", "Worker", None, None),
        *(("progress", "Worker", epoch, step) for epoch, step in ((1, 1), (1, 10), (2, 10), (3, 10))),
        ("stage_finished", "Worker", None, None),
        ("stage_started", "Pusher", None, None),
        ("stage_finished", "Pusher", None, None),
    ]


def test_two_ways_of_showing_a_run_are_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", "--json"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_an_interrupt_at_a_terminal_leaves_it_as_it_was(tmp_path: Path) -> None:
    far, near = pty.openpty()
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    settings = termios.tcgetattr(near)
    process = start(tmp_path, trouble="hang", stdout=near, TERM="xterm")
    output = ""
    while "hanging" not in output:
        output += os.read(far, 65536).decode()
    process.send_signal(signal.SIGINT)
    while "Log:" not in output:
        output += os.read(far, 65536).decode()
    assert process.wait(timeout=20) == 130
    assert termios.tcgetattr(near) == settings
    os.close(near)
    os.close(far)
    screen = Screen(80).show(output)
    assert screen.cursor_visible
    assert screen.rows[0].startswith("Recipe shapes, work directory")
    shown = "\n".join(screen.rows)
    assert re.search(r"\n ✗ 2/3 Worker +[\d.]+ s\n    hanging\ninterrupted in Worker; run the same", shown)


def test_a_refused_model_ends_with_3(run: Run, tmp_path: Path) -> None:
    finished = run(tmp_path, trouble="refused")
    assert finished.code == 3
    assert "Refused, nothing was pushed" in finished.out
    summary = summary_of(tmp_path)
    assert (summary["outcome"], summary["pushed_version"]) == ("rejected", None)


@pytest.mark.parametrize(
    ("trouble", "setting", "message"),
    [
        ("stage_error", "beam.workers=1", "Worker failed: the images are upside down; turn them round"),
        ("value_error", "beam.workers=1", "Worker failed: ValueError: first line"),
        ("beam_stage_error", "beam.workers=1", "Worker failed: element 0 is bad; take another"),
        ("beam_stage_error", "beam.workers=2", "Worker failed: element 0 is bad; take another"),
        ("beam_zero", "beam.workers=1", "Worker failed: ZeroDivisionError: division by zero"),
        ("beam_zero", "beam.workers=2", "Worker failed: ZeroDivisionError: division by zero"),
        (
            "beam_zero",
            "beam.options=[--direct_runner_bundle_repeat=x]",
            "Worker failed: Beam refuses beam.options; the log has its words",
        ),
    ],
)
def test_a_failing_stage_ends_with_1_and_its_cause_alone(
    run: Run, tmp_path: Path, trouble: str, setting: str, message: str
) -> None:
    finished = run(tmp_path, "--set", setting, trouble=trouble)
    assert finished.code == 1
    assert message in finished.out.splitlines()
    assert "Traceback" not in finished.out
    summary = summary_of(tmp_path)
    assert (summary["outcome"], summary["reasons"]) == ("failed", [message])
    assert [stage["name"] for stage in summary["stages"]] == ["Numbers"]
    log = tmp_path / "logs" / f"{summary['run_id']}.log"
    assert str(log) in finished.out
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_pipeline_that_cannot_be_built_says_so_on_the_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.create_pipeline", None)
    finished = run(tmp_path)
    assert finished.code == 1
    assert "Starting failed: ModuleNotFoundError: " in finished.out
    assert summary_of(tmp_path)["outcome"] == "failed"


@pytest.mark.parametrize(
    ("trouble", "number"),
    [
        ("hang", signal.SIGINT),
        ("hang_and_swallow", signal.SIGINT),
        ("beam_hang", signal.SIGTERM),
    ],
)
def test_an_interrupt_ends_with_130_and_one_line_and_the_rerun_goes_on(
    run: Run, tmp_path: Path, trouble: str, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = start(tmp_path, "--set", "beam.workers=2", trouble=trouble, TMPDIR=str(temporary))
    wait_for(process, "hanging")
    assert any(temporary.iterdir())
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert list(temporary.iterdir()) == []
    summary = summary_of(tmp_path)
    assert out.splitlines() == [
        "interrupted in Worker; run the same command again to go on from there",
        f"Report:  {tmp_path}/report/index.html",
        f"Summary: {tmp_path}/summary.json",
        f"Log:     {tmp_path}/logs/{summary['run_id']}.log",
    ]
    assert err == ""
    assert (summary["outcome"], summary["reasons"]) == ("failed", ["interrupted in Worker"])

    rerun = run(tmp_path, "--set", "beam.workers=2")
    assert rerun.code == 0
    assert "[1/3] Numbers … cached" in rerun.out


def test_a_second_run_stops_and_names_the_first_and_a_killed_one_is_in_nobodys_way(
    run: Run, tmp_path: Path
) -> None:
    first = start(tmp_path, trouble="hang")
    try:
        wait_for(first, "hanging")
        second = run(tmp_path)
        assert (second.code, second.out) == (2, "")
        assert f"(process {first.pid})" in second.err
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()

    rerun = run(tmp_path)
    assert rerun.code == 0
    assert "[1/3] Numbers … cached" in rerun.out
    assert summary_of(tmp_path)["outcome"] == "pushed"


def test_what_killed_runs_leave_half_written_goes_with_the_next_one(run: Run, tmp_path: Path) -> None:
    workdir, temporary = tmp_path / "work", tmp_path / "tmp"
    temporary.mkdir()
    for _ in range(2):
        process = start(workdir, trouble="hang", TMPDIR=str(temporary))
        wait_for(process, "hanging")
        process.kill()
        process.communicate()
    folder = workdir / "history" / "20260101-000000-000000"
    folder.mkdir(parents=True)
    own = folder / ".gitignore"
    own.touch()
    half_written = [
        *(workdir / name for name in (".summary.json.7", "..metadata.sha256.7", ".summary.json.deleting")),
        *(workdir / "report" / f".{name}.deleting" for name in ("index.html", "splits.csv")),
        *(folder / name for name in (".index.html.7", ".report.json.7", ".splits.csv.7")),
    ]
    for path in half_written:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    # Of the first one, what it leaves is gone by now.
    assert len(list(workdir.glob("artifacts/Worker/model/*/begun"))) == 1
    assert len(list(temporary.iterdir())) == 1

    assert run(workdir).code == 0
    assert list(temporary.iterdir()) == []
    assert not any(path.exists() for path in half_written) and own.exists()
    [model] = (workdir / "artifacts" / "Worker" / "model").iterdir()
    assert {path.name for path in model.iterdir()} == {"begun", "count"}
    assert list(workdir.glob("artifacts/*/.system/stateful_working_dir/*")) == []
    with closing(sqlite3.connect(workdir / "metadata.sqlite")) as store:
        states = dict(store.execute("SELECT last_known_state, count(*) FROM Execution GROUP BY 1"))
    complete, failed, cached = 3, 4, 5
    assert states == {complete: 3, failed: 2, cached: 2}


def test_the_name_of_a_directory_for_temporary_files_need_not_be_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is refused there, but not the deletion of one."""
    (elsewhere := tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    workdir = WorkDir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    with workdir.locked():
        with pytest.raises(WorkDirError, match=f"another run .process {os.getpid()}. is at work"):
            WorkDir(workdir.root).locked().__enter__()
        # As if it were killed.
        remains = Path(shutil.copytree(tempfile.gettempdir(), elsewhere / "copy"))
    remains.rename(left := Path(os.fsdecode((workdir.root / ".lock").read_bytes()).splitlines()[2]))
    with workdir.locked():
        assert not left.exists()


def test_a_copy_of_a_work_directory_leaves_the_temporary_files_of_the_run_in_it_alone(tmp_path: Path) -> None:
    with WorkDir(tmp_path / "a").locked():
        temporary = Path(tempfile.gettempdir())
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with WorkDir(tmp_path / "b").locked():
            assert temporary.is_dir()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "training.epochs=zero"], "training.epochs is 'zero': it should be a valid integer"),
        (["--recipe", "pets_unet", "--data", "/nowhere"], "/nowhere"),
        (["--recipe", "nonsense"], "unknown recipe 'nonsense'"),
    ],
)
def test_a_mistake_in_the_command_ends_with_2_before_anything_is_created(
    run: Run, tmp_path: Path, args: list[str], message: str
) -> None:
    finished = run(tmp_path / "work", *args)
    assert (finished.code, finished.out) == (2, "")
    assert message in finished.err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("u?", "TensorFlow and Beam take ? in a path for a part of a pattern, and find other files"),
        ("[1]/work", "TensorFlow and Beam take [ in a path for a part of a pattern, and find other files"),
        ("a\\b*", "TensorFlow and Beam take \\ in a path for a part of a pattern, and find other files"),
        (os.fsdecode(b"caf\xe9"), "\\xe9 in it is not UTF-8"),
    ],
    ids=["question mark", "bracket", "backslash", "no UTF-8"],
)
def test_a_path_that_stages_would_take_for_another_is_refused_and_nothing_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    """They hand ``WORKDIR/…/*`` to TensorFlow and Beam: ``u?`` would read what is in ``u1`` as well."""
    monkeypatch.chdir(tmp_path)
    shown = f"{tmp_path}/{name}".replace("\udce9", "\\xe9")
    assert main(["--workdir", name]) == 2
    assert capfd.readouterr() == ("", f"cannot work with {shown}: {why}; choose another --workdir\n")
    assert not list(tmp_path.iterdir())

    # The current directory and TMPDIR count, too.
    elsewhere = tmp_path / name
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    assert main([]) == 2
    said = f"cannot work with {shown}/runs/shapes: {why}; choose another --workdir\n"
    assert capfd.readouterr() == ("", said)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(elsewhere))
        assert main(["--workdir", str(tmp_path / "work")]) == 2
    said = f"cannot work with {shown}: {why}; name another place for temporary files in TMPDIR\n"
    assert capfd.readouterr() == ("", said)
    assert not list(elsewhere.iterdir()) and not (tmp_path / "work").exists()


def test_an_unknown_option_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--reciep", "shapes"])
    assert caught.value.code == 2
    assert "--reciep" in capsys.readouterr().err


def test_a_work_directory_that_cannot_be_made_ends_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = run(tmp_path / "file")
    assert finished.code == 2
    assert f"cannot work in {tmp_path / 'file'}" in finished.err


def test_a_store_of_models_on_a_disk_without_locks_ends_with_2_before_any_stage(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "serving").mkdir(parents=True)
    flock = fcntl.flock

    def not_in_serving(file: IO[str], how: int) -> None:
        if "/serving/" in file.name:
            raise OSError(errno.ENOLCK, "No locks available")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", not_in_serving)
    finished = run(tmp_path / "work")
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert "cannot be locked: No locks available; keep served models on a disk that can" in finished.err


def test_a_place_for_temporary_files_that_takes_none_ends_with_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        # Not for longer: pytest has temporary files of its own.
        patch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
        finished = run(tmp_path / "work")
    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert f"cannot write in {tmp_path / 'file'}: Not a directory; make room, or name" in finished.err


def test_a_run_goes_on_when_its_reader_is_gone(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("Recipe shapes")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 0
    assert summary_of(tmp_path)["outcome"] == "pushed"


def test_a_run_goes_on_when_it_was_started_without_streams(tmp_path: Path) -> None:
    """By a new interpreter: it is at its start that Python looks for them."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {_TOY} --workdir {tmp_path} >&- 2>&-"],
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert summary_of(tmp_path)["outcome"] == "pushed"


@pytest.mark.parametrize("module", ["pipeline.run_local", "pipeline.evaluate"])
def test_a_command_ends_without_taking_the_interpreter_apart(module: str) -> None:
    """A thread in TensorFlow's C++, as Beam's other worker is where one fails, would abort it meanwhile."""
    program = f"""
import atexit, runpy
atexit.register(print, "taken apart")
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "--recipe=none.yaml",
            *["--model=none"] * (module == "pipeline.evaluate"),
        ],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.yaml" in done.stderr


def test_an_empty_work_directory_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--workdir", ""])
    assert ended.value.code == 2
    assert "--workdir: it is empty" in capsys.readouterr().err


def test_a_full_disk_under_the_log_costs_the_log_alone() -> None:
    code = """
import logging, pathlib
from pipeline.terminal import output_diverted
with output_diverted(pathlib.Path("/dev/full")) as terminal:
    print("chatter")
    logging.warning("words")
    print("shown", file=terminal)
print("afterwards")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "shown\nafterwards\n", "")


def test_a_log_that_cannot_be_begun_ends_with_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_local, "new_run_id", lambda: "no/where")
    finished = run(tmp_path)
    assert finished.code == 2
    assert finished.err.startswith(f"cannot write {tmp_path}/logs/no/where.log: No such file or directory; ")


def test_a_summary_that_cannot_be_written_is_said_and_what_was_pushed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()
    finished = run(tmp_path)
    assert finished.code == 1
    lines = finished.out.splitlines()
    assert any(line.startswith("Summing up failed: IsADirectoryError: ") for line in lines)
    assert f"Pushed version 7: {tmp_path}/serving/shapes/7" in lines
    assert not any(line.startswith("Summary:") for line in lines)
    assert "Traceback" not in finished.out + finished.err
