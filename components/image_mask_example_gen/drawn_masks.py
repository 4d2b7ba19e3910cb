"""Masks drawn from annotations: the shapes of labelme, and the polygons, run lengths and segments of COCO."""

import base64
import binascii
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
from PIL import ImageDraw

from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError, decode, open_picture
from components.image_mask_example_gen.layouts.coco import Segment
from components.image_mask_example_gen.layouts.labelme import label_of
from components.image_mask_example_gen.layouts.layout import IGNORED
from components.image_mask_example_gen.mask import Palette, PictureMask
from components.image_mask_example_gen.report import Reason
from components.pillow import Image

_LONGEST_OUTLINE: Final = 2_000_000
"""Pixels; pycocotools takes about a hundred bytes for each."""
_FARTHEST: Final = 10
"""Times the longer side: what lies farther out than this is damage."""
_LINE_WIDTH: Final = 10
_POINT_RADIUS: Final = 5
"""Pixels, as ``labelme.utils.shape_to_mask`` draws them."""
_MOST_POINTS: Final = 1_000_000
_LONGEST_OUTLINES: Final = 10 * _LONGEST_OUTLINE
_LARGEST_AREAS: Final = 1 << 34
"""Pixels, of all that is drawn for one image: some seconds of either."""


@dataclass
class _Work:
    """What it takes to draw an image's mask: a few bytes a shape may ask for hours."""

    outlines: float = 0
    areas: float = 0

    def add(self, outline: float, area: float) -> None:
        """Counts a shape; raises ValueError where all of them are too much."""
        self.outlines += outline
        self.areas += area
        if self.outlines > _LONGEST_OUTLINES:
            raise ValueError(f"outlines up to here are longer than {_LONGEST_OUTLINES:,} pixels")
        if self.areas > _LARGEST_AREAS:
            raise ValueError(f"areas up to here have more than {_LARGEST_AREAS:,} pixels")


@dataclass
class SegmentsMask:
    """See `Mask`; the raw values are places in ``dataset.classes``, and 255 counts nowhere."""

    height: int
    width: int
    segments: Sequence[Segment]
    values: Mapping[int, int]
    """Raw value of each category id."""
    background: int
    panoptic: PictureMask | None = None
    palettes: tuple[Palette, ...] = ()

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`; there are no colours."""
        return self._instances() if self.panoptic is None else self._panoptic(self.panoptic)

    def _instances(self) -> np.ndarray:
        drawn = []
        work = _Work()
        for place, segment in enumerate(self.segments):
            runs = _runs(segment.shape, self.height, self.width, work)
            area = sum(end - start for start, end in runs)
            _count(work, 0, area)
            drawn.append((-area, place, runs))
        # A column after the other, as COCO counts.
        flat = np.full(self.width * self.height, self.background, np.uint8)
        for _, place, runs in sorted(drawn, key=lambda item: item[:2]):
            value = self.values[self.segments[place].category]
            for start, end in runs:
                flat[start:end] = value
        return flat.reshape((self.height, self.width), order="F")

    def _panoptic(self, picture: PictureMask) -> np.ndarray:
        colors = picture.read(as_colors=True).astype(np.int64)
        ids = colors[..., 0] + 256 * colors[..., 1] + 65_536 * colors[..., 2]
        found, places = np.unique(ids, return_inverse=True)
        values = {0: self.background} | {
            segment.shape: self.values[segment.category] for segment in self.segments
        }
        if unknown := [int(id) for id in found if id not in values]:
            raise InputRejectedError(
                Reason.LABEL_OUTSIDE_CLASSES, f"the picture has the segment {unknown[0]}, the list has not"
            )
        table = np.array([values[int(id)] for id in found], np.uint8)
        return table[places].reshape(ids.shape)


def _count(work: _Work, outline: float, area: float) -> None:
    try:
        work.add(outline, area)
    except ValueError as error:
        raise _rejected(str(error)) from None


def _runs(shape: Any, height: int, width: int, work: _Work) -> list[tuple[int, int]]:
    """Returns where each run of a segment's pixels starts and ends, counted column by column.

    Raises:
      InputRejectedError: the segment does not fit the image.
    """
    if shape == ():
        raise _rejected("it has a box and no outline")
    runs: list[tuple[int, int]] = []
    for counts in _counts(shape, height, width, work):
        ends = [0, *accumulate(counts)]
        if min(counts, default=0) < 0 or ends[-1] > height * width:
            raise _rejected("run lengths do not fit the image")
        runs += zip(ends[1::2], ends[2::2], strict=False)
    # Parts of one object may lie over each other: its pixels count once.
    merged: list[tuple[int, int]] = []
    for start, end in sorted(runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _counts(shape: Any, height: int, width: int, work: _Work) -> Iterator[Sequence[int]]:
    """Yields the run lengths of each part of a segment."""
    if isinstance(shape, dict):
        if shape.get("size") != [height, width]:
            raise _rejected(
                f"run lengths for {shape.get('size')}, the image has {[height, width]} rows and columns"
            )
        counts = shape.get("counts")
        if isinstance(counts, str):
            yield _decompressed(counts)
        elif isinstance(counts, list) and all(type(count) is int for count in counts):
            yield counts
        else:
            raise _rejected("run lengths are neither numbers nor a text")
        return
    from pycocotools import mask as coco_mask

    for polygon in shape:
        _count(work, _checked_outline(polygon, height, width), 0)
        [encoded] = coco_mask.frPyObjects([polygon.tolist()], height, width)
        yield _decompressed(encoded["counts"].decode("ascii"))


def _checked_outline(polygon: array, height: int, width: int) -> float:
    """The length of an outline; refuses what pycocotools would take gigabytes for, or read past its end."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise _rejected(f"a polygon of {len(polygon)} numbers; three points have six")
    points = np.asarray(polygon).reshape(-1, 2)
    if not (np.isfinite(points).all() and np.abs(points).max() <= _FARTHEST * max(height, width)):
        raise _rejected("a polygon that lies far outside the image")
    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
    length = float(steps.sum()) + len(points)
    if length > _LONGEST_OUTLINE:
        raise _rejected(f"a polygon whose outline is longer than {_LONGEST_OUTLINE:,} pixels")
    return length


def _decompressed(text: str) -> list[int]:
    """Reads COCO's compressed run lengths: 5 bits a letter,
    from the fourth on differences to the last but one.

    Source: ``rleFrString`` in ``maskApi.c``. That one trusts the text; this does not.
    """
    counts: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise _rejected("run lengths that are no compressed ones")
        number |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            number -= (bits & 0x10) and 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return counts


def _rejected(found: str) -> InputRejectedError:
    return InputRejectedError(Reason.NOT_DECODABLE, f"a segment cannot be drawn: {found}")


@dataclass
class ShapesMask:
    """See `Mask`; the raw values are places in ``dataset.classes``, and 255 counts nowhere."""

    height: int
    width: int
    shapes: Sequence[dict[str, Any]]
    values: Mapping[str | None, int]
    """Raw value of each label."""
    background: int
    palettes: tuple[Palette, ...] = ()

    def read(self, as_colors: bool) -> np.ndarray:
        """See `Mask`; there are no colours."""
        canvas = Image.new("L", (self.width, self.height), self.background)
        draw = ImageDraw.Draw(canvas)
        work = _Work()
        for number, shape in enumerate(self.shapes):
            value = self.values.get(label_of(shape), IGNORED)
            try:
                _draw(draw, canvas, shape, value, work)
            except (TypeError, ValueError, KeyError, OverflowError, binascii.Error) as error:
                raise InputRejectedError(
                    Reason.NOT_DECODABLE, f"shape {number} ({shape['label']!r}) cannot be drawn: {error}"
                ) from None
        return np.asarray(canvas)


def _draw(draw: Any, canvas: Image.Image, shape: dict[str, Any], value: int, work: _Work) -> None:
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape["points"], limit=_FARTHEST * max(canvas.size))
    work.add(_outline(points, radius=_POINT_RADIUS), _area(points, kind, canvas))
    if kind == "polygon" or kind == "oriented_rectangle":
        if len(points) < 3:
            raise ValueError(f"{len(points)} points make no polygon")
        draw.polygon(points, fill=value, outline=value)
    elif kind == "rectangle":
        draw.rectangle(_box(points), fill=value, outline=value)
    elif kind == "circle":
        (x, y), (on_x, on_y) = points
        radius = math.hypot(on_x - x, on_y - y)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=value, outline=value)
    elif kind in ("line", "linestrip"):
        draw.line(points, fill=value, width=_LINE_WIDTH)
    elif kind in ("point", "points"):
        for x, y in points:
            radius = _POINT_RADIUS
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=value, outline=value)
    elif kind == "mask":
        (left, top, _, _) = _box(points)
        data = base64.b64decode(shape["mask"])
        picture = open_picture(data, ANY_SIZE)
        if picture.width * picture.height > canvas.width * canvas.height:
            raise ValueError(f"its mask of {picture.width} x {picture.height} is larger than the image")
        work.add(0, picture.width * picture.height)
        stamp = decode(data, picture, "L")
        canvas.paste(value, (round(left), round(top)), stamp.point(lambda pixel: 255 * (pixel > 0)))
    else:
        raise ValueError(f"shape_type {kind!r} is not known here")


def _points(points: Any, limit: float) -> list[tuple[float, float]]:
    """Checks what would otherwise take ages to draw."""
    if len(points) > _MOST_POINTS:
        raise ValueError(f"{len(points):,} points")
    pairs = [(float(x), float(y)) for x, y in points]
    if not all(abs(number) <= limit for pair in pairs for number in pair):
        raise ValueError("points lie far outside the image")
    return pairs


def _outline(points: list[tuple[float, float]], radius: float) -> float:
    """The length of the lines from point to point and back, and of what marks each point."""
    corners = np.asarray(points).reshape(-1, 2)
    steps = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1)
    return float(steps.sum()) + 2 * radius * len(corners)


def _area(points: list[tuple[float, float]], kind: str, canvas: Image.Image) -> float:
    """Of the canvas, at most what is filled; a stamp says itself how large it is."""
    if kind == "circle":
        (x, y), (on_x, on_y) = points
        return min(canvas.width * canvas.height, (2 * math.hypot(on_x - x, on_y - y)) ** 2)
    if kind not in ("polygon", "oriented_rectangle", "rectangle"):
        return 0
    sides = np.ptp(np.clip(np.asarray(points).reshape(-1, 2), 0, canvas.size), axis=0)
    return float(np.prod(sides))


def _box(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = points
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
