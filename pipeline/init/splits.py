"""The division that the data itself declares: whether its folders, lists, tables or names of files count."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from components.dataset.features import SPLITS
from components.errors import StageError, printable
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_lists import TABLES
from components.image_mask_example_gen.split_names import SPELLINGS, split_name
from components.text_files import read_names
from pipeline.init.files import absolute, may_hold_anything, some
from pipeline.init.split_files import SplitFiles, check_small, files_near, find_split_files, of_kind
from pipeline.init.split_sources import (
    MOST_FILES,
    Source,
    in_folders,
    in_lists,
    in_names,
    in_tables,
    tells_apart,
)


@dataclass(frozen=True)
class FoundSplits:
    """What the data declares, as the recipe says it."""

    keys: Mapping[str, Any]
    """For ``dataset.splits``; empty where nothing is declared."""
    notes: tuple[str, ...] = ()
    """What deserves a look, a line each."""


def find_splits(
    root: Path, folders: Sequence[Path], entries: Sequence[Entry], unpaired: Sequence[Rejection]
) -> FoundSplits:
    """Looks how the data itself divides the pairs.

    Folders come first, then lists, tables, and the names of the files.

    Args:
        root: what the pairs' paths are relative to.
        folders: those of images and of masks.
        entries: the pairs.
        unpaired: what has no partner.

    Raises:
        InitError: folders named like splits cannot be kept apart, or leave nothing to train on.
    """
    alone = [item.file for item in unpaired if item.reason is Reason.IMAGE_WITHOUT_MASK]
    unused: list[str] = []
    files = find_split_files(root, folders)
    found = (
        in_folders(root, entries, alone),
        in_lists(root, files.own, entries, alone, unused),
        in_tables(root, files.own, entries, alone, unused),
        in_names(entries),
    )
    sources = [source for source in found if source is not None]
    if not sources:
        notes = [
            *dict.fromkeys(unused),
            *_too_many(root, files.own),
            *_unread(root, files.own),
            *_elsewhere(root, files, entries, alone),
        ]
        return FoundSplits({}, tuple(notes))
    chosen, *others = sources
    chosen = next(filter(None, (_with_val(chosen, other) for other in others)), chosen)
    keys, notes = _keys(chosen)
    notes += dict.fromkeys(unused)
    notes += [
        f"{other.kind} divide these pairs otherwise than {chosen.kind}, which are taken; say the others in "
        "dataset.splits if they are right"
        for other in others
        if _contradict(chosen, other)
    ]
    declared = frozenset().union(*map(chosen.images, chosen.splits))
    if "train" in keys and (aside := [e.image for e in entries if e.image not in declared]):
        notes.append(
            f"{len(aside)} pairs are in no split that {chosen.kind} declare, and set aside: {some(aside)}"
        )
    return FoundSplits(keys, tuple(notes))


def splits_beside(folder: Path) -> str | None:
    """What to say of other splits that lie beside the one that was named; None where there are none."""
    folder = absolute(folder)
    for path in (folder, folder.parent):
        named = split_name(path.name)
        if named is None or not os.access(path.parent, os.R_OK):
            continue
        beside = sorted(
            each.name
            for each in path.parent.iterdir()
            if (other := split_name(each.name)) and other[2] == named[2] and other[0] != named[0]
            if each.is_dir()
        )
        if beside:
            return (
                f"beside {path.name} lie {', '.join(map(printable, beside))}: name the folder above as "
                "--images and --masks to take them as the data's own splits"
            )
    return None


def _with_val(one: Source, other: Source) -> Source | None:
    """Adds val where another source divides what this one calls train, as lists do beside folders."""
    pool = one.images("train") | one.images("trainval")
    train, val, test = map(other.images, SPLITS)
    own_test = one.images("test")
    if one.images("val") or not (train and val and train | val <= pool and test <= (own_test or pool)):
        return None
    taken = {**other.splits, **({"test": one.splits["test"]} if own_test else {})}
    return Source(f"{one.kind} and {other.kind}", {split: taken[split] for split in SPLITS if split in taken})


def _keys(source: Source) -> tuple[dict[str, Any], list[str]]:
    """What a recipe says of a source's splits; what is not declared there is a share of train."""
    found = {name: split.declaration for name, split in source.splits.items()}
    notes = []
    if "train" not in found and "trainval" in found and "val" not in found:
        found["train"] = found["trainval"]
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
        notes.append("the data declares val and no test: its val is the test split, and val a share of train")
    return {split: found[split] for split in SPLITS if split in found}, notes


def _contradict(one: Source, other: Source) -> bool:
    first, second = (
        {image: split for split in SPLITS for image in source.images(split)} for source in (one, other)
    )
    return any(second.get(image, split) != split for image, split in first.items())


def _elsewhere(
    root: Path, files: SplitFiles, entries: Sequence[Entry], alone: Sequence[str]
) -> Iterator[str]:
    """Says which lists or tables divide the data, and lie where others' do, or out of a recipe's reach."""
    if files.cut:
        yield (
            f"{some(map(str, files.cut))}: too many files to look for lists of splits among all of them; "
            f"move such lists into {root} if there are any"
        )
    above = [] if may_hold_anything(root) else list(files_near(root.parent))
    for start, near in ((root, files.others), (root.parent, above)):
        for find in (in_lists, in_tables):
            if source := find(start, near, entries, alone, []):
                named = {path for each in source.splits.values() for path in _paths(each.declaration)}
                shown = some(sorted(str(start / path) for path in named))
                yield (
                    f"{shown} seem to divide these pairs, and are not used: move them into {root} if they "
                    "are this data's"
                )
                return


def _paths(declaration: Mapping[str, Any]) -> Iterator[str]:
    said = declaration.get("list", declaration.get("csv", ()))
    yield from [said] if isinstance(said, str) else said


def _too_many(root: Path, files: Sequence[str]) -> Iterator[str]:
    """Says which tables were not read, as others lie nearer to the data."""
    if unread := list(of_kind(files, TABLES))[MOST_FILES:]:
        yield (
            f"{len(unread)} tables were not read for splits, as {MOST_FILES} others lie nearer to the data "
            f"({some(unread)}): move one that has a column of splits right into {root}"
        )


def _unread(root: Path, files: Sequence[str]) -> Iterator[str]:
    """Says which JSON files seem to tell splits: no recipe can name them."""
    for path in islice(of_kind(files, {".json"}), MOST_FILES):
        try:
            check_small(root, path)
            content = json.loads(read_names(root, path, path))
        except (StageError, ValueError, RecursionError):
            continue
        keys = content[0] if isinstance(content, list) and content else content
        if isinstance(keys, dict) and tells_apart([SPELLINGS.get(str(key).lower()) for key in keys]):
            yield (
                f"{printable(path)} seems to divide the data, and no JSON is read for that: to keep its "
                "splits, write a list of each beside it, train.txt, val.txt and test.txt, a name a line"
            )
