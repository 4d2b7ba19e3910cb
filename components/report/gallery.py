"""Which test examples a page shows, and their pictures, small enough to travel within it."""

import base64
import hashlib
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from components.dataset.features import IGNORE_LABEL
from components.dataset.labels import LabelSet
from components.imaging.deep import as_picture, is_deep_png, read_png, unstacked
from components.imaging.drawing import as_rgb, class_map
from components.imaging.exif import orientation_of, swaps_sides, turned
from components.imaging.palette import Color, told_apart, with_ignored
from components.imaging.reading import FULL_RANGE, RGB, Reading
from components.metrics.confusion import Margins, decode_mask
from components.metrics.table import MEAN_IOU
from components.pillow import Image
from components.report.data import GalleryItem
from components.report.examples import Example, read_split
from components.report.predictions import Candidate, Predictions

_EACH: Final = 4
"""Worst, median and best ones."""
_RANDOM: Final = 8
_FOR_CLASSES: Final = 12
"""At most so many more, to show classes that the others do not."""
_SIDES: Final = (384, 320, 256, 192, 128, 96)
"""Of a thumbnail, pixels; the largest with which all fit."""
_MOST_BYTES: Final = 3_000_000
_PAGE_BYTES: Final = 4_500_000
"""Of pictures and confusion matrix together, so that a page stays under 5 MB."""
_CELL_BYTES: Final = 45
"""Of the page, for each cell of the confusion matrix."""
_QUALITY: Final = 78
RIGHT_COLOR: Final[Color] = (214, 227, 236)
WRONG_COLOR: Final[Color] = (213, 94, 0)
"""Vermillion of the palette by Okabe and Ito."""


def gallery(
    split_dir: Path, candidate: Candidate, predictions: Predictions, labels: LabelSet, reading: Reading
) -> tuple[GalleryItem, ...]:
    """Returns the chosen examples of a split, worst first; ``reading`` is how the model reads images."""
    ious = MEAN_IOU(predictions.margins).tolist()
    chosen = choose(ious, [image.name for image in predictions.images], predictions.margins)
    examples = (example for index, example in enumerate(read_split(split_dir)) if index in chosen)
    shown = dict(zip(sorted(chosen), candidate.masks(examples), strict=True))
    order = sorted(chosen, key=lambda index: (math.isnan(ious[index]), ious[index], index))
    items: tuple[GalleryItem, ...] = ()
    for side in _SIDES:
        items = tuple(
            _item(
                *shown[index],
                ious[index],
                chosen[index],
                labels,
                side,
                reading,
            )
            for index in order
        )
        if sum(map(_bytes, items)) <= most_bytes(labels.num_classes):
            break
    return items


def most_bytes(num_classes: int) -> int:
    """Returns how large all pictures together may be, beside a confusion matrix of so many classes."""
    return min(_MOST_BYTES, _PAGE_BYTES - _CELL_BYTES * num_classes**2)


def choose(ious: Sequence[float], names: Sequence[str], counts: Margins) -> dict[int, list[str]]:
    """Returns the indices of the examples to show, and why each.

    The random ones depend on the names alone: two runs on the same images show the same.

    Args:
        ious: of the images; NaN where there is nothing to measure.
        names: of the images.
        counts: of each image's confusion matrix, int64 [N, C] each.
    """
    chosen: dict[int, list[str]] = {}

    def take(indices: Iterable[int], why: str) -> None:
        for index in indices:
            chosen.setdefault(int(index), []).append(why)

    measured = (index for index, iou in enumerate(ious) if not math.isnan(iou))
    ranked = sorted(measured, key=lambda index: ious[index])
    middle = max(0, (len(ranked) - _EACH) // 2)
    take(ranked[:_EACH], "worst")
    take(ranked[middle : middle + _EACH], "median")
    take(ranked[::-1][:_EACH], "best")
    by_hash = sorted(range(len(names)), key=lambda index: hashlib.sha256(names[index].encode()).digest())
    take(by_hash[:_RANDOM], "random")
    total = counts.truth.sum(axis=0)
    for _ in range(_FOR_CLASSES):
        seen = counts.truth[list(chosen)].sum(axis=0)
        unseen = (seen == 0) & (total > 0)
        if not unseen.any():
            break
        # The image with the most pixels of the commonest class that nobody has seen yet.
        missing = int(np.argmax(np.where(unseen, total, 0)))
        take([int(np.argmax(counts.truth[:, missing]))], "class")
    return chosen


def _item(
    example: Example,
    predicted: bytes,
    iou: float,
    why: Sequence[str],
    labels: LabelSet,
    side: int,
    reading: Reading,
) -> GalleryItem:
    size = fitted(example.width, example.height, side)
    truth, prediction = decode_mask(example.mask), decode_mask(predicted)
    present = np.union1d(truth, prediction[truth != IGNORE_LABEL])
    small = [Image.fromarray(mask).resize(size, Image.Resampling.NEAREST) for mask in (truth, prediction)]
    truth, prediction = map(np.asarray, small)
    colors = told_apart(labels.palette)
    return GalleryItem(
        name=example.name,
        why=tuple(why),
        iou=None if math.isnan(iou) else iou,
        width=size[0],
        height=size[1],
        own_size=(example.width, example.height),
        class_ids=tuple(int(class_id) for class_id in present if class_id != IGNORE_LABEL),
        image=photograph(example.image, size, reading),
        truth=mask_picture(truth, colors),
        prediction=mask_picture(prediction, colors),
        errors=error_picture(truth, prediction),
    )


def _bytes(item: GalleryItem) -> int:
    return sum(map(len, (item.image, item.truth, item.prediction, item.errors)))


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Returns the size of a thumbnail whose longer side is ``side``; nothing is enlarged."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def photograph(encoded: bytes, size: tuple[int, int], reading: Reading = RGB) -> str:
    """Returns an encoded image as a data URI, at the size given.

    Args:
        encoded: of an Example.
        size: width and height, pixels, of the picture as the model reads it.
        reading: how the model reads it.
    """
    orientation = orientation_of(encoded) if reading.upright else 1
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", size[::-1] if swaps_sides(orientation) else size)
        if reading.bands is not None:
            bands = unstacked(read_png(encoded), len(reading.bands))
            rgb = as_picture(bands, reading.value_range or FULL_RANGE)
        elif is_deep_png(encoded):
            rgb = as_picture(read_png(encoded), reading.value_range or FULL_RANGE)
        else:
            rgb = as_rgb(image)
    small = turned(rgb, orientation).resize(size, Image.Resampling.BOX)
    return _data_uri(small, "webp", quality=_QUALITY, method=6)


def mask_picture(class_ids: np.ndarray, colors: Sequence[Color]) -> str:
    """Returns class ids, uint8 [height, width], as a data URI; ignored pixels are transparent."""
    picture = class_map(class_ids, with_ignored(colors))
    return _data_uri(picture, "png", optimize=True, transparency=IGNORE_LABEL)


def error_picture(truth: np.ndarray, prediction: np.ndarray) -> str:
    """Returns where two masks, uint8 [height, width] each, agree and where not, as a data URI.

    Pixels that the truth ignores are transparent.
    """
    wrong = np.where(truth == IGNORE_LABEL, IGNORE_LABEL, truth != prediction).astype(np.uint8)
    return mask_picture(wrong, (RIGHT_COLOR, WRONG_COLOR))


def _data_uri(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
