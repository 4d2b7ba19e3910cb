"""Commands in processes of their own, forked from one that has imported TFX, which takes ten seconds.

That one has computed nothing and imported nothing of this project's. What only a new interpreter shows (its
start, what a command imports and when) needs a process of ``subprocess``.
"""

import atexit
import contextlib
import gc
import importlib
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final, Self
from unittest.mock import patch

_IMPORTED: Final = (
    *("tensorflow_data_validation", "tfx.components", "tfx.orchestration.portable.launcher"),
    *("keras.src.backend.tensorflow.trainer", "matplotlib.pyplot", "pydantic", "rich.live", "scipy.ndimage"),
)
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(list(_IMPORTED))
_REPOSITORY = Path(__file__).resolve().parents[1]


def begin_by_fork() -> None:
    """Imports TFX here, too, and forks off the process that commands are forked from, instead of starting it.

    Where tests import TFX anyway, that saves one of two imports. To be called before anything of this project
    is imported.
    """
    gc.disable()
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    resource_tracker.ensure_running()
    before = set(os.listdir("/proc/self/fd"))

    def fork(_: object, arguments: list[str], passed: list[int]) -> int:
        if child := os.fork():
            return child
        try:
            # Among them the end of a pipe by which it learns that nobody needs it any more.
            for number in map(int, set(os.listdir("/proc/self/fd")) - before):
                if number not in passed:
                    with contextlib.suppress(OSError):
                        os.close(number)
            # Held by what called this; what is forked off would wait for it for ever.
            forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]
            # Which pytest takes note of, instead of having them shown.
            importlib.reload(warnings)
            exec(arguments[-1], {})
        finally:
            os._exit(0)

    with patch.object(util, "spawnv_passfds", fork):
        forkserver.ensure_running()


class WarmProcess:
    """Of ``subprocess.Popen`` what the tests use.

    Args:
        command: ``-m MODULE`` or a file of Python, with its arguments.
        environment: all of it, as the process finds it in ``os.environ``; None is this process's.
        stdout: a descriptor; None is a pipe, to be read from ``stdout``.
        merged: stderr goes where stdout goes; otherwise it is a pipe.
        own_group: signals to the process's group reach it and its children alone.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
        merged: bool = False,
        own_group: bool = False,
    ):
        self.args = command
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        if stdout is None:
            self.stdout, out = _pipe()
        else:
            out = _writer(os.dup(stdout))
        if merged:
            err = _writer(os.dup(out.fileno()))
        else:
            self.stderr, err = _pipe()
        self._process = _FORKSERVER.Process(
            target=_run, args=(list(command), dict(environment or os.environ), out, err, own_group)
        )
        self._process.start()
        out.close()
        err.close()

    @property
    def pid(self) -> int:
        """The process's."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As ``subprocess`` gives it, negative for a signal; None before it is waited for."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns the exit status; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit status.

        Raises:
            subprocess.TimeoutExpired: the process still runs.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Reads to the end of both pipes, one after the other, and waits."""
        out, err = (stream.read() if stream else "" for stream in (self.stdout, self.stderr))
        self.wait(timeout)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the process, if it is still there."""
        self._process.kill()


class WarmSubprocess:
    """Stands in for the module ``subprocess``: what imports TFX begins with it imported."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    class Popen(WarmProcess):
        def __init__(
            self,
            command: list[str],
            stdout: int | None = None,
            env: dict[str, str] | None = None,
            **_: object,
        ):
            super().__init__(command[1:], environment=env)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.wait()

    @staticmethod
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if (
            command[1:3] not in (["-m", "pipeline.run_local"], ["-m", "benchmarks.one_stage"])
            or "--help" in command
        ):
            return subprocess.run(command, **options)
        process = WarmProcess(command[1:])
        output, errors = process.communicate()
        return subprocess.CompletedProcess(command, process.wait(), output, errors)


def _pipe() -> tuple[IO[str], Connection]:
    reader, writer = os.pipe()
    return open(reader, encoding="utf-8", errors="surrogateescape"), _writer(writer)


def _writer(descriptor: int) -> Connection:
    # What multiprocessing hands to another process.
    return Connection(descriptor, readable=False)


def _run(
    command: list[str], environment: dict[str, str], out: Connection, err: Connection, own_group: bool
) -> None:
    """Becomes the command, in the forked process."""
    if own_group:
        os.setsid()
    for number, stream in ((1, out), (2, err)):
        os.dup2(stream.fileno(), number)
        stream.close()
    # Anew: the ones there are remember whether the forking process's were files.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False, buffering=1 if os.isatty(1) else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    # The forking process has looked for it already, where its own environment said.
    tempfile.tempdir = None
    # As ``quick_imports`` leaves what it has imported.
    gc.freeze()
    # What is logged while TFX is imported gives the root logger a handler; a command begins without.
    logging.root.handlers.clear()
    os.chdir(_REPOSITORY)
    run: Callable[[], object]
    if command[0] == "-m":
        sys.argv = command[1:]
        sys.path.insert(0, str(_REPOSITORY))
        run = lambda: runpy.run_module(command[1], run_name="__main__", alter_sys=True)  # noqa: E731
    else:
        sys.argv = list(command)
        sys.path[:0] = [str(Path(command[0]).parent), str(_REPOSITORY)]
        run = lambda: runpy.run_path(command[0], run_name="__main__")  # noqa: E731
    try:
        run()
    finally:
        # multiprocessing would leave without.
        atexit._run_exitfuncs()
        sys.stdout.flush()
