"""What the stage reads besides its parameters: the dataset's files, and their fingerprint."""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Strict

from components.bucket import BucketPath, is_remote, path_of
from components.errors import StageError, printable
from components.image_mask_example_gen.config import DatasetConfig
from components.imaging.reading import Bands, Reading
from components.run_parameters import settings_of_run
from components.settings import Settings

DATASET_KEY: Final = "dataset"
FINGERPRINT_KEY: Final = "fingerprint"
_NO_FILE: Final = "no file"
_DRAWN: Final = "drawn"
_CONTENTS: Final = "contents-"
"""Before a fingerprint of contents, which no later look at sizes and times can be compared with."""
_THREADS: Final = 8
_FILES_AT_ONCE: Final = 16
"""By one thread: each question takes 2 kB of memory until it is answered, and time, whatever it asks."""


class IngestionSettings(Settings):
    """What the stage needs to know, but for the classes."""

    dataset: DatasetConfig
    bands: Annotated[Bands, Strict(False)] | None = None
    """Those that are read of each image, see ``Reading``."""

    @property
    def reading(self) -> Reading:
        """How images are read, but for the channels of those that are no stacks of bands."""
        return Reading(bands=self.bands, exif=self.dataset.exif, value_range=self.dataset.value_range)


def ingestion_settings(exec_properties: Mapping[str, Any]) -> IngestionSettings:
    """Returns the settings with the root that this run reads from."""
    return settings_of_run(IngestionSettings, exec_properties[DATASET_KEY], exec_properties)


@contextmanager
def opened_root(config: DatasetConfig) -> Iterator[Path]:
    """The folder of a dataset that is not drawn; one in a bucket is listed once, for as long as it is open.

    At the end the layout forgets what it has read there: in a local run it would lie beside the training.

    Raises:
      StageError: it is missing or not what its layout says.
    """
    root = path_of(config.root or "")
    with root.listed() if isinstance(root, BucketPath) else nullcontext():
        try:
            config.check_root()
        except ValueError as error:
            raise StageError(str(error)) from error
        try:
            yield root
        finally:
            config.source.forget()


def fingerprint_inputs(config: DatasetConfig) -> str:
    """Hashes name, size and modification time of every input file; the files are not read.

    The drawn dataset has no input files: its settings say it all.

    Raises:
      StageError: the root is missing or not this layout's folder.
    """
    if config.root is None:
        return _DRAWN
    with opened_root(config) as root:
        _check_lists(config, root)
        return InputFiles(config, root, config.source.scan(root).files).fingerprint


def fingerprint_contents(config: DatasetConfig) -> str:
    """The same of names and contents, whenever and wherever the files were written; all of them are read.

    Of a bucket's objects it is what `fingerprint_inputs` says: to read them costs as much as the ingestion,
    and they are never changed without a new time.

    Raises:
      StageError: the root is missing or not this layout's folder.
    """

    if config.root is None or is_remote(config.root):
        return fingerprint_inputs(config)

    def of_file(name: Path | str) -> str:
        # Unlike os.path, which takes a disk that does not answer for a file that is not there.
        file = Path(name)
        if not file.is_file():
            # A link to what is not there; a pipe has no contents to speak of.
            return os.readlink(file) if file.is_symlink() else _NO_FILE
        with file.open("rb") as content:
            return hashlib.file_digest(content, lambda: blake2b(digest_size=16)).hexdigest()

    digest = blake2b(digest_size=16)
    with opened_root(config) as root:
        _check_lists(config, root)
        paths = (*config.source.scan(root).files, *config.splits.files)
        for lines in _look(root, paths, of_file):
            digest.update(b"".join(lines))
    return f"{_CONTENTS}{digest.hexdigest()}"


def fingerprint_before(config: DatasetConfig, key: str) -> str:
    """Returns what `InputFiles` must say as long as the dataset is what a cache's key was made of.

    Args:
      config: The dataset.
      key: The fingerprint in that key. Where it is one of contents, or there is none, no more is known than
        how the files are now.

    Raises:
      StageError: the root is missing or not this layout's folder.
    """
    if key and not key.startswith(_CONTENTS):
        return key
    if config.root is None:
        return _DRAWN
    with opened_root(config) as root:
        return InputFiles(config, root, config.source.scan(root).files).fingerprint


class InputFiles:
    """The files that an ingestion reads, with what they are like when this is made; none is read.

    Args:
      config: The dataset.
      root: Its folder, which is open.
      found: The files that a scan has found; lists of ``dataset.splits`` come to them.
    """

    def __init__(self, config: DatasetConfig, root: Path, found: Sequence[str]):
        self._root = root
        self._paths = () if config.root is None else (*found, *config.splits.files)
        self._hashes = array("q")
        """Of each file's line. Lines themselves would take as much memory as the names."""
        digest = blake2b(digest_size=16)
        for lines in _look(root, self._paths, _size_and_time):
            digest.update(b"".join(lines))
            self._hashes.extend(map(hash, lines))
        self.fingerprint = _DRAWN if config.root is None else digest.hexdigest()

    def check_same(self, before: str) -> None:
        """Raises StageError where an earlier fingerprint is another one."""
        if self.fingerprint != before:
            raise _changed(f"below {self._root} files came, went or were written anew")

    def check_unchanged(self) -> None:
        """Raises StageError where a file is not as it was; files that came since then were not read."""
        with self._root.listed() if isinstance(self._root, BucketPath) else nullcontext():
            now = chain.from_iterable(_look(self._root, self._paths, _size_and_time))
            for path, before, line in zip(self._paths, self._hashes, now, strict=True):
                if hash(line) != before:
                    raise _changed(printable(str(self._root / path)))


def _changed(what: str) -> StageError:
    return StageError(f"the dataset changed while it was read: {what}; run again once nothing writes to it")


def _check_lists(config: DatasetConfig, root: Path) -> None:
    for path in config.splits.files:
        if not (root / path).exists():
            raise StageError(f"dataset.splits names {path}, and there is no such file under {root}")


def _size_and_time(file: Path | str) -> str:
    try:
        status = file.stat() if isinstance(file, BucketPath) else os.stat(file)
    except OSError:
        # A link that leads nowhere.
        status = os.lstat(file)
    return f"{status.st_size}\0{status.st_mtime_ns}"


def _look(root: Path, paths: Sequence[str], of_file: Callable[[Path | str], str]) -> Iterator[list[bytes]]:
    """Yields a line for each file, some at a time, in their order."""
    # Many small files on a network's disk are a matter of waiting.
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = (paths[start : start + _FILES_AT_ONCE] for start in range(0, len(paths), _FILES_AT_ONCE))
        yield from pool.map(lambda part: _lines(root, part, of_file), parts)


def _lines(root: Path, paths: Sequence[str], of_file: Callable[[Path | str], str]) -> list[bytes]:
    lines = []
    # To make a Path takes longer than to ask a local disk for the file.
    join = root.joinpath if isinstance(root, BucketPath) else partial(os.path.join, root)
    for path in paths:
        try:
            found = of_file(join(path))
        except (FileNotFoundError, NotADirectoryError):
            # One that a list of annotations names: whoever reads the pair rejects it.
            found = _NO_FILE
        lines.append(f"{path}\0{found}\n".encode("utf-8", "surrogateescape"))
    return lines
