"""Whether masks are those of pictures as they are stored, or of pictures that EXIF has turned upright."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from components.image_mask_example_gen.files import ANY_SIZE, InputRejectedError, naming_in_memory_error
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.plan import stable_rank
from components.imaging.exif import turned_pixels
from components.imaging.reading import Exif
from pipeline.init.files import Header, in_threads
from pipeline.init.images import load_rgb

_MOST_COMPARED: Final = 60
_LONGEST_SIDE: Final = 64
"""Pixels. Hand-drawn borders lie a little beside the edges; in a small picture they do not."""
_CLEARLY: Final = 1.05
"""Of 240 pairs of Oxford-IIIT Pet, CamVid and Clothing Co-Parsing, each turned by orientations 2, 3 and 4,
699 of 720 are found the right way up, 8 the wrong one, and 13 neither."""
_MAJORITY: Final = 3
_WORDS: Final[dict[Exif, str]] = {"upright": "upright", "stored": "as stored"}


class TurnedPair(NamedTuple):
    """A pair whose image has an EXIF orientation other than 1, and whose mask fits one of its sizes."""

    entry: Entry
    image: Header
    mask: Header

    @property
    def fits_either_way(self) -> bool:
        return self.image.size == self.image.upright_size


@dataclass(frozen=True)
class Orientation:
    """What was found of the images that EXIF turns."""

    exif: Exif | None = None
    """For ``dataset.exif``; None where it does not matter, or cannot be told."""
    found: str = ""
    """In words; empty where there is no such image."""
    in_doubt: bool = False
    """Whether somebody must look."""


def find_orientation(layout: Layout, root: Path, pairs: Sequence[TurnedPair]) -> Orientation:
    """Judges by the masks' sizes, and where those do not tell by edges: things end where pictures change."""
    if not pairs:
        return Orientation()
    by_size = Counter[Exif](
        "upright" if pair.mask.size == pair.image.upright_size else "stored"
        for pair in pairs
        if not pair.fits_either_way
    )
    either = sorted(
        (pair for pair in pairs if pair.fits_either_way),
        key=lambda pair: stable_rank(pair.entry.key, "orientation"),
    )
    votes = in_threads(lambda pair: _by_edges(layout, root, pair), either[:_MOST_COMPARED])
    by_edges = Counter[Exif](vote for vote in votes if vote is not None)
    evidence = [
        f"{count} masks have the size of the picture {_WORDS[way]}" for way, count in by_size.most_common()
    ]
    if either:
        compared = [f"{count} fit {_WORDS[way]}" for way, count in by_edges.most_common()]
        if undecided := len(votes) - by_edges.total():
            compared.append(f"{undecided} fit either way")
        evidence.append(
            f"for {len(either)} sizes do not tell; by edges, of {len(votes)} masks {', '.join(compared)}"
        )
    found = f"{len(pairs)} images are not stored upright, as their EXIF says: {'; '.join(evidence)}"
    by_size_way, by_edges_way = _most(by_size, by_size.total()), _most(by_edges, len(votes))
    exif = by_size_way or by_edges_way
    split = len(by_size) == 2 or (by_edges_way or exif) != exif
    if exif is None:
        return Orientation(
            None,
            f"{found}; set dataset.exif to upright or to stored, for ingestion does not guess",
            in_doubt=True,
        )
    if exif == "stored" and not either and not split:
        return Orientation(None, f"{found}; pixels are taken as they are stored")
    return Orientation(exif, f"{found}; dataset.exif is {exif}", in_doubt=split)


def _most(votes: Counter[Exif], compared: int) -> Exif | None:
    """The way that at least half of all that were compared fit, and few fit the other; None for none."""
    for way, count in votes.most_common(1):
        if 2 * count >= compared and count >= _MAJORITY * (votes.total() - count):
            return way
    return None


def _by_edges(layout: Layout, root: Path, pair: TurnedPair) -> Exif | None:
    """How the borders of a mask meet changes of brightness; None where neither way is better."""
    scale = min(1.0, _LONGEST_SIDE / max(pair.mask.size))
    width, height = (max(2, round(side * scale)) for side in pair.mask.size)
    try:
        with naming_in_memory_error(str(root / pair.entry.mask)):
            mask = layout.open_mask(root, pair.entry, ANY_SIZE).read(False)
        picture = load_rgb(layout.image_file(root, pair.entry), (width, height))
    except InputRejectedError:
        return None
    stored = np.asarray(picture.convert("L").resize((width, height), Image.Resampling.BOX), np.float64)
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    small = mask[rows[:, np.newaxis], columns]
    contrast = (
        _along_borders(small, stored),
        _along_borders(small, turned_pixels(stored, pair.image.orientation)),
    )
    if max(contrast) < _CLEARLY * min(contrast) or not max(contrast):
        return None
    return "stored" if contrast[0] > contrast[1] else "upright"


def _along_borders(mask: np.ndarray, luma: np.ndarray) -> float:
    """Sum of the differences of luma, [height, width], between neighbours of different labels."""
    total = 0.0
    for axis in (0, 1):
        differs = np.diff(mask.astype(np.int64), axis=axis) != 0
        if differs.ndim == 3:
            differs = differs.any(axis=-1)
        total += float(np.abs(np.diff(luma, axis=axis))[differs].sum())
    return total
