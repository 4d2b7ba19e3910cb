"""A server as a process: up when its models are, down whatever it does, and never left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest
from conftest import png_bytes
from running_server import image
from saved_models import write_model
from waiting import until, until_gone

from components.serving import messages
from components.serving.backends import Backend
from components.serving.messages import ModelSpec
from components.serving.process import ServerProcess, ServerProcessError
from components.serving.server.options import ServerOptions

_REPOSITORY = Path(__file__).resolve().parents[2]


def _predict(process: ServerProcess) -> grpc.Future:
    import numpy as np

    inputs = {"image_bytes": np.array([png_bytes(image())], object)}
    request = messages.predict_request(ModelSpec("pets"), "", inputs)
    method = messages.PREDICT
    channel = grpc.insecure_channel(process.target)
    call = channel.unary_unary(
        method.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.response_class.FromString,
    )
    return call.future(request, timeout=30)


def _fake_binary(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = folder / "tensorflow_model_server"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(folder)


def test_a_server_whose_streams_are_closed_ends_with_0(tmp_path: Path) -> None:
    command = "-m components.serving.server --port 0 --model_name pets --model_base_path"
    with subprocess.Popen(
        ["sh", "-c", f"exec {sys.executable} {command} {tmp_path} >&- 2>&-"], cwd=_REPOSITORY
    ) as process:

        def waits_for_signals() -> bool:
            blocked = re.search("SigBlk:(.*)", Path(f"/proc/{process.pid}/status").read_text())
            return bool(blocked and int(blocked[1], 16) >> (signal.SIGTERM - 1) & 1) or ended()

        def ended() -> bool:
            return process.poll() is not None

        try:
            until(waits_for_signals)
            process.terminate()
            until(ended)
        finally:
            process.kill()
    assert process.returncode == 0


def test_sigterm_during_a_slow_request_answers_it_and_ends_with_0(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1", seconds=1.0)
    options = ServerOptions(
        port=0, model_name="pets", model_base_path=str(tmp_path / "pets"), enable_model_warmup=False
    )
    with ServerProcess(options, log=tmp_path / "server.log") as process:
        server = psutil.Process(process.pid)
        packages = {part for mapped in server.memory_maps() for part in Path(mapped.path).parts}
        answer = _predict(process)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        assert answer.result().outputs["mask_bytes"].string_val
        until(lambda: process.returncode is not None)
    assert process.returncode == 0
    # What TensorFlow's ``__init__`` imports would be half of the time until the server is ready: Keras loads
    # optree's library and h5py's, TensorFlow Lite loads JAX's.
    assert "tensorflow" in packages and packages.isdisjoint({"optree", "h5py", "jaxlib"})
    log = (tmp_path / "server.log").read_text()
    lines = [line for line in log.splitlines() if line and line[0].isalpha() and not line.startswith("E0")]
    assert lines == [
        "Embedded model server, for development and tests; production is TensorFlow Serving.",
        f"WARNING: {tmp_path / 'pets' / '1'} has no assets.extra/provenance.json: nothing tells whether it "
        "is what was pushed",
        "Loaded pets version 1",
        f"gRPC API at 127.0.0.1:{process.grpc_port}",
        "Ready",
        "Stopping: answering the requests in flight",
        "pets version 1 unloaded",
    ]


def test_a_server_that_ends_is_an_error_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_binary(tmp_path, "seq 100; echo cannot serve; exit 3", monkeypatch)
    process = ServerProcess(
        ServerOptions(port=0, model_base_path=str(tmp_path)), backend=Backend.TENSORFLOW_MODEL_SERVER
    )
    with pytest.raises(ServerProcessError, match=r"ended with status 3; .*\n82\n(\d+\n)*cannot serve$"):
        process.start()
    assert process.returncode == 3
    assert not process.log.exists()


def test_a_server_that_does_not_come_up_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "trap '' TERM; echo starting; sleep 1000 & echo $! > children; sleep 1000"
    _fake_binary(tmp_path, script, monkeypatch)
    process = ServerProcess(
        ServerOptions(port=0, model_base_path=str(tmp_path)),
        backend=Backend.TENSORFLOW_MODEL_SERVER,
        start_seconds=1,
        stop_seconds=0.5,
    )
    with pytest.raises(ServerProcessError, match=r"was not ready after 1 s; the end of its log:\nstarting"):
        process.start()
    assert process.returncode == -signal.SIGKILL
    child = int((tmp_path / "children").read_text())
    with suppress(psutil.NoSuchProcess):
        until_gone(psutil.Process(child))


@pytest.mark.parametrize("obeys", [True, False])
def test_the_server_and_all_it_started_end_with_a_process_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obeys: bool
) -> None:
    ignores = "" if obeys else "trap '' TERM; "
    _fake_binary(
        tmp_path, f"{ignores}sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait", monkeypatch
    )
    starts = (
        "from components.serving.process import Backend, ServerProcess, ServerOptions\n"
        "options = ServerOptions(port=0, model_base_path='/nowhere')\n"
        "ServerProcess(options, backend=Backend.TENSORFLOW_MODEL_SERVER).start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", starts], env=environment) as holder:
        until((tmp_path / "pids").exists)
        server, child = map(psutil.Process, map(int, (tmp_path / "pids").read_text().split()))
        assert server.is_running() and child.is_running()
        # The one that is to end them is there a moment later.
        until(lambda: len(psutil.Process(holder.pid).children()) == 2)
        holder.kill()
    for process in (server, child):
        until_gone(process)


def test_a_second_signal_does_not_wait_and_requests_are_dropped(tmp_path: Path) -> None:
    write_model(tmp_path / "pets" / "1", seconds=20.0)
    options = ServerOptions(
        port=0, model_name="pets", model_base_path=str(tmp_path / "pets"), enable_model_warmup=False
    )
    with ServerProcess(options, log=tmp_path / "server.log") as process:
        answer = _predict(process)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        until(lambda: "Stopping" in process.log.read_text())
        os.kill(process.pid, signal.SIGINT)
        until(lambda: process.returncode is not None)
        assert answer.code() is not grpc.StatusCode.OK
    assert process.returncode == 1


def test_a_program_that_cannot_be_run_is_an_error_that_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_binary(tmp_path, "", monkeypatch)
    before = psutil.Process().num_fds()
    process = ServerProcess(
        ServerOptions(port=0, model_base_path=str(tmp_path)), backend=Backend.TENSORFLOW_MODEL_SERVER
    )
    (tmp_path / "tensorflow_model_server").write_bytes(b"no program")
    with pytest.raises(ServerProcessError, match=r"cannot be run: .*Exec format error"):
        process.start()
    assert psutil.Process().num_fds() == before
    assert not process.log.exists()


def test_the_environment_of_the_server_can_be_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETING", "hello")
    monkeypatch.setenv("NAME", "nobody")
    _fake_binary(tmp_path, 'echo "$GREETING $NAME"; exit 3', monkeypatch)
    process = ServerProcess(
        ServerOptions(port=0, model_base_path=str(tmp_path)),
        backend=Backend.TENSORFLOW_MODEL_SERVER,
        env={"NAME": "pets"},
    )
    with pytest.raises(ServerProcessError, match=r"log:\nhello pets$"):
        process.start()
    assert os.environ["NAME"] == "nobody"


def test_nothing_runs_before_start(tmp_path: Path) -> None:
    process = ServerProcess(
        ServerOptions(port=0, rest_api_port=0, model_base_path=str(tmp_path)), log=tmp_path / "log"
    )
    assert process.stop() is None
    assert process.grpc_port != process.rest_port and process.rest_port
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = process.pid
