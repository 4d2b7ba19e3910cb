"""Decoded pictures, uint8: how they are kept for all epochs, in memory or on disk."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from components.errors import StageError

logger = logging.getLogger(__name__)

KEPT_ON_DISK: Final = "more decoded pixels than training.cache_bytes: they are kept on disk"


class Picture(NamedTuple):
    """A picture, or a window of one."""

    image: np.ndarray
    """uint8 [height, width, channels]"""
    class_ids: np.ndarray
    """uint8 [height, width]"""


Pairs = Iterable[tuple[np.ndarray, np.ndarray]]
"""Images and class ids, or batches of them."""


class EqualPictures:
    """Pictures of one size, by number, decoded when ``fill`` is called.

    They lie in one array, or one behind the other in a file. That is read anew for each batch and not mapped:
    what the process holds is the same however many there are, and the system keeps of the file what it has
    memory for.

    Args:
        batches: gives images and class ids, as of ``read``.
        count: the number of pictures.
        shape: height, width and channels of each.
        file: where they are kept; None keeps them in memory.
    """

    def __init__(
        self, batches: Callable[[], Pairs], count: int, shape: tuple[int, int, int], file: Path | None
    ):
        self.shape = shape
        self._batches, self._count, self._file = batches, count, file
        self._bytes = pair_bytes(*shape)
        self._rows: np.ndarray | None = None
        """Of an image and its class ids each; none where they are in the file."""

    def __len__(self) -> int:
        return self._count

    def fill(self) -> None:
        """Decodes the pictures, unless that is done.

        Raises:
            StageError: the disk is full.
            ValueError: there are more or fewer pictures than there should be.
        """
        if self._rows is not None:
            return
        kept = np.empty((0 if self._file else self._count, self._bytes), np.uint8)
        filled = 0
        with _writing(self._file) if self._file else nullcontext() as output:
            for images, class_ids in self._batches():
                rows = np.concatenate([part.reshape(len(part), -1) for part in (images, class_ids)], axis=1)
                if output is None:
                    kept[filled : filled + len(rows)] = rows
                else:
                    output.write(rows.data)
                filled += len(rows)
        if filled != self._count:
            raise ValueError(f"{filled} pictures in place of {self._count}")
        self._rows = kept

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns uint8 images [N, height, width, channels] and uint8 class ids [N, height, width]."""
        if self._rows is None:
            raise ValueError("no pictures yet")
        rows = self._rows[numbers] if self._file is None else self._read_rows(self._file, numbers)
        middle, number = math.prod(self.shape), len(rows)
        images, class_ids = rows[:, :middle], rows[:, middle:]
        return images.reshape(number, *self.shape), class_ids.reshape(number, *self.shape[:2])

    def _read_rows(self, path: Path, numbers: np.ndarray) -> np.ndarray:
        rows = np.empty((len(numbers), self._bytes), np.uint8)
        with path.open("rb", buffering=0) as file:
            for row, number in zip(rows, numbers.tolist(), strict=True):
                file.seek(number * self._bytes)
                if file.readinto(row.data) != self._bytes:
                    raise OSError(f"{path} has lost pixels that were written into it")
        return rows


def pair_bytes(height: int, width: int, channels: int) -> int:
    """Returns what an image and its class ids take."""
    return height * width * (channels + 1)


def keep(pairs: Pairs, budget: int, file: Path) -> list[Picture]:
    """Keeps pictures of any sizes in memory if they take at most ``budget`` bytes, otherwise in ``file``.

    The file is mapped into memory, for parts of pictures are read.

    Raises:
        StageError: the disk is full.
    """
    shapes, held, size = [], [], 0
    with ExitStack() as stack:
        written = None
        for image, class_ids in pairs:
            shapes.append(image.shape)
            held += [np.ascontiguousarray(image), np.ascontiguousarray(class_ids)]
            size += image.nbytes + class_ids.nbytes
            if written is None and size > budget:
                logger.info(KEPT_ON_DISK)
                written = stack.enter_context(_writing(file))
            if written is not None:
                for part in held:
                    written.write(part.data)
                held.clear()
    if written is None:
        return [Picture(*pair) for pair in zip(held[::2], held[1::2], strict=True)]
    return _mapped(file, shapes)


@contextmanager
def _writing(file: Path) -> Iterator[BinaryIO]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as written:
            yield written
    except OSError as error:
        raise StageError(
            f"decoded pixels cannot be kept in {file}: {error.strerror}; make room there, or raise "
            "training.cache_bytes to keep them in memory"
        ) from None


def _mapped(file: Path, shapes: Sequence[tuple[int, ...]]) -> list[Picture]:
    pixels = np.asarray(np.memmap(file, np.uint8, mode="r"))
    pictures, begin = [], 0
    for height, width, channels in shapes:
        middle = begin + height * width * channels
        end = middle + height * width
        image = pixels[begin:middle].reshape(height, width, channels)
        pictures.append(Picture(image, pixels[middle:end].reshape(height, width)))
        begin = end
    return pictures
