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
    no_data_remedy,
    open_mask,
    packed,
    unpack_color,
)
from components.image_mask_example_gen.report import Reason
from pipeline.init import InitError
from pipeline.init.files import in_threads, some
from pipeline.init.shapes import Shape, measure_shapes
from pipeline.init.smear import Smear, find_smear

_HIGHEST: Final = 65_535
_VOID: Final = 255
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


def read_raw_labels(
    paths: Sequence[Path],
    formats: Mapping[Path, str],
    opener: OpenMask = _open_file,
    *,
    fixed: bool = False,
    as_colors: bool = False,
) -> RawLabels:
    """Reads the masks.

    Args:
        paths: in random order; the first of them decide whether they are masks at all.
        formats: the format of each, as Pillow says it.
        opener: opens one of them.
        fixed: whether their values are known, so that nothing in them is to be interpreted.
        as_colors: whether colours are meant, whatever they hold.

    Raises:
        InitError: they are photos, or were spoilt by a lossy format or by resizing, or hold nothing that
            could be told apart.
    """
    sample = _Sample(opener, formats, fixed)
    sample.count(paths[:_FIRST], as_colors)
    if sample.masks:
        # Photos, and masks beyond repair, are not worth a longer look.
        sample.find_smear(list(sample.masks))
    sample.count(paths[_FIRST:], as_colors)
    if not sample.masks:
        path, rejected = sample.unreadable[0]
        raise InitError(
            f"none of the {len(paths)} masks opened can be read, such as {path}: {rejected.found}"
        )
    if sample.in_colors:
        # Gray values and a palette's indices are taken as the colours they show, too.
        sample.count([path for path, mask in sample.masks.items() if not mask.in_colors], as_colors=True)
    elif not fixed:
        sample.settle_numbers()
    sample.repair()
    return sample.raw_labels()


def looks_like_masks(paths: Sequence[Path]) -> bool:
    """Whether these pictures could be masks."""
    sample = _Sample(_open_file, {}, fixed=True)
    sample.count(paths[:_FIRST])
    return 0 < max((len(mask.counts) for mask in sample.masks.values()), default=0) <= _LOSSY_LABELS


class _Sample:
    """Masks as they are read.

    Args:
        opener: opens a mask.
        formats: the format of each, as Pillow says it.
        fixed: whether the values are known, so that nothing is repaired.
    """

    def __init__(self, opener: OpenMask, formats: Mapping[Path, str], fixed: bool):
        self._opener = opener
        self._formats = formats
        self._fixed = fixed
        self.masks: dict[Path, _Mask] = {}
        self.unreadable: list[tuple[Path, InputRejectedError]] = []
        self._shapes: dict[int, Shape] = {}
        self._keys: dict[str, Any] = {}
        self._doubts: list[str] = []

    @property
    def in_colors(self) -> bool:
        """Whether any mask is read so; then all are to be."""
        return any(mask.in_colors for mask in self.masks.values())

    def count(self, paths: Sequence[Path], as_colors: bool = False) -> None:
        """Reads masks, or reads them again."""
        for path, mask in self._read(paths, as_colors).items():
            self.masks.pop(path, None)
            if isinstance(mask, InputRejectedError):
                self.unreadable.append((path, mask))
            else:
                self.masks[path] = mask

    def settle_numbers(self) -> None:
        """Reads masks of numbers as the colours they show where a number is not the same in all of them."""
        masks = self.masks
        difference = palette_difference(
            (path.name, palette) for path, mask in masks.items() for palette in mask.palettes
        )
        kinds = {
            "palette" if mask.palettes else "1-bit" if mask.is_one_bit else "gray" for mask in masks.values()
        }
        if not difference and len(kinds) == 1:
            return
        read = self._read(list(masks), as_colors=True)
        shown = {path: mask for path, mask in read.items() if isinstance(mask, _Mask)}
        if len(shown) < len(masks):
            return
        colors = Counter(color for mask in shown.values() for color in mask.counts)
        numbers = {value for mask in masks.values() for value in mask.counts}
        grays = all(len(set(unpack_color(color))) == 1 for color in colors)
        if difference and sum(count == 1 for count in colors.values()) > len(colors) / 2:
            self._doubts.append(
                f"the masks' palettes differ, and share no colours: {difference}. The run will refuse this, "
                "unless dataset.mask_values: index says that the numbers are right whatever they show"
            )
        elif difference:
            self.masks = shown
            self._doubts.append(
                f"the masks' palettes differ: {difference}; so masks are read by colour, not by number"
            )
        elif grays and len(colors) < len(numbers):
            self.masks = shown
            self._doubts.append(
                f"masks are {' and '.join(sorted(kinds))}, whose numbers differ where they show the same "
                "gray: so they are read by colour"
            )

    def find_smear(self, paths: Sequence[Path]) -> Smear | None:
        """Measures how each raw label lies, and says what was smeared.

        Raises:
            InitError: these are photos, or masks beyond repair.
        """
        self._shapes = shapes = self._measure(paths)
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
            kind = "colours" if self.in_colors else "gray values"
            raise InitError(
                f"--masks: {paths[0]} looks like a photo, not a mask: {len(shapes):,} {kind}, next to no "
                "pixel like its neighbours. A mask has one value or colour a class"
            )
        smear = None
        if not self._fixed:
            in_colors = self.in_colors
            read = (packed(self._opener(path).read(in_colors)) for path in paths)
            smear = find_smear(shapes, lambda: read, in_colors=in_colors, lossy=smears)
        if spoilt and smear is None:
            raise self._spoilt(paths[0])
        return smear

    def repair(self) -> None:
        """Takes each smeared value for the label it is near, and sets masks aside where one is near none.

        Raises:
            InitError: as ``find_smear``.
        """
        shaped = self._shaped()
        smear = self.find_smear(shaped)
        if smear is None:
            return
        labels = smear.labels
        shown = some(map(self._word, labels), _SHOWN)
        repaired: dict[Path, _Mask] = {}
        beyond: list[tuple[Path, InputRejectedError]] = []
        changed, most, total = 0, 0, 0
        for path, mask in self.masks.items():
            values = list(mask.counts)
            nearest, away = smear.distances(values)
            if away.max() > smear.tolerance:
                far = self._word(values[int(away.argmax())])
                found = f"raw value {far} is none of {shown}, and near none of them; was the mask smeared?"
                beyond.append((path, InputRejectedError(Reason.LABEL_OUTSIDE_CLASSES, found)))
                continue
            counts: Counter[int] = Counter()
            for value, place, distance in zip(values, nearest.tolist(), away.tolist(), strict=True):
                counts[labels[place]] += mask.counts[value]
                changed += mask.counts[value] if distance else 0
                most = max(most, distance)
            total += counts.total()
            repaired[path] = replace(mask, counts=dict(counts))
        if len(beyond) > _FEW_SPOILT * len(self.masks):
            raise self._spoilt(beyond[0][0])
        self.masks = repaired
        self.unreadable += beyond
        if not changed:
            return
        self._shapes = self._measure([path for path in shaped if path in repaired], smear)
        self._keys["label_tolerance"] = min(smear.tolerance, max(_LEAST_TOLERANCE, _TOLERANCE * most))
        self._doubts.append(
            f"masks are smeared, as by JPEG or by resizing: {changed / total:.2%} of the pixels are up to "
            f"{most} off {shown} and are taken for the nearest of them, as dataset.label_tolerance says; if "
            "one is a class of its own, this is wrong. Better save masks as PNG, resized with nearest "
            "neighbour only"
        )

    def raw_labels(self) -> RawLabels:
        """Returns what was found.

        Raises:
            InitError: nothing could be told apart, or there is too much to tell.
        """
        pixels: Counter[int] = Counter()
        occurrences: Counter[int] = Counter()
        for mask in self.masks.values():
            pixels.update(mask.counts)
            occurrences.update(mask.counts.keys())
        if len(pixels) < 2:
            what = self._word(next(iter(pixels)))
            raise InitError(f"--masks: every mask read holds {what} and nothing else: nothing to tell apart")
        outside = [] if self.in_colors else [value for value in pixels if not 0 <= value <= _HIGHEST]
        if outside:
            value = min(outside)
            file = next(path for path, mask in self.masks.items() if value in mask.counts)
            highest = max((each for each in pixels if each not in outside), default=0)
            remedy = no_data_remedy(str(value), _VOID if highest < _VOID else _HIGHEST)
            raise InitError(
                f"--masks: the value {value} stands in {file}; raw values are 0 … {_HIGHEST}; {remedy}"
            )
        if len(pixels) > MAX_CLASSES:
            raise InitError(
                f"--masks: {len(pixels):,} values stand in {next(iter(self.masks))} and its like, and there "
                f"can be no more than {MAX_CLASSES} classes; are these masks of single objects rather than "
                "of classes?"
            )
        name = unpack_color if self.in_colors else int
        return RawLabels(
            masks_read=len(self.masks),
            in_colors=self.in_colors,
            pixels={name(value): pixels[value] for value in sorted(pixels)},
            masks={name(value): count for value, count in occurrences.items()},
            shapes={
                name(value): shape._replace(outline=Counter({name(v): n for v, n in shape.outline.items()}))
                for value, shape in sorted(self._shapes.items())
                if value in pixels
            },
            contents=tuple((path, frozenset(map(name, mask.counts))) for path, mask in self.masks.items()),
            unreadable=tuple(self.unreadable),
            keys=self._keys,
            doubts=tuple(self._doubts),
        )

    def _read(self, paths: Sequence[Path], as_colors: bool) -> dict[Path, _Mask | InputRejectedError]:
        def count(path: Path) -> _Mask | InputRejectedError:
            try:
                return _count(self._opener(path), as_colors)
            except InputRejectedError as rejected:
                return rejected

        return dict(zip(paths, in_threads(count, paths), strict=True))

    def _shaped(self) -> list[Path]:
        """The first masks, and those that hold what no mask before them does."""
        chosen: list[Path] = []
        seen: set[int] = set()
        for path, mask in self.masks.items():
            if len(chosen) < _FIRST or not seen.issuperset(mask.counts):
                chosen.append(path)
                seen.update(mask.counts)
        rest = self.masks.keys() - set(chosen)
        return [*chosen, *(path for path in self.masks if path in rest)][:_SHAPED]

    def _measure(self, paths: Sequence[Path], smear: Smear | None = None) -> dict[int, Shape]:
        """How each raw label lies in some masks; with ``smear``, once they are repaired."""
        in_colors = self.in_colors
        total: dict[int, Shape] = {}
        for path in paths:
            raw = packed(self._opener(path).read(in_colors))
            if smear is not None:
                values, places = np.unique(raw, return_inverse=True)
                labels = np.asarray(smear.labels)[smear.distances(values.tolist())[0]]
                raw = labels[places].reshape(raw.shape)
            for value, shape in measure_shapes(raw).items():
                total[value] = Shape(*map(operator.add, total[value], shape)) if value in total else shape
        return total

    def _spoilt(self, example: Path) -> InitError:
        """Says that the masks' values were smeared beyond repair."""
        main = sorted(self._shapes, key=lambda value: -self._shapes[value].pixels)[:3]
        kind = self._formats.get(example, "").replace("MPO", "JPEG")
        cause = (
            f"{kind} is a lossy format that blurs the values"
            if kind in ("JPEG", "WEBP", "JPEG2000")
            else "their edges are soft, as after resizing with interpolation"
        )
        return InitError(
            f"--masks: {example} and its like hold {len(self._shapes):,} "
            f"{'colours' if self.in_colors else 'gray values'}, mostly "
            f"{', '.join(map(self._word, main))}: {cause}, and what was meant cannot be told. Save masks as "
            "PNG with exactly one value a class, resized with nearest neighbour only"
        )

    def _word(self, value: int) -> str:
        return raw_word(unpack_color(value) if self.in_colors else value)


def _count(mask: Mask, as_colors: bool) -> _Mask:
    pixels = mask.read(as_colors)
    raw = packed(pixels)
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(raw, return_counts=True)
    return _Mask(
        pixels.ndim == 3,
        dict(zip(values.tolist(), counts.tolist(), strict=True)),
        mask.palettes,
        isinstance(mask, PictureMask) and mask.mode == "1",
    )
