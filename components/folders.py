"""Walks through folders of the user's, past what systems leave in them."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from components.bucket import BucketPath
from components.errors import StageError

_LITTER: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"})
"""What Windows, macOS and network drives leave in folders, in lower case; the rest of it is hidden."""


_MOST_ARRIVALS: Final = 100
_MORE_FILES: Final = "raise the limit of open files, such as ulimit -n 65536"
_ANSWERS_NOT: Final = "look to the disk or the network between, and start again"
_NO_FAULT: Final = ", which is no fault of the file"
_LIMITS: Final[Mapping[int | None, str]] = {
    errno.EMFILE: f"{_NO_FAULT}; {_MORE_FILES}",
    errno.ENFILE: f"{_NO_FAULT}; {_MORE_FILES}",
    errno.ENOMEM: f"{_NO_FAULT}; memory is at its end: fewer beam.workers take less",
    **dict.fromkeys((errno.EAGAIN, errno.ENOTCONN, errno.ETIMEDOUT), f"{_NO_FAULT}; {_ANSWERS_NOT}"),
    # A bad sector belongs to one file and stays, a network that fails concerns them all: both say this.
    **dict.fromkeys((errno.EIO, errno.ESTALE), f"; {_ANSWERS_NOT}, or take the file out if it stays"),
}
"""What helps, by errors that are as a rule the machine's: the next file would have them, too."""


def open_file(path: Path) -> IO[bytes]:
    """Opens a file to be read; raises OSError, see `check_is_file`."""
    # A bucket has nothing but files, and to ask it would take as long as to read a small object.
    if not isinstance(path, BucketPath):
        check_is_file(path)
    return path.open("rb")


def is_of_machine(error: OSError) -> bool:
    """Whether an error says nothing of what the file that was to be read holds."""
    return error.errno in _LIMITS


def check_machine(error: OSError, path: Path) -> None:
    """Raises StageError of an error that says nothing of what the file that was to be read holds."""
    if is_of_machine(error):
        raise StageError(f"{path} cannot be read: {error.strerror}{_LIMITS[error.errno]}") from error


def check_is_file(path: Path) -> None:
    """Raises OSError of a folder, and of a pipe, a socket or a device, which might never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, no file", str(path))


def _raise(error: OSError) -> None:
    raise error


def files_below(
    root: Path, onerror: Callable[[OSError], None] | None = _raise, depth: int | None = None
) -> Iterator[str]:
    """Yields the files of a folder and of those below it, as paths relative to it with slashes.

    Links are followed wherever they lead, out of the folder as well: datasets are often made of links. Not
    so a link that leads back. Any number may lead to one folder; but a link that lies behind others is met
    once for each way to it, and after 100 times that is the end: thirty folders with two links each to the
    next would be a billion. Hidden files and folders are left out, and what an operating system left there
    (``Thumbs.db``, ``__MACOSX``) counts as hidden.

    Args:
        root: where to start.
        onerror: what to do about a folder that cannot be read; it is left out if this returns, or is None.
        depth: how many folders below the root are looked into at most; None for any number.

    Raises:
        StageError: links multiply, whatever ``onerror`` is.
    """
    arrivals: Counter[tuple[int, int]] = Counter()
    """How often each link was met, by its own device and number."""

    def is_entered(folder: Path) -> bool:
        if isinstance(folder, BucketPath) or not folder.is_symlink():
            return True
        status = folder.lstat()
        arrivals[itself := (status.st_dev, status.st_ino)] += 1
        if arrivals[itself] > _MOST_ARRIVALS:
            raise StageError(
                f"more than {_MOST_ARRIVALS} ways over other links lead to the link {folder}; remove links "
                "to folders that hold links"
            )
        return not _leads_back(root, folder, folder.resolve())

    for here, subfolders, files in _walk(root, onerror):
        below = here.relative_to(root)
        # In place: the walk goes where this list says.
        subfolders[:] = sorted(
            name
            for name in (subfolders if depth is None or len(below.parts) < depth else ())
            if _is_the_users(name) and is_entered(here / name)
        )
        prefix = "" if below == Path() else f"{below.as_posix()}/"
        yield from (prefix + name for name in sorted(filter(_is_the_users, files)))


def _walk(
    root: Path, onerror: Callable[[OSError], None] | None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    if not isinstance(root, BucketPath):
        for folder, subfolders, files in os.walk(root, onerror=onerror, followlinks=True):
            yield Path(folder), subfolders, files
        return
    try:
        yield from root.walk()
    except FileNotFoundError as error:
        if onerror is not None:
            onerror(error)


def scan_folder(folder: Path) -> Iterable[os.DirEntry[str] | Path]:
    """Returns what is right in a folder, each knowing its name and, at no cost, its kind."""
    return folder.iterdir() if isinstance(folder, BucketPath) else os.scandir(folder)


def split_suffix(path: str) -> tuple[str, str]:
    """Returns a path without its last suffix, and that, as pathlib says them.

    Without an object for each: of many thousands of files this is asked several times.
    """
    stem, suffix = os.path.splitext(path)
    return (path, "") if suffix == "." else (stem, suffix)


def _is_the_users(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LITTER


def _leads_back(root: Path, folder: Path, target: Path) -> bool:
    """Tells whether a link leads to a folder that the walk is in: it would go round for ever."""
    below = folder.parent.relative_to(root)
    return any((root / part).resolve().is_relative_to(target) for part in (below, *below.parents))
