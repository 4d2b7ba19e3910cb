"""Where in a picture the mask is, if not in its pixels: in alpha, or in the pages of a TIFF."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from components.errors import StageError
from components.image_mask_example_gen.files import (
    ANY_SIZE,
    InputRejectedError,
    naming_in_memory_error,
    read_picture,
)
from components.image_mask_example_gen.layouts.layout import Entry, Layout, MaskValues
from components.image_mask_example_gen.mask import PictureMask
from components.image_mask_example_gen.plan import stable_rank

_LOOKED_AT: Final = 10
_MOST_REFUSED: Final = 0.5


class MaskValuesFound(NamedTuple):
    """What masks' raw values are."""

    values: MaskValues | None = None
    """For ``dataset.mask_values``; None for the pixels' own."""
    doubts: tuple[str, ...] = ()
    """What to look at, a sentence each."""


def find_mask_values(layout: Layout, root: Path, entries: Sequence[Entry]) -> MaskValuesFound:
    """Looks at a sample of the masks, and elsewhere where their pixels are refused."""
    sample = sorted(entries, key=lambda entry: stable_rank(entry.key, "survey"))[:_LOOKED_AT]
    refused, _, pages = _read(layout, root, sample)
    if refused <= _MOST_REFUSED * len(sample):
        note = f"masks have {pages} pages; those after the first are copies of it and are not read"
        return MaskValuesFound(None, (note,) if pages > 1 else ())
    elsewhere: dict[MaskValues, str] = {
        "pages": "each page of a mask was taken as a class, the later over the earlier",
        "alpha": "the masks' alpha was taken for their values, as each is of one colour",
    }
    for place, doubt in elsewhere.items():
        other = copy.copy(layout)
        other.mask_values = place
        refused, values, pages = _read(other, root, sample)
        if place == "alpha" and not all(_has_one_color(root / entry.mask) for entry in sample):
            continue
        if refused <= _MOST_REFUSED * len(sample) and len(values) > 1:
            return MaskValuesFound(place, (f"{doubt}: dataset.mask_values={place}",))
    return MaskValuesFound()


def _has_one_color(path: Path) -> bool:
    """Whether a mask, alpha aside, is of one colour; where it has more, they mean something as well."""
    try:
        with naming_in_memory_error(str(path)):
            _, picture = read_picture(path, ANY_SIZE)
            return not np.ptp(np.asarray(picture.convert("RGB")), axis=(0, 1)).any()
    except (StageError, MemoryError):
        raise
    except Exception:  # whatever Pillow's decoders raise
        return True


def _read(layout: Layout, root: Path, entries: Sequence[Entry]) -> tuple[int, set[int], int]:
    """How many masks are refused, what the others hold, and the most pages one has."""
    refused, values, pages = 0, set[int](), 1
    for entry in entries:
        try:
            with naming_in_memory_error(str(root / entry.mask)):
                mask = layout.open_mask(root, entry, ANY_SIZE)
                values |= set(np.unique(mask.read(as_colors=False)).tolist())
        except InputRejectedError:
            refused += 1
        else:
            pages = max(pages, mask.pages if isinstance(mask, PictureMask) else 1)
    return refused, values, pages
