"""A process's standard streams, which may be closed when it begins."""

import os
import sys


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
