"""Which raw label values a folder of masks holds, with their pixels, found by reading a sample of them."""

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from components.dataset.labels import MAX_CLASSES
from components.image_mask_example_gen.checks import palette_difference
from components.image_mask_example_gen.config import RawLabel
from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError
from components.image_mask_example_gen.label_mapping import raw_word
from components.image_mask_example_gen.mask import (
    Mask,
    Palette,
    PictureMask,
    open_mask,
    pack_colors,
    unpack_color,
)
from components.image_mask_example_gen.report import Reason
from pipeline.init import InitError
from pipeline.init.files import in_threads
from pipeline.init.shapes import Shape, measure_shapes
from pipeline.init.smear import Smear, find_smear

_FIRST: Final = 10
"""Looked at before the rest is read."""
_SHAPED: Final = 100
_SHOWN: Final = 5
_FEW_SPOILT: Final = 0.05
"""So many masks are set aside, where more were smeared for the rest to be believed."""
_LEAST_TOLERANCE: Final = 8
_TOLERANCE: Final = 3
"""Times what was seen in the sample, for masks that are not in it."""
_LOSSY_LABELS: Final = 20
_FLAT_LABEL: Final = 0.1
"""Of a label drawn by people or rendered, more than this part of the pixels lies flat; of noise less."""
_MASK_WITH_SOFT_EDGES: Final = 0.5
"""A mask spoilt by a lossy format or by resizing is still this flat; a photo is not."""


OpenMask = Callable[[Path], Mask]


def _open_file(path: Path) -> Mask:
    return open_mask(path, ANY_SIZE)


@dataclass(frozen=True)
class RawLabels:
    """What a sample of the masks holds."""

    masks_read: int
    in_colors: bool
    pixels: Mapping[RawLabel, int]
    """Pixel counts, ordered by raw label."""
    masks: Mapping[RawLabel, int]
    """In how many of the masks read each occurs."""
    shapes: Mapping[RawLabel, Shape]
    """Measured in the first of them only."""
    contents: tuple[tuple[Path, frozenset[RawLabel]], ...]
    """What each mask read holds."""
    unreadable: tuple[tuple[Path, InputRejectedError], ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of the recipe's ``dataset`` block, without which the masks would not be read so."""
    doubts: tuple[str, ...] = ()
    """What to look at in how they were read, a sentence each."""

    @property
    def values(self) -> tuple[RawLabel, ...]:
        return tuple(self.pixels)

    def share(self, value: RawLabel) -> float:
        """The part of all pixels read that has this raw label."""
        return self.pixels.get(value, 0) / sum(self.pixels.values())


@dataclass(frozen=True)
class _Mask:
    """One mask's pixel counts; a colour is the number ``red << 16 | green << 8 | blue``."""

    in_colors: bool
    counts: dict[int, int]
    palettes: tuple[Palette, ...] = ()
    is_one_bit: bool = False


_Masks = dict[Path, _Mask]


def read_raw_labels(
    paths: Sequence[Path],
    formats: Mapping[Path, str],
    opener: OpenMask = _open_file,
    *,
    fixed: bool = False,
) -> RawLabels:
    """Reads the masks.

    Args:
        paths: in random order; the first of them decide whether they are masks at all.
        formats: the format of each, as Pillow says it.
        opener: opens one of them.
        fixed: whether their values are known, so that nothing in them is to be interpreted.

    Raises:
        InitError: they are photos, or were spoilt by a lossy format or by resizing, or hold nothing that
            could be told apart.
    """
    sample = _Sample(opener, formats, fixed)
    first = _count_all(paths[:_FIRST], opener)
    if readable := _readable(first):
        # Photos, and masks beyond repair, are not worth a longer look.
        sample.find_smear(list(readable), any(mask.in_colors for mask in readable.values()))
    read = first | _count_all(paths[_FIRST:], opener)
    masks = _readable(read)
    unreadable = [(path, mask) for path, mask in read.items() if isinstance(mask, InputRejectedError)]
    if not masks:
        path, reason = unreadable[0]
        raise InitError(f"none of the {len(read)} masks opened can be read, such as {path}: {reason.found}")
    in_colors = any(mask.in_colors for mask in masks.values())
    doubts: list[str] = []
    if in_colors:
        # Gray values and a palette's indices are taken as the colours they show, too.
        again = _count_all(
            [path for path, mask in masks.items() if not mask.in_colors], opener, as_colors=True
        )
        unreadable += [(path, mask) for path, mask in again.items() if isinstance(mask, InputRejectedError)]
        masks = {path: mask for path, mask in masks.items() if path not in again} | _readable(again)
    elif not fixed:
        masks, doubts = _without_ambiguous_numbers(masks, opener)
        in_colors = any(mask.in_colors for mask in masks.values())
    keys: dict[str, Any] = {}
    shaped = _shaped(masks)
    shapes, smear = sample.find_smear(shaped, in_colors)
    if smear is not None:
        counted = len(masks)
        masks, beyond, most, doubt = _repaired(masks, smear)
        if len(beyond) > _FEW_SPOILT * counted:
            raise sample.spoilt(shapes, beyond[0][0], in_colors)
        unreadable += beyond
        if doubt:
            shapes = _shapes([path for path in shaped if path in masks], in_colors, opener, smear)
            keys["label_tolerance"] = min(smear.tolerance, max(_LEAST_TOLERANCE, _TOLERANCE * most))
            doubts.append(doubt)
    pixels: Counter[int] = Counter()
    occurrences: Counter[int] = Counter()
    for mask in masks.values():
        pixels.update(mask.counts)
        occurrences.update(mask.counts.keys())
    _check_values(pixels, next(iter(masks)), in_colors)
    name = unpack_color if in_colors else int
    return RawLabels(
        masks_read=len(masks),
        in_colors=in_colors,
        pixels={name(value): pixels[value] for value in sorted(pixels)},
        masks={name(value): count for value, count in occurrences.items()},
        shapes={
            name(value): shape._replace(outline=Counter({name(v): n for v, n in shape.outline.items()}))
            for value, shape in sorted(shapes.items())
            if value in pixels
        },
        contents=tuple((path, frozenset(map(name, mask.counts))) for path, mask in masks.items()),
        unreadable=tuple(unreadable),
        keys=keys,
        doubts=tuple(doubts),
    )


def _readable(read: Mapping[Path, _Mask | InputRejectedError]) -> _Masks:
    return {path: mask for path, mask in read.items() if isinstance(mask, _Mask)}


def _without_ambiguous_numbers(masks: _Masks, opener: OpenMask) -> tuple[_Masks, list[str]]:
    """Reads masks of numbers as the colours they show where a number does not mean the same in all of them.

    Returns:
        The masks, and what there is to say of it.
    """
    difference = palette_difference(
        (path.name, palette) for path, mask in masks.items() for palette in mask.palettes
    )
    kinds = {
        "palette" if mask.palettes else "1-bit" if mask.is_one_bit else "gray" for mask in masks.values()
    }
    if not difference and len(kinds) == 1:
        return masks, []
    shown = _readable(_count_all(list(masks), opener, as_colors=True))
    if len(shown) < len(masks):
        return masks, []
    colors = Counter(color for mask in shown.values() for color in mask.counts)
    if difference:
        if sum(count == 1 for count in colors.values()) <= len(colors) / 2:
            return shown, [
                f"the masks' palettes differ: {difference}; so masks are read by colour, not by number"
            ]
        return masks, [
            f"the masks' palettes differ, and share no colours: {difference}. The run will refuse this, "
            "unless dataset.mask_values: index says that the numbers are right whatever they show"
        ]
    numbers = {value for mask in masks.values() for value in mask.counts}
    grays = all(len(set(unpack_color(color))) == 1 for color in colors)
    if not grays or len(colors) >= len(numbers):
        return masks, []
    return shown, [
        f"masks are {' and '.join(sorted(kinds))}, whose numbers differ where they show the same gray: so "
        "they are read by colour"
    ]


def _shaped(masks: _Masks) -> list[Path]:
    """The first masks, and those that hold what no mask before them does."""
    chosen: list[Path] = []
    seen: set[int] = set()
    for path, mask in masks.items():
        if len(chosen) < _FIRST or not seen.issuperset(mask.counts):
            chosen.append(path)
            seen.update(mask.counts)
    rest = [path for path in masks if path not in set(chosen)]
    return [*chosen, *rest][:_SHAPED]


def _repaired(masks: _Masks, smear: Smear) -> tuple[_Masks, list[tuple[Path, InputRejectedError]], int, str]:
    """Takes each value for the label it is near.

    Returns:
        The masks; those that hold a value which is near none; how far values are off in the rest, and what
        there is to say of it.
    """
    in_colors = smear.labels.shape[1] == 3
    labels = smear.packed_labels
    repaired: _Masks = {}
    beyond: list[tuple[Path, InputRejectedError]] = []
    changed, most, total = 0, 0, 0
    for path, mask in masks.items():
        values = list(mask.counts)
        nearest, away = smear.distances(values)
        if away.max() > smear.tolerance:
            far = _word(values[int(away.argmax())], in_colors)
            shown = ", ".join(_word(label, in_colors) for label in labels[:_SHOWN])
            found = f"raw value {far} is none of {shown}, and near none of them; was the mask smeared?"
            beyond.append((path, InputRejectedError(Reason.LABEL_OUTSIDE_CLASSES, found)))
            continue
        counts: Counter[int] = Counter()
        for value, place, distance in zip(values, nearest.tolist(), away.tolist(), strict=True):
            counts[labels[place]] += mask.counts[value]
            changed += mask.counts[value] if distance else 0
            most = max(most, distance)
        total += sum(counts.values())
        repaired[path] = replace(mask, counts=dict(counts))
    if not changed:
        return masks if not beyond else repaired, beyond, 0, ""
    shown = ", ".join(_word(label, in_colors) for label in labels[:_SHOWN])
    return (
        repaired,
        beyond,
        most,
        f"masks are smeared, as by JPEG or by resizing: {changed / total:.2%} of the pixels are up to {most} "
        f"off {shown} and are taken for the nearest of them, as dataset.label_tolerance says; if one is a "
        "class of its own, this is wrong. Better save masks as PNG, resized with nearest neighbour only",
    )


def looks_like_masks(paths: Sequence[Path]) -> bool:
    """Whether these pictures could be masks."""
    masks = [mask for mask in _count_all(paths[:_FIRST], _open_file).values() if isinstance(mask, _Mask)]
    return bool(masks) and max(len(mask.counts) for mask in masks) <= _LOSSY_LABELS


def _count_all(
    paths: Sequence[Path], opener: OpenMask, *, as_colors: bool = False
) -> dict[Path, _Mask | InputRejectedError]:
    def count(path: Path) -> _Mask | InputRejectedError:
        try:
            return _count(path, opener, as_colors=as_colors)
        except InputRejectedError as rejected:
            return rejected

    return dict(zip(paths, in_threads(count, paths), strict=True))


def _count(path: Path, opener: OpenMask, *, as_colors: bool) -> _Mask:
    mask = opener(path)
    in_colors, raw = _packed(mask.read(as_colors))
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(raw, return_counts=True)
    return _Mask(
        in_colors,
        dict(zip(values.tolist(), counts.tolist(), strict=True)),
        mask.palettes,
        isinstance(mask, PictureMask) and mask.mode == "1",
    )


def _packed(raw: np.ndarray) -> tuple[bool, np.ndarray]:
    """Whether a mask is in colours, and its raw labels as numbers, integers [height, width]."""
    return raw.ndim == 3, pack_colors(raw) if raw.ndim == 3 else raw


def _shapes(
    paths: Sequence[Path], in_colors: bool, opener: OpenMask, smear: Smear | None = None
) -> dict[int, Shape]:
    """How each raw label lies in some masks; with ``smear``, once they are repaired."""
    total: dict[int, Shape] = {}
    for path in paths:
        raw = _packed(opener(path).read(in_colors))[1]
        if smear is not None:
            values, places = np.unique(raw, return_inverse=True)
            labels = np.asarray(smear.packed_labels)[smear.distances(values.tolist())[0]]
            raw = labels[places].reshape(raw.shape)
        for value, shape in measure_shapes(raw).items():
            total[value] = Shape(*map(operator.add, total[value], shape)) if value in total else shape
    return total


class _Sample:
    """Looks at the pixels of some masks, and whether they are pixels of masks.

    Args:
        opener: opens a mask.
        formats: the format of each, as Pillow says it.
        fixed: whether the values are known, so that nothing is repaired.
    """

    def __init__(self, opener: OpenMask, formats: Mapping[Path, str], fixed: bool):
        self._opener = opener
        self._formats = formats
        self._fixed = fixed

    def find_smear(self, paths: Sequence[Path], in_colors: bool) -> tuple[dict[int, Shape], Smear | None]:
        """Returns how each raw label lies, and what was smeared.

        Raises:
            InitError: these are photos, or masks beyond repair.
        """
        shapes = _shapes(paths, in_colors, self._opener)
        noisy = [value for value, shape in shapes.items() if shape.flat < _FLAT_LABEL * shape.pixels]
        formats = {self._formats.get(path) for path in paths}
        # The others may be lossless.
        smears = bool(formats & {"JPEG", "MPO"}) or (
            (len(shapes) > _LOSSY_LABELS or bool(formats & {"WEBP", "JPEG2000"}))
            and len(noisy) > len(shapes) / 2
        )
        spoilt = smears and bool(noisy)
        flat = sum(shape.flat for shape in shapes.values()) / sum(shape.pixels for shape in shapes.values())
        if spoilt and flat < _MASK_WITH_SOFT_EDGES and len(noisy) > len(shapes) / 2:
            kind = "colours" if in_colors else "gray values"
            raise InitError(
                f"--masks: {paths[0]} looks like a photo, not a mask: {len(shapes):,} {kind}, next to no "
                "pixel like its neighbours. A mask has one value or colour a class"
            )
        if self._fixed:
            smear = None
        else:
            read = (_packed(self._opener(path).read(in_colors))[1] for path in paths)
            smear = find_smear(shapes, lambda: read, in_colors=in_colors, lossy=smears)
        if spoilt and smear is None:
            raise self.spoilt(shapes, paths[0], in_colors)
        return shapes, smear

    def spoilt(self, shapes: Mapping[int, Shape], example: Path, in_colors: bool) -> InitError:
        """Says that the masks' values were smeared beyond repair."""
        main = sorted(shapes, key=lambda value: -shapes[value].pixels)[:3]
        kind = self._formats.get(example, "").replace("MPO", "JPEG")
        cause = (
            f"{kind} is a lossy format that blurs the values"
            if kind in ("JPEG", "WEBP", "JPEG2000")
            else "their edges are soft, as after resizing with interpolation"
        )
        return InitError(
            f"--masks: {example} and its like hold {len(shapes):,} "
            f"{'colours' if in_colors else 'gray values'}, mostly "
            f"{', '.join(_word(value, in_colors) for value in main)}: {cause}, and what was meant cannot be "
            "told. Save masks as PNG with exactly one value a class, resized with nearest neighbour only"
        )


def _check_values(pixels: Mapping[int, int], example: Path, in_colors: bool) -> None:
    if len(pixels) < 2:
        what = _word(next(iter(pixels)), in_colors)
        raise InitError(f"--masks: every mask read holds {what} and nothing else: nothing to tell apart")
    if min(pixels) < 0:
        raise InitError(f"--masks: the value {min(pixels)} stands in masks; raw values are 0 … 65535")
    if len(pixels) > MAX_CLASSES:
        raise InitError(
            f"--masks: {len(pixels):,} values stand in {example} and its like, and there can be no more than "
            f"{MAX_CLASSES} classes; are these masks of single objects rather than of classes?"
        )


def _word(value: int, in_colors: bool) -> str:
    return raw_word(unpack_color(value) if in_colors else value)
