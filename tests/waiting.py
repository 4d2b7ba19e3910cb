"""Waits that end: with what is waited for, or with a test that fails."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import psutil


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for a condition.

    Raises:
        AssertionError: it does not hold after these seconds.
    """
    end, pause = time.monotonic() + seconds, 0.001
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s"
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def until_open(port: int, seconds: float = 20) -> None:
    """Waits for something to listen at a port of this machine."""

    def is_open() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until(is_open, seconds)


def until_gone(process: psutil.Process, seconds: float = 20) -> None:
    """Waits for a process to end; whoever started it need not have taken note."""
    with suppress(psutil.NoSuchProcess):
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, seconds)
