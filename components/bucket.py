"""Folders of a bucket as layouts read folders: listed in one pass, their objects read one by one.

Arrow's own clients for S3 and Google Cloud Storage do it, with the credentials that their vendors' tools use;
`S3FileSystem`_ and `GcsFileSystem`_ say where they look. Another store that speaks S3 is named by
``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, and ``minio://`` stands for such a one.

.. _S3FileSystem: https://arrow.apache.org/docs/python/generated/pyarrow.fs.S3FileSystem.html
.. _GcsFileSystem: https://arrow.apache.org/docs/python/generated/pyarrow.fs.GcsFileSystem.html
"""

import errno
import io
import os
import ssl
import stat
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path, PosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from components.errors import StageError

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_SCHEMES: Final = ("s3://", "gs://", "minio://")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_ATTEMPTS: Final = 10
"""The waits between them double, from 25 milliseconds on."""
_PATIENCE: Final = timedelta(seconds=30)
_REMEDY: Final = {
    "s3:": "look at the bucket's name, at the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
    "profile or this machine's role) and, for a store that is not Amazon's, at AWS_ENDPOINT_URL",
    "gs:": "look at the bucket's name and at the credentials (GOOGLE_APPLICATION_CREDENTIALS, gcloud auth "
    "application-default login or this machine's service account)",
}
_REMEDY["minio:"] = _REMEDY["s3:"]
_AHEAD: Final = 8
_LARGE: Final = 1 << 24
"""Bytes; of a larger object the wait for an answer is the smaller part."""
_MOST_WAITING: Final = 1 << 27
"""Bytes of objects that wait in a process's memory, whatever its threads have asked for."""
_NO_NAMES: Final = frozenset({"", ".", ".."})


def is_remote(text: str) -> bool:
    """Whether a text names something in an object store."""
    return text.startswith(_SCHEMES)


def path_of(text: str) -> Path:
    """Returns the path that a text names, on this machine or in a bucket."""
    return BucketPath(text) if is_remote(text) else Path(text)


class BucketPath(PosixPath):
    """A folder or an object, ``s3://BUCKET/FOLDER/FILE``; what asks a path about files asks the store.

    Of paths' methods, those that look and read work. Within `listed`, looking costs no request. What is not
    there raises FileNotFoundError as with files, whatever else goes wrong StageError in one line.
    """

    def __str__(self) -> str:
        text = super().__str__()
        scheme, slash, rest = text.partition("/")
        return f"{scheme}//{rest}" if slash and f"{scheme}//" in _SCHEMES else text

    @contextmanager
    def listed(self) -> Iterator[None]:
        """Lists all that lies below this folder, once; until the end, nothing newer is seen."""
        if _listing_of(self) is not None:
            yield
            return
        _listings[self] = _Listing(self)
        try:
            yield
        finally:
            _listings.pop(self, None)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Returns kind, size and time of writing."""
        if (found := _listing_of(self)) is not None:
            return found[0].stat(self, found[1])
        with _explaining(self):
            [info] = _file_system(self).get_file_info([_key(self)])
        return _status(self, info.type.value, info.size or 0, info.mtime_ns or 0)

    def iterdir(self) -> Generator["BucketPath", None, None]:
        """Yields what is right in this folder."""
        folder, subfolders, files = next(self.walk())
        yield from (folder / name for name in (*subfolders, *files))

    def walk(self) -> Iterator[tuple["BucketPath", list[str], list[str]]]:
        """Yields folders with their subfolders and files as ``os.walk`` does, top down; leaves none out."""
        found = _listing_of(self)
        listing, below = (_Listing(self), "") if found is None else found
        pending = [below]
        while pending:
            below = pending.pop()
            subfolders, files = listing.names(self, below)
            prefix = f"{below}/" if below else ""
            yield (listing.root / below if below else listing.root), subfolders, files
            pending += [prefix + name for name in reversed(subfolders)]

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Opens an object for reading; its bytes are fetched when they are read."""
        if mode not in ("r", "rb"):
            raise io.UnsupportedOperation(f"{self} can only be read, not opened with {mode!r}")
        if mode == "rb":
            coming = _take(self)
            data = None if coming is None else coming.result()
            return _open(self) if data is None else io.BytesIO(data)
        # Lists, which are small; line by line, each few thousand bytes would be a request.
        return io.TextIOWrapper(io.BytesIO(_open(self).read()), encoding, errors, newline)


_Item = TypeVar("_Item")


def reading_ahead(
    items: Iterable[_Item], files: Callable[[_Item], Iterable[Path]]
) -> Generator[_Item, None, None]:
    """Yields items, while those of their files that are in a bucket are on their way some items before.

    A request is answered after tens of milliseconds, most of a small object's time. For what finds no room to
    wait in, nothing is gained or lost.

    Args:
      items: What is to be worked on, one after the other.
      files: Those of an item; each is then opened once at most.
    """
    # Not as a context, whose end waits for what is on its way, for minutes where a store does not answer.
    pool = ThreadPoolExecutor(_AHEAD)

    def ask(item: _Item) -> tuple[_Item, list[BucketPath]]:
        paths = [path for path in files(item) if isinstance(path, BucketPath)]
        _coming.update((path, pool.submit(_fetch, path)) for path in paths)
        return item, paths

    rest = iter(items)
    asked = deque(map(ask, islice(rest, 1 + _AHEAD)))
    try:
        while asked:
            yield asked[0][0]
            _forget(asked.popleft()[1])
            asked.extend(map(ask, islice(rest, 1)))
    finally:
        _forget(path for _, paths in asked for path in paths)
        pool.shutdown(wait=False, cancel_futures=True)


_coming: Final[dict[BucketPath, Future[bytes | None]]] = {}
"""What was asked for and not opened yet; None is too large to wait in memory."""


class _Room:
    """The memory that is left for objects to wait in."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken = 0

    def take(self, size: int) -> bool:
        """Whether there was room; nobody waits for it: what is worked on might wait for what comes later."""
        with self._lock:
            if self._taken + size > _MOST_WAITING:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size


_room: Final = _Room()


def _fetch(path: BucketPath) -> bytes | None:
    file = _open(path)
    if file.size > _LARGE or not _room.take(file.size):
        return None
    try:
        return file.read()
    except BaseException:
        _room.give_back(file.size)
        raise


def _take(path: BucketPath) -> Future[bytes | None] | None:
    """What was asked for, which no longer waits."""
    if (coming := _coming.pop(path, None)) is not None:
        coming.add_done_callback(_leave)
    return coming


def _leave(coming: Future[bytes | None]) -> None:
    if not coming.cancelled() and coming.exception() is None:
        _room.give_back(len(coming.result() or b""))


def _forget(paths: Iterable[BucketPath]) -> None:
    """What was not opened, as a file opened before it was faulty."""
    for path in paths:
        _take(path)


def _open(path: BucketPath) -> "_Object":
    with _explaining(path):
        return _Object(path, _file_system(path).open_input_file(_key(path)))


class _Object(io.BufferedIOBase):
    """Reads what it is asked for in one request, and says what went wrong in one line."""

    def __init__(self, path: BucketPath, file: Any):
        self._path = path
        self._file = file
        self.size = file.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self._file.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        with _explaining(self._path):
            data = bytes(self._file.read(wanted))
            if len(data) < wanted:
                raise OSError(f"{wanted:,} bytes are due, and {len(data):,} came")
        return data


class _Listing:
    """Names, sizes and times of all objects below a folder.

    Args:
      root: The folder.

    Raises:
      StageError: the store does not list it to the end, or has names that no file can have.
    """

    def __init__(self, root: BucketPath):
        from pyarrow.fs import FileSelector

        self.root = root
        self._folders: dict[str, dict[str, int | None]] = {}
        """Of each path below the root, the names in it with the place of what is known of an object; None
        is for folders."""
        self._sizes, self._times = array("q"), array("q")
        start = len(_key(root)) + 1
        try:
            with _explaining(root):
                # Page after page of a thousand names; where one does not come, it fails.
                infos = _file_system(root).get_file_info(FileSelector(_key(root), recursive=True))
        except FileNotFoundError:
            infos = []
        for info in infos:
            self._add(info, info.path[start:])

    def _add(self, info: "FileInfo", path: str) -> None:
        folder, _, name = path.rpartition("/")
        names = self._folders.get(folder)
        if names is None:
            names = self._make(folder)
        if info.is_file:
            if name in _NO_NAMES or names.get(name, 0) is None:
                raise self._unnameable(path)
            names[name] = len(self._sizes)
            self._sizes.append(info.size)
            self._times.append(info.mtime_ns or 0)
        else:
            self._make(path)

    def _make(self, folder: str) -> dict[str, int | None]:
        """Enters a folder, and those above it; many stores tell of objects alone."""
        if (names := self._folders.get(folder)) is None:
            names = self._folders[folder] = {}
            if folder:
                above, _, name = folder.rpartition("/")
                if name in _NO_NAMES or self._make(above).setdefault(name) is not None:
                    raise self._unnameable(folder)
        return names

    def _unnameable(self, path: str) -> StageError:
        return StageError(
            f"{self.root}: the name {path!r} is no file's, because a folder in it has no name or that of an "
            "object; rename it"
        )

    def names(self, asked: BucketPath, folder: str) -> tuple[list[str], list[str]]:
        """Returns subfolders and files right in a folder, both sorted."""
        if (names := self._folders.get(folder)) is None:
            raise _not_there(asked)
        return (
            sorted(name for name, place in names.items() if place is None),
            sorted(name for name, place in names.items() if place is not None),
        )

    def stat(self, asked: BucketPath, path: str) -> os.stat_result:
        folder, _, name = path.rpartition("/")
        place = self._folders.get(folder, {}).get(name) if path else None
        if place is not None:
            return _status(asked, _FILE, self._sizes[place], self._times[place])
        return _status(asked, _FOLDER if path in self._folders else 0)


_listings: Final[dict[BucketPath, _Listing]] = {}

# pyarrow.fs.FileType, which takes a while to import.
_FILE, _FOLDER = 2, 3


def _listing_of(path: BucketPath) -> tuple[_Listing, str] | None:
    """The listing that knows a path, and what it calls it."""
    for root, listing in tuple(_listings.items()):
        depth = len(root.parts)
        if path.parts[:depth] == root.parts:
            return listing, "/".join(path.parts[depth:])
    return None


def _status(path: BucketPath, kind: int, size: int = 0, time: int = 0) -> os.stat_result:
    if kind not in (_FILE, _FOLDER):
        raise _not_there(path)
    mode = stat.S_IFREG if kind == _FILE else stat.S_IFDIR
    seconds = time // 10**9
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, *[seconds] * 3), {"st_mtime_ns": time})


def _key(path: BucketPath) -> str:
    """A path as Arrow has it, ``BUCKET/FOLDER/FILE``."""
    return "/".join(path.parts[1:])


def _file_system(path: BucketPath) -> "FileSystem":
    scheme, bucket = path.parts[:2]
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    if scheme == "minio:" and not endpoint:
        raise StageError(f"{path}: {_ENDPOINTS[0]} must say where this store is, such as http://minio:9000")
    return _connect(scheme, bucket, endpoint)


@lru_cache
def _connect(scheme: str, bucket: str, endpoint: str) -> "FileSystem":
    from pyarrow import fs

    if scheme == "gs:":
        # Its copy of OpenSSL looks for authorities where no Debian has them.
        known = ssl.get_default_verify_paths()
        for variable, path in (
            (known.openssl_cafile_env, known.cafile),
            (known.openssl_capath_env, known.capath),
        ):
            if path is not None:
                os.environ.setdefault(variable, path)
        return fs.GcsFileSystem(retry_time_limit=_PATIENCE)
    options: dict[str, Any] = {
        # The standard strategy stops to retry anything once it has retried much.
        "retry_strategy": fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
        "connect_timeout": 10,
        "request_timeout": 15,
    }
    if not endpoint:
        # Arrow follows no redirect to the region in which a bucket is.
        return fs.S3FileSystem(region=fs.resolve_s3_region(bucket), **options)
    url = urlsplit(endpoint if "//" in endpoint else f"https://{endpoint}")
    return fs.S3FileSystem(scheme=url.scheme, endpoint_override=url.netloc, **options)


@contextmanager
def _explaining(path: BucketPath) -> Iterator[None]:
    """Says what a store did not do; see `BucketPath`."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError:
        raise _not_there(path) from None
    except (OSError, ArrowException, ValueError) as error:
        # Google's client adds a kilobyte of metadata.
        reason = " ".join(str(error).split()).partition(" error_info=")[0]
        raise StageError(f"{path} cannot be read: {reason}; {_REMEDY[path.parts[0]]}") from error


def _not_there(path: BucketPath) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
