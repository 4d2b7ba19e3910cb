"""The folder that an evaluation works in, and the remains of those that did not end by themselves."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = ".evaluation-"


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Makes a folder below ``output``, which goes at the end.

    A process that is killed leaves it, as large as a dataset. The next evaluation removes what others have
    left, where none of them is at work: each keeps a shared lock of ``output``, which ends with its process.
    """
    lock = os.open(output, os.O_RDONLY)
    try:
        # Not every file system knows locks of folders; what others have left stays there.
        with suppress(OSError):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for remains in output.glob(f"{_PREFIX}*"):
                    shutil.rmtree(remains, ignore_errors=True)
            fcntl.flock(lock, fcntl.LOCK_SH)
        # Beside the page, not in the system's temporary folder, which may be too small for a dataset.
        with tempfile.TemporaryDirectory(dir=output, prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        os.close(lock)
