"""The folder that an evaluation works in, and the remains of those that did not end by themselves."""

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = ".evaluation-"
_HALF_WRITTEN: Final = re.compile(r"\.(index\.html|report\.json|splits\.csv)\.\d+")
"""What `write_whole` and `write_page` call a file until it is one."""


@contextmanager
def sole_evaluation(log: Path) -> Iterator[None]:
    """Makes a log and keeps other evaluations out of its folder; the lock ends with the process.

    What evaluations that were killed have left there, as large as a dataset, goes. Where the disk knows no
    locks, as some shares do not, others are not kept out, and it stays: another one may be working in it.

    Raises:
        ValueError: another one is at work there.
        OSError: the log cannot be written; ``filename`` is set.
    """
    with log.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another evaluation is at work in {log.parent}; choose another --output"
            ) from None
        except OSError:
            # As on some network shares; an evaluation is no less needed there.
            pass
        else:
            _remove_remains(log.parent)
        yield


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Makes a folder below ``output``, which goes at the end; a process that is killed leaves it."""
    # Beside the page, not in the system's temporary folder, which may be too small for a dataset.
    with tempfile.TemporaryDirectory(dir=output, prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _remove_remains(output: Path) -> None:
    for written in output.glob(".*"):
        if _HALF_WRITTEN.fullmatch(written.name):
            written.unlink()
    for remains in output.glob(f"{_PREFIX}*"):
        shutil.rmtree(remains, ignore_errors=True)
