"""The folder that an evaluation works in, and the remains of those that did not end by themselves."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from components.dataset.contracts import SPLITS_FILE
from components.report.data import DATA_FILE, PAGE_FILE

_RESULTS: Final = (PAGE_FILE, DATA_FILE, SPLITS_FILE)
_PREFIX: Final = ".evaluation-"
_HALF_WRITTEN: Final = re.compile(rf"\.({'|'.join(map(re.escape, _RESULTS))})\.\d+")
"""What `write_whole` and `write_page` call a file until it is one."""


@contextmanager
def sole_evaluation(log: Path) -> Iterator[None]:
    """Makes an empty log and keeps other evaluations out of its folder; the lock ends with the process.

    Where there is a log already, the folder is an evaluation's: its results go, and what evaluations that
    were killed have left there, as large as a dataset. Where the disk knows no locks, as some shares do not,
    others are not kept out, and what killed ones left stays: another one may be working in it.

    Raises:
        ValueError: another one is at work there, or the folder has files of the results' names and no log:
            they are a run's or somebody's own.
        OSError: the log cannot be written; ``filename`` is set.
    """
    is_ours = log.exists()
    if not is_ours and (others := [name for name in _RESULTS if os.path.lexists(log.parent / name)]):
        raise ValueError(
            f"--output {log.parent} has {', '.join(others)} and no {log.name}, so that no evaluation wrote "
            "it; choose another"
        )
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
            if is_ours:
                _remove_remains(log.parent)
        if is_ours:
            # Beside a log of what failed, an earlier page would be taken for this model's.
            for name in _RESULTS:
                (log.parent / name).unlink(missing_ok=True)
            # Not removed: it bears the lock.
            os.truncate(log, 0)
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
