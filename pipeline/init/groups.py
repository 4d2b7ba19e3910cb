"""Images that no two splits may share: frames of a video, and tiles that were cut from one picture."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from components.errors import StageError
from components.image_mask_example_gen.layouts.layout import Entry, Layout
from components.image_mask_example_gen.plan import assign_splits
from components.image_mask_example_gen.splits import SplitConfig
from pipeline.init.files import natural
from pipeline.init.images import read_luma

_COMPARED: Final = 30
_ALIKE: Final = 0.5
"""Neighbours by name differ by 0.09 of what distant pictures differ by in CamVid, a video, and by 0.97 in
Oxford-IIIT Pet and Clothing Co-Parsing, single photos."""
_FEWEST_GROUPS: Final = 10
_LARGEST_GROUP: Final = 0.3
_LEAST: Final = {"train": 0.4, "val": 0.05, "test": 0.05}
"""What each split must have of the pairs where videos are fewer, or larger."""
_VIDEO: Final = r"^(.*?)[_\-./ ]*\d+$"
"""All but the number of the frame."""
_BLOCKS: Final = {3: "1,000", 2: "100", 1: "10"}
"""By the digits left out, how many numbers stay together."""
_HASH: Final = re.compile(r"((?:_(?i:jpe?g|png|bmp|tiff?|webp))?)\.rf\.[0-9a-f]+$")
"""Roboflow's, behind the picture's own suffix: ``a_jpg.rf.09f``."""

_X, _Y = (rf"(?:{letter}|{word})[_-]?\d+" for letter, word in (("x", "c|col|column"), ("y", "r|row")))
_BREAK: Final = r"(?:^|[_\-./ ]+|(?<=\d))"
_PLACE: Final = re.compile(rf"(?i)^(.*?){_BREAK}(?:{_X}[_\-. ]*{_Y}|{_Y}[_\-. ]*{_X})$")
"""Where in the picture: ``img_x512_y0``, ``scene1_r0_c1``."""
_TWO: Final = re.compile(r"^(.*?)[_\-./ ]*(?<!\d)\d+[_\-./ ]+\d+$")
"""Two numbers: row and column, or picture and tile."""
_ONE: Final = re.compile(r"^(.*?)[_\-./ ]+\d+$")
_WORD: Final = re.compile(r"(?i)(?<![a-z])(?:tile|patch|crop|chip)s?(?![a-z])")
_ALTERED: Final = re.compile(
    r"(?i)^(.+?)((?:[_\-. ]+(?:orig(?:inal)?|aug(?:mented)?|[hv]?flip(?:ped)?|mirror(?:ed)?"
    r"|rot(?:at(?:ed?|ion))?)[_\-]?\d*)+)$"
)
"""Names of what was made of a picture before: ``a_flip``, ``a_aug_2``."""
_SOME_NAMES: Final = 0.1
_MOST_NAMES: Final = 0.9
"""Names that must be of one form."""
_FEWEST_CUT: Final = 4
_LARGEST_CUT: Final = 0.5
_TILES_COMPARED: Final = 24
_CONTINUES: Final = 0.5
"""Edges of neighbours differ by so much of what edges of strangers do, at most. It is 0.04 to 0.34 where
photos of Oxford-IIIT Pet and Clothing Co-Parsing were cut into tiles, 0.93 and more between the photos."""
_FLAT: Final = 6.0
"""Deviation of an edge, of 255, that tells nothing: black corners fit everywhere."""
_SAME_PLACE: Final = 0.9
"""An edge that is found again further on than this part of the next picture has not moved: a video's."""


_THUMBNAIL: Final = (16, 16)
_TILE: Final = (256, 256)


@dataclass(frozen=True)
class Frames:
    """Whether pictures belong together that no two splits may share: frames of a video, tiles of one."""

    found: bool = False
    group: str | None = None
    """For ``dataset.splits.group``; None where pictures are single, or no pattern leaves enough groups."""
    groups: int = 0
    why: str = "neighbours by name look alike, as frames of a video"
    in_doubt: bool = False
    """Whether names alone say so."""
    kept: str = "those of a picture"
    """What stays in one split."""
    parted: tuple[str, ...] = ()
    """Videos that lie in several splits, as whole they could not be divided."""


_Load = Callable[[Entry], np.ndarray | None]
"""A picture's luma, float [height, width]; None where it cannot be read."""
_Groups = dict[str, list[Entry]]


def find_frames(layout: Layout, root: Path, entries: Sequence[Entry]) -> Frames:
    """Compares pictures whose names follow each other with pictures far apart.

    Tiles of larger pictures count as frames of each: no two splits may share them, either.
    """
    suffixes = {_suffix_in_key(entry) for entry in entries} - {""}
    ending = _any_of(map(re.escape, suffixes))
    bare = [replace(entry, key=entry.key.removesuffix(_suffix_in_key(entry))) for entry in entries]
    if hashes := {match[1] for entry in bare if (match := _HASH.search(entry.key))}:
        ending = _any_of(rf"{own}\.rf\.[0-9a-f]+" for own in hashes) + ending
        bare = [replace(entry, key=_HASH.sub("", entry.key)) for entry in bare]
    return _before(ending, _find_frames(layout, root, bare))


def _any_of(endings: Iterable[str]) -> str:
    """A regular expression for one of the endings or none."""
    return f"(?:{'|'.join(sorted(endings))})?" if (endings := list(endings)) else ""


def _before(ending: str, frames: Frames) -> Frames:
    """What was found in keys without an ending, a regular expression, as it is found in whole keys."""
    return frames if frames.group is None else replace(frames, group=f"{frames.group[:-1]}{ending}$")


def _suffix_in_key(entry: Entry) -> str:
    """The picture's suffix where its pair's key has it, as where masks keep whole names of images."""
    suffix = PurePosixPath(entry.image).suffix
    return suffix if suffix and entry.key.endswith(suffix) else ""


def _find_frames(layout: Layout, root: Path, entries: Sequence[Entry]) -> Frames:
    tiles = _find_tiles(
        entries, lambda entry: read_luma(layout.image_file(root, entry), _TILE, in_proportion=True)
    )
    if tiles is not None:
        return tiles
    if (altered := _find_altered(entries)) is None:
        return _find_videos(layout, root, entries)
    ending, pictures = altered
    videos = _before(ending, _find_videos(layout, root, pictures))
    if videos.group is not None:
        return videos
    group = f"^(.+?){ending}$"
    why = "names tell of altered copies of a picture"
    if not (groups := _count_groups(group, entries)):
        return Frames(True, why=why)
    return Frames(True, group, groups, why, parted=_parted(pictures, group) if videos.found else ())


def _find_videos(layout: Layout, root: Path, entries: Sequence[Entry]) -> Frames:
    if tail := _tail_of_all(entries):
        bare = [replace(entry, key=entry.key.removesuffix(tail)) for entry in entries]
        return _before(re.escape(tail), _find_videos(layout, root, bare))
    numbered = [entry for entry in entries if re.search(r"\d$", entry.key)]
    if len(numbered) < max(_FEWEST_GROUPS, 0.9 * len(entries)):
        return Frames()
    numbered.sort(key=lambda entry: natural(entry.key))
    if _difference_of_neighbours(layout, root, numbered) >= _ALIKE:
        return Frames()
    if groups := _count_groups(_VIDEO, entries, whole=True):
        return Frames(True, _VIDEO, groups, kept="those of a video")
    for pattern, numbers in _blocks(entries):
        if groups := _count_groups(pattern, entries):
            kept, parted = f"blocks of {numbers} numbers", _parted(entries, pattern)
            return Frames(True, pattern, groups, kept=kept, parted=parted)
    return Frames(True)


def _tail_of_all(entries: Sequence[Entry]) -> str:
    """What all keys end in from a word on, as those of one camera do: ``_cam`` of ``clip0_0003_cam``."""
    letters_from_last = zip(*(entry.key[::-1] for entry in entries), strict=False)
    ends = takewhile(lambda letters: len(set(letters)) == 1, letters_from_last)
    word = re.search(r"[_\-./ ]*[^\W\d_].*$", "".join(letters[0] for letters in ends)[::-1])
    return word[0] if word and all(word[0] != entry.key for entry in entries) else ""


def _parted(entries: Sequence[Entry], pattern: str) -> tuple[str, ...]:
    """The videos that lie in several splits where groups by the pattern are divided."""
    splits: dict[str, set[str]] = defaultdict(set)
    for split, members in assign_splits(entries, SplitConfig(group=pattern)).items():
        for entry in members:
            if match := re.search(_VIDEO, entry.key):
                splits[match[1]].add(split)
    return tuple(sorted((video for video, of in splits.items() if len(of) > 1), key=natural))


def _difference_of_neighbours(layout: Layout, root: Path, entries: Sequence[Entry]) -> float:
    """As a part of how much distant pictures differ."""
    positions = np.linspace(0, len(entries) - 2, min(_COMPARED, len(entries) - 1)).astype(int)
    near, far = [], []
    for position in positions.tolist():
        three = [entries[p % len(entries)] for p in (position, position + 1, position + len(entries) // 2)]
        here, following, distant = (read_luma(layout.image_file(root, each), _THUMBNAIL) for each in three)
        if here is not None and following is not None and distant is not None:
            near.append(float(np.abs(here - following).mean()))
            far.append(float(np.abs(here - distant).mean()))
    return statistics.median(near) / max(statistics.median(far), 1e-6) if near else 1.0


def _blocks(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Patterns of blocks of 1,000, 100 and 10 numbers, and how many numbers those are."""
    widths = {len(match[0]) for entry in entries if (match := re.search(r"\d+$", entry.key))}
    for digits, numbers in _BLOCKS.items():
        # Not greedy: what follows the number may end in one, too.
        if len(widths) == 1 and min(widths) > digits:
            yield (rf"^(.*?)\d{{{digits}}}$" if digits > 1 else r"^(.*?)\d$"), numbers
        elif len(widths) > 1:
            yield rf"^(.*?)\d{{1,{digits}}}$", numbers


def _count_groups(pattern: str, entries: Sequence[Entry], *, whole: bool = False) -> int:
    """The number of groups, 0 where they are too few or too unequal to be divided.

    Whole videos may be fewer and larger, as long as all splits get about their share.
    """
    sizes = Counter(match[1] for entry in entries if (match := re.search(pattern, entry.key)))
    largest = max(sizes.values(), default=0) / len(entries)
    usual = len(sizes) >= _FEWEST_GROUPS and largest <= _LARGEST_GROUP
    if not usual and not (whole and len(sizes) >= _FEWEST_CUT and largest <= _LARGEST_CUT):
        return 0
    try:
        splits = assign_splits(entries, SplitConfig(group=pattern))
    except StageError:
        return 0
    if not usual and any(len(splits[split]) < least * len(entries) for split, least in _LEAST.items()):
        return 0
    return len(sizes)


def _find_altered(entries: Sequence[Entry]) -> tuple[str, list[Entry]] | None:
    """Looks whether names tell of pictures that were turned, mirrored or otherwise made of others.

    Copies may have one key, where hashes told them apart. Returns what keys of copies end in, a regular
    expression, and of each picture one entry, whose key ends before that.
    """
    forms, count = set(), Counter[str]()
    pictures: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: len(entry.key)):
        match = _ALTERED.search(entry.key)
        picture = match[1] if match else entry.key
        count[picture] += 1
        pictures.setdefault(picture, replace(entry, key=picture))
        if match:
            forms.add(re.sub(r"\d+", r"\\d+", re.escape(match[2])))
    if sum(n for n in count.values() if n > 1) < max(2, _SOME_NAMES * len(entries)):
        return None
    return _any_of(forms), list(pictures.values())


def _find_tiles(entries: Sequence[Entry], load: _Load) -> Frames | None:
    """Looks whether pictures were cut from larger ones; None where nothing says so.

    Names that tell a place (``x512_y0``, ``r0_c1``) are believed. Other numbers (``21_00``, ``tile_3_4``)
    tell of tiles where edges go on, or overlap, from one picture to the next.
    """
    if (cut := _grouped(_PLACE, entries)) is not None:
        return _tiles(_PLACE, cut, entries, _go_on(_neighbours(cut), cut, load))
    rows = _grouped(_ONE, entries)
    if rows is None:
        return None
    grid = _grouped(_TWO, entries)
    if grid is not None and len(grid) < len(rows) and _go_on(_below_each_other(grid), grid, load):
        return _tiles(_TWO, grid, entries, True)
    if not _numbered_from_the_start(rows):
        return None
    by_edges = _go_on(_neighbours(rows), rows, load)
    named = sum(_WORD.search(entry.key) is not None for entry in entries) >= _MOST_NAMES * len(entries)
    return _tiles(_ONE, rows, entries, by_edges) if by_edges or named else None


def _grouped(pattern: re.Pattern[str], entries: Sequence[Entry]) -> _Groups | None:
    """The pairs of each picture, in the natural order; None where names are of another form or all alone."""
    groups: _Groups = defaultdict(list)
    for entry in entries:
        if match := pattern.search(entry.key):
            groups[match[1]].append(entry)
    matched = sum(map(len, groups.values()))
    if not matched or matched < _MOST_NAMES * len(entries) or matched < 2 * len(groups):
        return None
    return {name: sorted(members, key=_numbers) for name, members in groups.items()}


def _tiles(pattern: re.Pattern[str], groups: _Groups, entries: Sequence[Entry], by_edges: bool) -> Frames:
    divisible = len(groups) >= _FEWEST_CUT and max(map(len, groups.values())) <= _LARGEST_CUT * len(entries)
    shown = "names and edges say" if by_edges else "names say"
    pictures = "picture" if len(groups) == 1 else "pictures"
    return Frames(
        True,
        _group(pattern, entries) if divisible else None,
        len(groups),
        f"{shown} that these are tiles cut from {len(groups)} larger {pictures}",
        in_doubt=not by_edges,
    )


def _group(pattern: re.Pattern[str], entries: Sequence[Entry]) -> str:
    """The pattern, where possible as people see it in their files' names: the ends of all, digits apart."""
    tails = {entry.key[match.end(1) :] for entry in entries if (match := pattern.search(entry.key))}
    forms = {re.sub(r"\d+", r"\\d+", re.escape(tail)) for tail in tails}
    return f"^(.*?){forms.pop()}$" if len(forms) == 1 else pattern.pattern


def _numbers(entry: Entry) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", entry.key)]


def _numbered_from_the_start(groups: _Groups) -> bool:
    """Whether most pictures' tiles are numbered 0, 1, 2 … or 1, 2, 3 … without a gap."""
    whole = 0
    for members in groups.values():
        numbers = [_numbers(entry)[-1] for entry in members]
        whole += numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return whole >= 0.8 * len(groups)


def _neighbours(groups: _Groups) -> Iterator[tuple[Entry, Entry]]:
    for members in groups.values():
        yield from pairwise(members)


def _below_each_other(groups: _Groups) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of one picture whose last number is the same, and the one before it the next."""
    for members in groups.values():
        at = {tuple(_numbers(entry)[-2:]): entry for entry in members}
        rows = sorted({row for row, _ in at})
        for row, next_row in pairwise(rows):
            for place, entry in at.items():
                if place[0] == row and (below := at.get((next_row, place[1]))):
                    yield entry, below


def _go_on(pairs: Iterator[tuple[Entry, Entry]], groups: _Groups, load: _Load) -> bool:
    """Whether a picture goes on in its neighbour as none does in a stranger."""
    found = list(pairs)
    chosen = [found[int(at)] for at in np.linspace(0, len(found) - 1, min(_TILES_COMPARED, len(found)))]
    everything = [entry for members in groups.values() for entry in members]
    place = {entry.key: at for at, entry in enumerate(everything)}
    near, far = [], []
    for one, other in chosen:
        stranger = everything[(place[other.key] + len(everything) // 2) % len(everything)]
        here, following, distant = map(load, (one, other, stranger))
        if here is None or following is None or distant is None:
            continue
        differences = _edge_difference(here, following), _edge_difference(here, distant)
        if differences[0] is not None and differences[1] is not None:
            near.append(differences[0])
            far.append(differences[1])
    return len(near) > 2 and statistics.median(near) <= _CONTINUES * statistics.median(far)


def _edge_difference(one: np.ndarray, other: np.ndarray) -> float | None:
    """How well the other picture goes on where one ends, at its best side: the mean difference of an edge and
    the line of the other that is most like it, of 255; None where edges are flat or sizes do not fit.
    """
    found = []
    for turn in range(4):
        a, b = np.rot90(one, turn), np.rot90(other, turn)
        edge = a[:, -1]
        if len(a) == len(b) and edge.std() > _FLAT:
            lines = b[:, : max(1, int(_SAME_PLACE * b.shape[1]))]
            found.append(float(np.abs(lines - edge[:, np.newaxis]).mean(axis=0).min()))
    return min(found, default=None)
