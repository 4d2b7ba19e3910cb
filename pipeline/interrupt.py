"""Handles Ctrl-C and SIGTERM as one clean way out, for the first process of a container, too.

The system ends that one by no signal that it does not handle itself.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import psutil

EXIT_CODE = 130
"""Of a command that was interrupted, by whichever of the two."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WAKE = signal.SIGURG
"""What this module sends itself; a process that has no handler for it ignores it."""
_LOOK_SECONDS = 0.2


class Interrupt:
    """Raises KeyboardInterrupt on the first SIGINT or SIGTERM, and leaves at once on the second.

    Remembers the first: a library's native code may turn the exception into one of its own, or drop it.
    It must be made in the main thread.
    """

    def __init__(self) -> None:
        self.received = False
        self._came = 0
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(_WAKE, lambda *_: None)
        _answer_in_a_thread(self._hand_on)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.received:
            leave(EXIT_CODE)
        self.received = True
        raise KeyboardInterrupt

    def _hand_on(self, number: int) -> None:
        """Wakes the main thread, which alone handles signals, where the system gave one to another thread.

        The second does not wait for that thread, which native code may hold for minutes.
        """
        self._came += number in _SIGNALS
        if self._came > 1:
            leave(EXIT_CODE)
        time.sleep(_LOOK_SECONDS)
        if self._came and not self.received:
            # Comes by here, too, and so until it has heard.
            signal.pthread_kill(threading.main_thread().ident or 0, _WAKE)


def leave_when_asked(tidy_up: Callable[[], None] = lambda: None) -> None:
    """Has SIGINT or SIGTERM end this process at once, with status 130 or 143.

    It does not wait for the main thread, which native code may hold for minutes.

    Args:
        tidy_up: called before that, in another thread, when all that this process has started has ended.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)

    def answer(number: int) -> None:
        # Whoever reads it may have ended first, as Kubeflow's launcher does, which is sent the signal, too.
        with suppress(OSError):
            os.write(2, f"ended by {signal.Signals(number).name}\n".encode())
        leave(128 + number, tidy_up)

    _answer_in_a_thread(answer)


def leave(status: int, tidy_up: Callable[[], None] = lambda: None) -> NoReturn:
    """Ends all that this process has started, and itself without waiting for its threads."""
    try:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        tidy_up()
    finally:
        os._exit(status)


def _answer_in_a_thread(answer: Callable[[int], None]) -> None:
    """Calls ``answer`` with the number of each of `_SIGNALS`, and of `_WAKE`, that this process handles."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    # A forked child has the same pipe: what it is sent would be taken for this process's.
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_behave_as_usual)

    def follow() -> None:
        while number := os.read(read_end, 1):
            # Other signals that have a handler in Python come by here, too.
            if number[0] in (*_SIGNALS, _WAKE):
                answer(number[0])

    threading.Thread(target=follow, name="signals", daemon=True).start()


def _hold() -> None:
    """Keeps signals back until a child behaves as usual: up to then it has this process's pipe."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _behave_as_usual() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    _release()
