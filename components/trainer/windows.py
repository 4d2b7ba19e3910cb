"""Windows of pictures of any size: where they lie, and how they are cut.

Pictures are decoded, so cutting is copying and a batch may mix any of them. Windows are numbered; where each
lies follows from the seed and its number alone, so they can be cut in parallel and, after an interruption,
again.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.trainer.pictures import Picture

_POSITIONS = 64
"""Of each class in each picture that are kept for windows around them, 4 bytes each: a picture of ten classes
has 2.5 KiB of them, 100,000 such pictures have 256 MB."""
_BLOCK_PIXELS = 2**22
"""Searched for classes at once, which takes 8 bytes a pixel."""


class Place(NamedTuple):
    """Where a window lies."""

    picture: int
    """Its index."""
    top: int
    """Of the window, in the picture's pixels; negative where the picture is smaller. Likewise"""
    left: int


def cut(picture: Picture, top: int, left: int, height: int, width: int) -> Picture:
    """Cuts a window of ``height`` x ``width`` pixels, which may exceed the picture.

    Beyond the picture's edges the image is mirrored, without repeating the outermost pixels, and class ids
    are ignored. May be a view of the picture.
    """
    own_height, own_width = picture.class_ids.shape
    first_row, last_row = max(top, 0), min(top + height, own_height)
    first_column, last_column = max(left, 0), min(left + width, own_width)
    class_ids = picture.class_ids[first_row:last_row, first_column:last_column]
    if class_ids.shape == (height, width):
        return Picture(picture.image[first_row:last_row, first_column:last_column], class_ids)
    rows, columns = _mirrored(top, height, own_height), _mirrored(left, width, own_width)
    image = picture.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    image = image.take(rows - rows.min(), axis=0).take(columns - columns.min(), axis=1)
    around = np.full((height, width), IGNORE_LABEL, np.uint8)
    around[first_row - top : last_row - top, first_column - left : last_column - left] = class_ids
    return Picture(image, around)


def _mirrored(start: int, length: int, size: int) -> np.ndarray:
    """Returns which of ``size`` pixels in a line is seen at ``length`` positions from ``start`` on."""
    period = max(1, 2 * (size - 1))
    positions = np.arange(start, start + length) % period
    return np.minimum(positions, period - positions)


def grid(pictures: Sequence[Picture], height: int, width: int) -> list[Place]:
    """Returns the windows, row by row, that side by side cover pictures; the last ones may exceed them."""
    return [
        Place(index, top, left)
        for index, picture in enumerate(pictures)
        for top in range(0, picture.class_ids.shape[0], height)
        for left in range(0, picture.class_ids.shape[1], width)
    ]


def cut_of_grid(picture: Picture, place: Place, height: int, width: int) -> Picture:
    """Cuts a window of the grid, moved to lie inside the picture where it can.

    What it then shares with its neighbours is ignored: all windows together count every pixel once. In a
    picture that is smaller, it lies about the centre.
    """
    # Of the space that is left over; below 0 where the picture is smaller.
    spare = [own - side for own, side in zip(picture.class_ids.shape, (height, width), strict=True)]
    top, left = (min(start, max(rest, rest // 2)) for start, rest in zip(place[1:], spare, strict=True))
    window = cut(picture, top, left, height, width)
    class_ids = window.class_ids.copy()
    class_ids[: place.top - top] = IGNORE_LABEL
    class_ids[:, : place.left - left] = IGNORE_LABEL
    return Picture(window.image, class_ids)


class RandomWindows:
    """Numbered windows at random places of some pictures.

    Pictures are dealt out in rounds, in each of which a picture has as many windows as its pixels fill, one
    at least, in an order of its own. So every picture comes by, and none much more often than its size asks
    for, however short an epoch is. Windows lie inside, as evenly as they can: few show what is at the border.

    A share of the windows is laid around a pixel of a class instead: of a class drawn first, evenly among
    those that occur but for the commonest, which the others show, in a picture drawn evenly among those that
    have it. The pixel lies anywhere in the middle half of the window, which an enlargement to twice the size
    still shows.

    Args:
        pictures: at least one.
        height, width: of a window.
        num_classes: class ids from here on are not sought.
        foreground: the share of windows around a pixel of a class.
        seed: of it all.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        height: int,
        width: int,
        *,
        num_classes: int,
        foreground: float,
        seed: int,
    ):
        self._pictures = pictures
        self.height, self.width = height, width
        self.channels: int = pictures[0].image.shape[-1]
        self.seed = seed
        counts = [max(1, -(-picture.class_ids.size // (height * width))) for picture in pictures]
        self._round = np.repeat(np.arange(len(pictures), dtype=np.int32), counts)
        # A closure: a cached method would keep this object, and the pixels, alive.
        windows = self._round
        self._dealt: Callable[[int], np.ndarray] = lru_cache(maxsize=2)(
            lambda number: np.random.default_rng([seed, 0, number]).permutation(windows)
        )
        self._foreground = foreground
        self._sought = _positions(pictures, num_classes, seed) if foreground else []
        """For each class that is sought, the pictures that have it and some of its places in each."""

    @property
    def covering(self) -> int:
        """How many windows have the pixels of all pictures, one a picture at least."""
        return len(self._round)

    def place(self, number: int) -> Place:
        """Returns where a window lies: inside the picture, or around one that is smaller."""
        random = np.random.default_rng([self.seed, 1, number])
        round_number, position = divmod(number, self.covering)
        index = int(self._dealt(round_number)[position])
        around = None
        if self._sought and random.random() < self._foreground:
            holding = self._sought[random.integers(len(self._sought))]
            index, positions = holding[random.integers(len(holding))]
            around = divmod(int(random.choice(positions)), self._pictures[index].class_ids.shape[1])
        starts = []
        for axis, side in enumerate((self.height, self.width)):
            spare = self._pictures[index].class_ids.shape[axis] - side
            low, high = min(spare, 0), max(spare, 0)
            if around is None:
                starts.append(random.integers(low, high + 1))
            else:
                into = random.integers(side // 4, side - side // 4)
                starts.append(min(max(around[axis] - into, low), high))
        return Place(index, *map(int, starts))

    def cut(self, numbers: Iterable[int], frame: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Cuts windows together with what is around them.

        Args:
            numbers: of the windows.
            frame: height and width of what is cut about each window's centre; an even number of pixels more.

        Returns:
            uint8 images [N, *frame, channels] and uint8 class ids [N, *frame].
        """
        above, before = (frame[0] - self.height) // 2, (frame[1] - self.width) // 2
        images, class_ids = [], []
        for place in map(self.place, numbers):
            picture = self._pictures[place.picture]
            window = cut(picture, place.top - above, place.left - before, *frame)
            images.append(window.image)
            class_ids.append(window.class_ids)
        return np.stack(images), np.stack(class_ids)


def _positions(
    pictures: Sequence[Picture], num_classes: int, seed: int
) -> list[list[tuple[int, np.ndarray]]]:
    """Returns, for each class but the commonest, the index of each picture that has it and some positions."""

    def search(index: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        return _search(pictures[index].class_ids, num_classes, np.random.default_rng([seed, 2, index]))

    holding: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(num_classes)]
    pixels = np.zeros(num_classes, np.int64)
    with ThreadPoolExecutor() as threads:
        for index, (counts, found) in enumerate(threads.map(search, range(len(pictures)))):
            pixels += counts
            for class_id, positions in found.items():
                holding[class_id].append((index, positions))
    if np.count_nonzero(pixels) > 1:
        holding[int(pixels.argmax())] = []
    return [pictures_of_class for pictures_of_class in holding if pictures_of_class]


def _search(
    class_ids: np.ndarray, num_classes: int, random: np.random.Generator
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Returns the pixels of each class, int64 [C], and flat positions of some of them, uint32, by class."""
    flat = class_ids.reshape(-1)
    starts = range(0, flat.size, _BLOCK_PIXELS)
    blocks = [flat[start : start + _BLOCK_PIXELS] for start in starts]
    counts = np.stack([np.bincount(block, minlength=256)[:num_classes] for block in blocks])
    found = {}
    for class_id in np.flatnonzero(counts.sum(axis=0)).tolist():
        ends = counts[:, class_id].cumsum()
        ranks = random.choice(ends[-1], min(int(ends[-1]), _POSITIONS), replace=False)
        positions = []
        for start, block, end, count in zip(starts, blocks, ends, counts[:, class_id], strict=True):
            inside = ranks[(ranks >= end - count) & (ranks < end)] - (end - count)
            if inside.size:
                positions.append(start + np.flatnonzero(block == class_id)[inside])
        found[class_id] = np.concatenate(positions).astype(np.uint32)
    return counts.sum(axis=0), found
