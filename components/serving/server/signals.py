"""SIGTERM and SIGINT: the first drains, the second does not wait. Importing this imports no TensorFlow."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

STOPPED: Final = 0
"""Exit status after a signal."""
DROPPED: Final = 1
"""Exit status after a second signal: requests were dropped."""
PARENT_PIPE: Final = "MODEL_SERVER_PARENT_PIPE"
"""Environment variable: a file descriptor at whose end the process that started the server is gone."""
_LOOK_SECONDS: Final = 0.2


class StopSignal:
    """Remembers that the process was asked to stop; it must be made in the main thread.

    Until `draining_matters` is called there is nothing to drain, and a signal ends the process at once: the
    libraries that load then would answer it with a traceback.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._draining_matters = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def draining_matters(self) -> None:
        """Says that requests may be in flight from now on."""
        self._draining_matters = True

    def wait(self) -> None:
        """Waits for the first signal."""
        # Python answers signals in this thread, but the system may hand one to any other, and this thread
        # then goes on sleeping.
        while not self._asked.wait(_LOOK_SECONDS):
            pass

    def ask(self) -> None:
        """Does what a signal does; from any thread."""
        if self._draining_matters and not self._asked.is_set():
            self._asked.set()
            return
        sys.stdout.flush()
        os._exit(DROPPED if self._draining_matters else STOPPED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ask()
