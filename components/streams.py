"""A process's standard streams, which may be closed when it begins, and are flushed when it ends."""

import os
import sys
from contextlib import suppress
from typing import NoReturn


def open_missing_streams() -> None:
    """Gives a process started with closed stdout or stderr (``>&-``) something to write to."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            # A child process would otherwise take a file that it opens for its stderr.
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "w"))


def end_process(status: int) -> NoReturn:
    """Ends this process without taking the interpreter apart; what atexit would do is not done.

    That takes seconds with TensorFlow in it, and a thread that is still at work in C++, such as a worker of
    Beam's whose fellow has failed, aborts the process meanwhile: it would end with 134.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
