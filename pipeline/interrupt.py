"""Ctrl-C and SIGTERM as one clean way out."""

import os
import signal
from types import FrameType

EXIT_CODE = 130


class Interrupt:
    """Raises KeyboardInterrupt on the first SIGINT or SIGTERM, and leaves at once on the second.

    Remembers the first: a library's native code may turn the exception into one of its own, or drop it.
    """

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.received:
            os._exit(EXIT_CODE)
        self.received = True
        raise KeyboardInterrupt
