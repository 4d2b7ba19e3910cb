"""What no pair shows alone and all of them do: palettes that differ, copies in several splits, few levels."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Final, NamedTuple

from components.dataset.contracts import SharedPicture
from components.dataset.features import SPLITS
from components.errors import StageError, printable
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.mask import Palette
from components.imaging.deep import joined
from components.imaging.palette import Color
from components.imaging.reading import FEWEST_LEVELS, FULL_RANGE, ValueRange, levels

_FEWEST_MASKS: Final = 2
_AS_LARGE: Final = 0.25
"""What counts nowhere lies in narrow borders; from this part of the object's area on it looks like one."""
_SHOWN_SHARED: Final = 5

logger = logging.getLogger(__name__)


class PairFacts(NamedTuple):
    """What is remembered of a pair whose Example is written."""

    sketch: str
    """Of the image, as are the next two; see `EncodedImage`."""
    used_range: tuple[float, float] | None
    bands_left_out: int
    palettes: tuple[str, ...]
    """Those whose indices are the mask's raw values, small enough to remember: see `packed`."""
    repaired_pixels: int
    """Of the mask, those that were no raw label to the letter."""
    binary_pixels: tuple[int, int, int] | None
    """Of a mask of two classes, those of either and those ignored; None for more classes."""


class WrittenPair(NamedTuple):
    """A pair that became an Example."""

    split: str
    entry: Entry
    facts: PairFacts


def check_pairs(pairs: Sequence[WrittenPair], tolerance: int, value_range: ValueRange | None) -> None:
    """Says what was repaired or left out and what looks wrong.

    Args:
      pairs: All that became Examples.
      tolerance: ``dataset.label_tolerance``.
      value_range: ``dataset.value_range``.

    Raises:
      StageError: palettes differ, so a number is not the same class in all masks; or the network could not
        tell the values of deep pixels apart.
    """
    shown = ((pair.entry.mask, unpacked(text)) for pair in pairs for text in pair.facts.palettes)
    if difference := palette_difference(shown):
        raise StageError(
            f"The masks' palettes differ: {difference}. A number does not mean the same in all of them: "
            "give dataset.label_values a [red, green, blue] for each class; or, if the numbers are right "
            "whatever colours they show, dataset.mask_values: index."
        )
    if repaired := [pair.facts.repaired_pixels for pair in pairs if pair.facts.repaired_pixels]:
        logger.info(
            "%d masks were smeared: %s of their pixels, up to %d off a class's value, were taken for it",
            len(repaired),
            f"{sum(repaired):,}",
            tolerance,
        )
    _warn_of_ignored_areas([pair.facts.binary_pixels for pair in pairs if pair.facts.binary_pixels])
    if more := sum(pair.facts.bands_left_out > 0 for pair in pairs):
        logger.warning("%d images have bands that transform.channels leaves out", more)
    of_train = joined(pair.facts.used_range for pair in pairs if pair.split == SPLITS[0])
    _check_levels(of_train or joined(pair.facts.used_range for pair in pairs), value_range)


def palette_difference(shown: Iterable[tuple[str, Palette]]) -> str:
    """Says of masks' files and palettes which index has several colours, and where; empty where none has."""
    by_index: dict[int, dict[Color, tuple[int, str]]] = defaultdict(dict)
    for file, palette in shown:
        for index, color in palette.items():
            masks, first = by_index[index].get(color, (0, file))
            by_index[index][color] = masks + 1, min(first, file)
    for index, colors in sorted(by_index.items()):
        if len(colors) > 1:
            (usual, (masks, file)), (other, (others, another)), *_ = sorted(
                colors.items(), key=lambda item: (-item[1][0], item[1][1])
            )
            return printable(
                f"index {index} is {list(usual)} in {masks} masks, such as {file}, and {list(other)} in "
                f"{others}, such as {another}"
            )
    return ""


def packed(palette: Palette) -> str:
    """Returns a palette as a text of eight digits a colour: index, red, green, blue."""
    return b"".join(bytes((index, *color)) for index, color in palette.items()).hex()


def unpacked(text: str) -> Palette:
    """Returns the palette that `packed` wrote."""
    digits = bytes.fromhex(text)
    return {
        index: (red, green, blue)
        for index, red, green, blue in zip(*(digits[place::4] for place in range(4)), strict=True)
    }


def _warn_of_ignored_areas(masks: Sequence[tuple[int, int, int]]) -> None:
    """Two values for one class: masks have the object's, or one that counts nowhere in its place."""
    only_object = [thing for _, thing, ignored in masks if thing and not ignored]
    only_ignored = [ignored for rest, thing, ignored in masks if ignored and rest and not thing]
    if not only_object or len(only_ignored) < _FEWEST_MASKS:
        return
    if any(thing and ignored for _, thing, ignored in masks):
        return
    if fmean(only_ignored) > _AS_LARGE * fmean(only_object):
        logger.warning(
            "what is ignored fills large areas of %d masks, none of which holds the second class, as %d "
            "others do: is it the same class, written with another value? If so, give it a name in "
            "dataset.label_values and merge that in dataset.merge_classes",
            len(only_ignored),
            len(only_object),
        )


def _check_levels(used: tuple[float, float] | None, value_range: ValueRange | None) -> None:
    """Looks whether the network can tell the values of deep pixels apart.

    Args:
      used: The lowest and the highest value of the training images; None where none has more than 8 bits.
      value_range: The recipe's.

    Raises:
      StageError: it sees few of 256 levels, and the recipe does not say that it should.
    """
    if used is None:
        return
    low, high = used
    seen = levels(used, value_range or FULL_RANGE)
    if seen >= FEWEST_LEVELS:
        return
    text = (
        f"images have more than 8 bits a channel, and their values {low:g} … {high:g} are {seen} of the 256 "
        "levels that the network sees"
    )
    if value_range is None:
        raise StageError(
            f"{text}; --set dataset.value_range=[{low:g},{max(high, low + 1):g}] spreads them over all, in "
            "training and serving alike"
        )
    logger.warning("%s, as dataset.value_range is [%g, %g]", text, *value_range)


def find_shared_pictures(
    pairs: Iterable[WrittenPair], pixel_digest: Callable[[Entry], bytes]
) -> tuple[SharedPicture, ...]:
    """Finds the images of several splits that are the same, pixel by pixel, whatever their files are.

    Args:
      pairs: All that became Examples.
      pixel_digest: Decodes an image; asked only where sketches of several splits agree.
    """
    by_sketch: dict[str, list[WrittenPair]] = defaultdict(list)
    for pair in pairs:
        by_sketch[pair.facts.sketch].append(pair)
    alike = [pair for group in by_sketch.values() if _in_several(group) for pair in group]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        digests = pool.map(pixel_digest, [pair.entry for pair in alike])
    same: dict[bytes, list[WrittenPair]] = defaultdict(list)
    for pair, digest in zip(alike, digests, strict=True):
        same[digest].append(pair)
    found = []
    for group in filter(_in_several, same.values()):
        members = [(pair.split, pair.entry.image) for pair in group]
        found.append(tuple(sorted(members, key=lambda each: (SPLITS.index(each[0]), each[1]))))
    return tuple(SharedPicture(members=members) for members in sorted(found, key=lambda each: each[0][1]))


def _in_several(pairs: Iterable[WrittenPair]) -> bool:
    return len({pair.split for pair in pairs}) > 1


def check_shared(shared: Sequence[SharedPicture], allowed: int | None) -> None:
    """Says which pictures are in several splits.

    Raises:
      StageError: they are more than is allowed.
    """
    if not shared:
        return
    pictures = "1 picture is" if len(shared) == 1 else f"{len(shared)} pictures are"
    heading = f"{pictures} in several splits, pixel by pixel the same"
    shown = [
        " = ".join(f"{split} {printable(file)}" for split, file in each.members)
        for each in shared[:_SHOWN_SHARED]
    ]
    shown += [f"and {len(shared) - len(shown)} more"] if len(shared) > len(shown) else []
    if allowed is None or len(shared) <= allowed:
        logger.warning("%s, so the metrics flatter: %s", heading, "; ".join(shown))
        return
    remedy = "Remove the copies, or give them one split (dataset.splits, its lists or its group)."
    raise StageError(
        "\n".join(
            [f"{heading}; dataset.max_shared_pictures allows {allowed}:", *(f"  {s}" for s in shown), remedy]
        )
    )
