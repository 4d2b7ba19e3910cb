"""How pictures come to the network: whole, or in windows at their own size, by what each would lose."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from components.dataset.contracts import LITTLE_LOST
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.imaging.reading import InputSize, ResizeMethod
from components.metrics.ceiling import ceiling_confusion, ceiling_iou
from models.options import stride
from pipeline.init.files import in_threads
from pipeline.init.inspection import Dataset

PIXELS: Final = 256 * 256
"""Of the network's input: what the recipes for street scenes and pets take."""
_GROWTH: Final = (1.5, 2.0, 3.0)
"""Factors of it that are tried for whole pictures. Beyond, a training of some minutes has few steps left."""
_SCALES: Final = (0.25, 0.5)
"""Of pictures in windows, where they are larger than they need be."""
_ONE_SHAPE: Final = 1.1
"""Aspect ratios within this factor are one shape."""
_MOST_LEVELS: Final = 5
_SHORTEST_BOTTOM: Final = 4
"""Fewer pixels along a side at the deepest level show it no picture any more."""
_FEWEST_MASKS: Final = 3
_MOST_MASKS: Final = 60
_MASK_PIXELS: Final = 12_000_000
"""Of more than ``_FEWEST_MASKS``: half a second for each size that is tried."""
_CLEAR: Final = 1000
"""Pixels of a class in the sample, of which a ceiling is no noise."""
_RARE: Final = 0.001
"""The share of the pixels below which a class does not decide, unless every other mask holds it."""
_SHOWN: Final = 4
_FEWEST_TO_COMPARE: Final = 8
"""Masks that tell whether pictures have an up."""
_OFF_MIDDLE: Final = 0.05
"""Of a side. Sky and road lie 0.3 away, pets and clothes 0.1."""


class Shape(NamedTuple):
    """Of the images."""

    width: float
    height: float
    """The usual ones, pixels."""
    aspect: float
    """Of the network's input, width / height."""
    low: float
    high: float
    """What aspect ratios lie between, but for the tenth at each end."""

    @property
    def is_one(self) -> bool:
        """Whether all images have (nearly) one shape."""
        return self.high <= self.low * _ONE_SHAPE


@dataclass(frozen=True)
class Ceiling:
    """What no training can pass at a size, by the masks of a sample."""

    size: InputSize
    iou: Mapping[str, float]
    """Of each class that decides, the lowest first."""

    @property
    def keeps_all(self) -> bool:
        """Whether no class that decides loses much."""
        return all(iou >= LITTLE_LOST for iou in self.iou.values())

    @property
    def lost(self) -> str:
        """The classes that lose most, and their ceilings, for people."""
        low = [(name, iou) for name, iou in self.iou.items() if iou < LITTLE_LOST]
        shown = ", ".join(f"{iou:.2f} for {name}" for name, iou in low[:_SHOWN])
        more = len(low) - _SHOWN
        return f"{shown} and less than {LITTLE_LOST} for {more} more" if more > 0 else shown


@dataclass(frozen=True)
class ProposedInput:
    """The network's input, and why."""

    size: InputSize
    levels: int
    """Of the network."""
    shape: Shape
    masks: int
    """How many were measured."""
    usual: Ceiling
    """Of whole pictures at the usual size, which is tried first."""
    has_no_up: bool
    """Whether classes lie alike above and below, and left and right."""

    @property
    def is_native(self) -> bool:
        """Whether pictures come in windows."""
        return self.size.method == "native"

    @property
    def said(self) -> str:
        """What was measured, and what follows, for people; empty where no class was clear enough."""
        if not self.usual.iou:
            return ""
        measured = f"({self.masks} masks measured)"
        whole = f"At {self.usual.size.width} x {self.usual.size.height} px"
        if self.usual.keeps_all:
            least, iou = next(iter(self.usual.iou.items()))
            return (
                f"{whole} the masks keep an IoU of {iou:.2f} for {least}, and no less for others {measured}"
            )
        lost = f"{whole} no training can pass IoU {self.usual.lost} {measured}"
        input_size = f"{self.size.width} x {self.size.height} px"
        if not self.is_native:
            return f"{lost}; at {input_size} every class keeps {LITTLE_LOST}"
        at_scale = "" if self.size.scale == 1 else f", at {self.size.scale:g} of the pictures' size"
        return f"{lost}; windows of {input_size}{at_scale or ', at their own size,'} keep every class"


def propose_input(dataset: Dataset) -> ProposedInput:
    """Takes the smallest whole pictures that keep every class, otherwise windows.

    What a class keeps is measured on a sample of the masks. Windows are of pictures at their own size, or at
    the smallest scale that keeps every class.
    """
    found = dataset.inspection
    sizes = np.array([found.images[entry.image].size for entry in found.entries])
    shape = _shape(sizes)
    levels = _levels(int(np.median(sizes.min(axis=1))))
    pixels = float(np.median(sizes[:, 0] * sizes[:, 1]))
    measure = _Measure(dataset)
    usual = last = None
    for size in _candidates(shape, pixels, stride(levels)):
        last = measure.ceiling(size)
        usual = usual or last
        if last.keeps_all:
            break
    assert usual is not None and last is not None, "there is at least the usual size"
    no_up = measure.has_no_up()
    return ProposedInput(last.size, levels, shape, len(measure.masks), usual, no_up)


def _shape(sizes: np.ndarray) -> Shape:
    """``sizes`` are widths and heights, integers [images, 2]."""
    aspects = sizes[:, 0] / sizes[:, 1]
    width, height, aspect = (float(np.median(values)) for values in (*sizes.T, aspects))
    low, high = (float(np.quantile(aspects, share)) for share in (0.1, 0.9))
    shape = Shape(width, height, aspect, low, high)
    return shape if shape.is_one or not low < 1 < high else shape._replace(aspect=1.0)


def _levels(side: int) -> int:
    """As many as leave something to see at the deepest one; ``side`` is the shorter one, pixels."""
    levels = _MOST_LEVELS
    while levels > 2 and side // stride(levels) < _SHORTEST_BOTTOM:
        levels -= 1
    return levels


def _candidates(shape: Shape, pixels: float, step: int) -> Iterator[InputSize]:
    """Yields what to try, the cheapest first; the last one loses nothing.

    Args:
        shape: of the images.
        pixels: of the usual one.
        step: the network's stride.
    """
    method: ResizeMethod = "stretch" if shape.is_one else "letterbox"
    largest = 0.0
    for growth in (1.0, *_GROWTH):
        # The images' shape, never enlarged, multiples of the stride.
        within = min(PIXELS * growth, pixels)
        if within > largest:
            sides = (math.sqrt(within / shape.aspect), math.sqrt(within * shape.aspect))
            height, width = (max(step, round(side / step) * step) for side in sides)
            yield InputSize(height, width, method)
        largest = within
    for scale in (*_SCALES, 1.0):
        if scale == 1 or pixels * scale**2 >= largest:
            yield InputSize(*_window(shape.height * scale, shape.width * scale, step), "native", scale)


def _window(height: float, width: float, step: int) -> tuple[int, int]:
    """Returns a window's height and width: square, unless the usual picture ends before."""
    longest = [math.ceil(side / step) * step for side in (height, width)]
    side = round(math.sqrt(PIXELS))
    if min(longest) < side:
        # What one side lacks the other has, so that a window shows as much of a picture.
        side = PIXELS // min(longest)
    return min(longest[0], side // step * step), min(longest[1], side // step * step)


class _Measure:
    """Ceilings of a sample of the masks."""

    def __init__(self, dataset: Dataset):
        self._names = dataset.settings.label_set().names
        self.masks = _sample(dataset)
        pixels = [np.bincount(mask.ravel(), minlength=256)[: len(self._names)] for mask in self.masks]
        self._decides = _decide(np.array(pixels).reshape(-1, len(self._names)))

    def ceiling(self, size: InputSize) -> Ceiling:
        count = partial(ceiling_confusion, size=size, num_classes=len(self._names))
        # No class decides where no mask could be read.
        iou = ceiling_iou(sum(in_threads(count, self.masks), np.zeros((len(self._names),) * 2, np.int64)))
        ranked = sorted((float(iou[index]), self._names[index]) for index in self._decides)
        return Ceiling(size, {name: value for value, name in ranked})

    def has_no_up(self) -> bool:
        """Whether no class that decides lies higher or lower than the middle, or further left or right.

        The mean over masks of the middle of a class's pixels must lie so near to that of the picture that,
        as far as so few masks can tell, it is nowhere else.
        """
        if len(self.masks) < _FEWEST_TO_COMPARE or not self._decides:
            return False
        return all(self._lies_in_the_middle(index) for index in self._decides)

    def _lies_in_the_middle(self, class_id: int) -> bool:
        middles = []
        for mask in self.masks:
            rows, columns = (np.count_nonzero(mask == class_id, axis=axis) for axis in (1, 0))
            if rows.any():
                middles.append([_middle(rows), _middle(columns)])
        deviation = np.std(middles, axis=0) / math.sqrt(len(middles))
        return bool((np.abs(np.mean(middles, axis=0)) + 2 * deviation < _OFF_MIDDLE).all())


def _middle(counts: np.ndarray) -> float:
    """Returns where the mean of pixels lies that were counted line by line: -0.5 … 0.5 of all lines."""
    places = (np.arange(len(counts)) + 0.5) / len(counts) - 0.5
    return float(places @ counts / counts.sum())


def _decide(pixels: np.ndarray) -> Sequence[int]:
    """Returns the classes whose ceilings are no noise; ``pixels`` are integers [masks, classes]."""
    total, held = pixels.sum(axis=0), (pixels > 0).sum(axis=0)
    masks = len(pixels)
    common = (total >= _RARE * total.sum()) | (2 * held >= masks)
    clear = (total >= _CLEAR) & (held >= min(_FEWEST_MASKS, masks))
    return np.flatnonzero(common & clear).tolist()


def _sample(dataset: Dataset) -> list[np.ndarray]:
    """Reads class ids, uint8 [height, width]; ignored ones among them."""
    found, settings = dataset.inspection, dataset.settings
    names, ignored = settings.raw_labels()
    mapping = LabelMapping(names, ignored, settings.label_set().names, settings.label_tolerance)
    layout = settings.source
    entries = {found.root / entry.mask: entry for entry in found.entries}

    paths: list[Path] = []
    pixels = 0
    # Read in random order.
    for path, _ in found.labels.contents[:_MOST_MASKS]:
        if path not in entries:
            continue
        header = found.masks[entries[path].mask]
        pixels += header.width * header.height
        if pixels > _MASK_PIXELS and len(paths) >= _FEWEST_MASKS:
            break
        paths.append(path)

    def read(path: Path) -> np.ndarray | None:
        entry = entries[path]
        try:
            return mapping.class_ids(layout.open_mask(found.root, entry, ANY_SIZE).read(mapping.of_colors))
        except InputRejectedError:
            # The preview says it where no mask can be read.
            return None

    read_masks = in_threads(read, paths)
    return [mask for mask in read_masks if mask is not None]
