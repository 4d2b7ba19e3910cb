"""Commands as the first process of a container, which no signal ends that it does not handle itself."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from waiting import until_gone
from warm_process import WarmProcess

_REPOSITORY = Path(__file__).resolve().parents[2]
_TOY_EXECUTORS = _REPOSITORY / "tests/kubeflow"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
_PYTHON = (sys.executable, "-m")
_SECONDS = 10
"""How long container engines wait before they kill."""


@pytest.fixture
def namespace() -> Sequence[str]:
    """What makes the command after it number 1 of a process namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare (util-linux)")
    trial = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True)
    if trial.returncode:
        pytest.skip(f"no process namespaces: {trial.stderr.strip()}")
    return _NAMESPACE


@contextmanager
def started(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join(map(str, (_REPOSITORY, _TOY_EXECUTORS)))
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status_after_sigterm(process: subprocess.Popen[str]) -> int:
    """Asks the command itself to end, not the ``unshare`` around it, which ends with the command's status."""
    outermost = psutil.Process(process.pid)
    [first] = outermost.children() if outermost.name() == "unshare" else [outermost]
    first.send_signal(signal.SIGTERM)
    return process.wait(timeout=_SECONDS)


def said(process: subprocess.Popen[str] | WarmProcess, pattern: str) -> re.Match[str]:
    """Reads what the process prints up to a line that the pattern fits."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError("".join(lines))


_STUCK = [
    *(*_PYTHON, "pipeline.kubeflow.entrypoint", "--executor_class_path=toy_executors.Stuck"),
    f"--json_serialized_invocation_args={json.dumps({'outputs': {'outputFile': '/tmp/unwritten'}})}",
]


def test_a_stage_that_native_code_holds_ends_at_once_with_143(namespace: Sequence[str]) -> None:
    with started([*namespace, *_STUCK]) as process:
        said(process, "stuck beside")
        assert status_after_sigterm(process) == 143


def test_what_a_stage_has_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_TOY_EXECUTORS)
    process = WarmProcess(_STUCK[1:], merged=True)
    try:
        child = psutil.Process(int(said(process, r"stuck beside (\d+)")[1]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=_SECONDS) == 143
        assert said(process, "ended by SIGTERM")
        until_gone(child)
    finally:
        process.kill()


def test_a_signal_that_the_system_gives_to_another_thread_reaches_the_main_thread() -> None:
    """Which waits for a lock, as it does while Beam works."""
    program = """
import os, signal, threading, time
from pipeline.interrupt import Interrupt

def elsewhere():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(600)

lock = threading.Lock()
lock.acquire()
try:
    Interrupt()
    threading.Thread(target=elsewhere, daemon=True).start()
    lock.acquire()
except KeyboardInterrupt:
    os._exit(130)
"""
    with started([sys.executable, "-c", program]) as process:
        assert process.wait(timeout=_SECONDS) == 130


def test_the_second_interrupt_does_not_wait_for_native_code() -> None:
    program = """
import hashlib
from pipeline.interrupt import Interrupt
Interrupt()
print("computing", flush=True)
hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**8)
"""
    with started([sys.executable, "-c", program]) as process:
        said(process, "computing")
        for _ in range(2):
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=2) == 130


def test_a_local_run_ends_with_130(namespace: Sequence[str], tmp_path: Path) -> None:
    toy = [sys.executable, str(Path(__file__).with_name("toy_pipeline.py")), f"--workdir={tmp_path}"]
    with started([*namespace, *toy, "--set=beam.workers=2"], TOY_TROUBLE="beam_hang") as process:
        said(process, "hanging")
        assert status_after_sigterm(process) == 130


def test_a_report_that_waits_for_a_file_ends_with_130(namespace: Sequence[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    os.mkfifo(report)
    command = [*_PYTHON, "pipeline.report", "--compare", str(report), str(report)]
    with started([*namespace, *command]) as process, report.open("w"):
        assert status_after_sigterm(process) == 130
        assert said(process, "interrupted")


def test_a_list_of_runs_that_waits_for_a_file_ends_with_130(namespace: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "history" / "20260102-030405-000000").mkdir(parents=True)
    summary = tmp_path / "history" / "20260102-030405-000000" / "summary.json"
    os.mkfifo(summary)
    command = [*_PYTHON, "pipeline.runs", f"--workdir={tmp_path}"]
    with started([*namespace, *command]) as process, summary.open("w"):
        assert status_after_sigterm(process) == 130
        assert said(process, "interrupted")


def test_a_prediction_that_waits_for_names_ends_with_130(namespace: Sequence[str], tmp_path: Path) -> None:
    command = [*_PYTHON, "pipeline.predict", "-", "--server=localhost:1", "--model=m", f"--output={tmp_path}"]
    with started([*namespace, *command]) as process:
        assert process.stdin is not None
        # More than a pipe holds: it has been read when this is through.
        process.stdin.write("a.png\n" * 100_000)
        process.stdin.flush()
        assert status_after_sigterm(process) == 130
        assert said(process, "interrupted; nothing was sent")


_FORKS = """
import os, signal, time
from pipeline import interrupt
interrupt.leave_when_asked()
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
child = os.fork()
if not child:
    time.sleep(60)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(0.5)
print("child", os.waitstatus_to_exitcode(status), flush=True)
"""


def test_what_a_forked_child_is_sent_is_not_taken_for_ones_own() -> None:
    with started([sys.executable, "-c", _FORKS]) as process:
        assert int(said(process, r"child (-?\d+)")[1]) == -signal.SIGTERM
        assert process.wait(timeout=_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_still_being_imported_ends_with_130_and_no_traceback(
    number: signal.Signals, tmp_path: Path
) -> None:
    # Stands in for a library that takes its time.
    (tmp_path / "psutil.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)\n")
    with started([*_PYTHON, "pipeline.runs"], PYTHONPATH=f"{tmp_path}{os.pathsep}{_REPOSITORY}") as process:
        assert process.stdout and process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert (process.wait(timeout=_SECONDS), process.stdout.read()) == (130, "")


def test_who_imports_the_package_keeps_the_signals() -> None:
    code = "import signal, pipeline; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    with started([sys.executable, "-c", code, "-m", "pipeline.runs"]) as process:
        assert process.stdout and process.stdout.read() == "True\n"
