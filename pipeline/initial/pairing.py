"""The two patterns by which the ingestion itself will pair the files."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Final

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.report import Rejection, printable
from pipeline.initial.affixes import Affixes, find_affixes
from pipeline.initial.errors import InitError
from pipeline.initial.folders import Folder
from pipeline.initial.mask_pixels import plainness
from pipeline.initial.scenes import tell_apart

_SHOWN: Final = 3
_SUFFIXES: Final = 3


@dataclass(frozen=True)
class Pairing:
    """How files were paired, and what came of it."""

    dataset: dict[str, str]
    """The keys ``layout``, ``root``, ``images`` and ``masks`` of the recipe's ``dataset`` block."""
    entries: tuple[Entry, ...]
    """Paths are relative to ``dataset["root"]``."""
    unpaired: tuple[Rejection, ...]
    """Files that match a pattern and have no partner."""
    other_masks: tuple[str, ...] = ()
    """Patterns of further masks, one an image as well, that were not chosen."""

    @property
    def root(self) -> Path:
        return Path(self.dataset["root"])


def pair(images: Folder, masks: Folder) -> Pairing:
    """Finds the patterns that pair most files.

    Names decide which patterns are tried, and the ingestion's own scan decides between them. Where images
    have masks of several kinds (label ids beside colours), the plainest is taken. In one folder for both, the
    names of files tell them apart, else those of folders.

    Raises:
        InitError: no image meets a mask.
    """
    candidates = ((images, masks), *tell_apart(images, masks))
    found = (pairing for some in candidates if (pairing := _pair_by_names(*some)))
    if (pairing := next(found, None)) is None:
        raise InitError(_why_nothing_pairs(images, masks))
    return pairing


def _pair_by_names(images: Folder, masks: Folder) -> Pairing | None:
    found = find_affixes([_stem(path) for path in images.files], [_stem(path) for path in masks.files])
    # Among images that lie with their masks, every file would also pair with itself.
    enough = found[0][1] / 2 if found else 0
    pairings = [
        pairing
        for affixes, count in found
        if count >= enough and (pairing := _best_pairing(images, masks, affixes)) is not None
    ]
    if not pairings:
        return None
    most_pairs = max(len(pairing.entries) for pairing in pairings)
    kinds: dict[frozenset[str], Pairing] = {}
    for pairing in pairings:
        if len(pairing.entries) == most_pairs:
            kinds.setdefault(frozenset(entry.mask for entry in pairing.entries), pairing)
    # With one kind of mask only, nothing needs to be opened.
    chosen = min(kinds.values(), key=_plainness) if len(kinds) > 1 else next(iter(kinds.values()))
    others = [pairing.dataset["masks"] for pairing in kinds.values() if pairing is not chosen]
    return replace(chosen, other_masks=tuple(sorted(others)))


def dataset_config(values: dict[str, str]) -> DatasetConfig:
    """Returns settings that find the files; what the masks mean is not known yet."""
    return DatasetConfig.model_validate({**values, "classes": ["0", "1"]})


def _plainness(pairing: Pairing) -> tuple[float, ...]:
    return plainness([pairing.root / entry.mask for entry in pairing.entries[:_SHOWN]])


def _best_pairing(images: Folder, masks: Folder, affixes: Affixes) -> Pairing | None:
    root = Path(os.path.commonpath([images.path, masks.path]))
    best: tuple[tuple[int, int], Pairing] | None = None
    for image_pattern, mask_pattern in product(
        _image_patterns(images, masks, affixes, root), _mask_patterns(masks, affixes, root)
    ):
        dataset = {"layout": "folder", "root": str(root), "images": image_pattern, "masks": mask_pattern}
        scan = _scan(dataset)
        if scan is None or not scan.entries:
            continue
        if not {entry.image for entry in scan.entries}.isdisjoint(entry.mask for entry in scan.entries):
            continue
        rank = (-len(scan.entries), len(scan.rejected))
        if best is None or rank < best[0]:
            best = rank, Pairing(dataset, tuple(scan.entries), tuple(scan.rejected))
    return best and best[1]


def _scan(dataset: dict[str, str]) -> Scan | None:
    """What the ingestion finds, None where it would not go on: two files of one name."""
    try:
        return dataset_config(dataset).source.scan(Path(dataset["root"]))
    except StageError:
        return None


def _image_patterns(images: Folder, masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    files = [path for path in images.files if affixes.image_core(_stem(path)) is not None]
    names = [glob.escape(affixes.image_prefix) + "*"]
    nested = images.path.is_relative_to(masks.path) or masks.path.is_relative_to(images.path)
    if nested and affixes.mask_suffix and not affixes.image_suffix:
        # Masks lie among the images: their names end in another character.
        names += [names[0] + "[0-9]", f"{names[0]}[!{affixes.mask_suffix[-1]}]"]
        in_images = {os.path.relpath(masks.path / path, images.path) for path in masks.files}
        unlike_masks = [path for path in files if not _stem(path).endswith(affixes.mask_suffix)]
        files = [path for path in unlike_masks if path not in in_images] or unlike_masks
    for folder, name in product(_folder_patterns(images, files, root), names):
        for suffix in _suffix_patterns(files, affixes.image_suffix):
            yield folder + name + suffix


def _mask_patterns(masks: Folder, affixes: Affixes, root: Path) -> Iterator[str]:
    files = [path for path in masks.files if affixes.mask_core(_stem(path)) is not None]
    for folder in _folder_patterns(masks, files, root):
        for suffix in _suffix_patterns(files, affixes.mask_suffix):
            yield f"{folder}{glob.escape(affixes.mask_prefix)}*{suffix}"


def _folder_patterns(folder: Folder, files: Sequence[str], root: Path) -> list[str]:
    """The part of a pattern up to the last slash."""
    base = folder.path.relative_to(root).as_posix()
    start = "" if base == "." else glob.escape(base) + "/"
    depths = {path.count("/") for path in files}
    patterns = [] if depths == {0} else [f"{start}**/"]
    if len(depths) == 1 or 0 in depths:
        patterns.insert(0, start + "*/" * min(depths))
    if len(depths) == 1:
        # What all have in common tells images from masks where both lie under one folder.
        levels = zip(*(PurePosixPath(path).parts[:-1] for path in files), strict=True)
        shared = start + "".join(
            f"{glob.escape(each[0]) if len(set(each)) == 1 else '*'}/" for each in levels
        )
        patterns += [shared] if shared not in patterns else []
    return patterns


def _suffix_patterns(files: Sequence[str], affix: str) -> list[str]:
    """The part of a pattern after its last wildcard: one of the most frequent suffixes, or all of them."""
    suffixes = Counter(PurePosixPath(path).suffix for path in files)
    patterns = [glob.escape(affix) + suffix for suffix, _ in suffixes.most_common(_SUFFIXES)]
    if len(suffixes) > 1 and not affix:
        if len({len(suffix) for suffix in suffixes}) == 1:
            places = [sorted(set(letters)) for letters in zip(*suffixes, strict=True)]
            patterns.append("".join(p[0] if len(p) == 1 else f"[{''.join(p)}]" for p in places))
        patterns.append(".*")
    return patterns


def _why_nothing_pairs(images: Folder, masks: Folder) -> str:
    shown = f"images are named {_some(images.files)}; masks {_some(masks.files)}"
    example = PurePosixPath(images.files[0]).stem
    return (
        f"no image meets a mask: {shown}. Files are paired by name: {printable(images.files[0])} would match "
        f"{printable(example)}.png, or {printable(example)} with another ending, such as _mask.png"
    )


def _some(files: Sequence[str]) -> str:
    names = ", ".join(printable(path) for path in files[:_SHOWN])
    return f"{names}, … ({len(files)})" if len(files) > _SHOWN else names


def _stem(path: str) -> str:
    return PurePosixPath(path).stem
