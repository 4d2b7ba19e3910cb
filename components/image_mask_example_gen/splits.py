"""Division of the entries into train, val and test."""

import re
from collections import defaultdict
from collections.abc import Sequence

from components.dataset.features import SPLITS
from components.errors import StageError
from components.image_mask_example_gen.config import SplitConfig
from components.image_mask_example_gen.hashing import stable_rank
from components.image_mask_example_gen.layouts.scan import OFFICIAL_TEST, Entry


def assign_splits(entries: Sequence[Entry], config: SplitConfig) -> dict[str, list[Entry]]:
    """Returns the entries of each of train, val and test.

    Groups (single keys without ``config.group``) are ranked by a stable hash; the first of them make the
    test split, the next ones val, the rest train. Ranking meets the fractions as exactly as the groups
    allow, also with five pictures, where independent coin flips would leave splits empty; adding a file
    moves at most three groups, those at the borders. Where entries come with an official list, its test
    part stays test, and val is taken from its training part.

    Raises:
      StageError: too few groups to give every split one, or nothing of an official test list.
    """
    test = [entry for entry in entries if entry.official_split == OFFICIAL_TEST]
    rest = [entry for entry in entries if entry.official_split != OFFICIAL_TEST]
    has_official_lists = any(entry.official_split for entry in entries)
    if has_official_lists and not test:
        raise StageError(
            "no pair of the dataset's official test list is there; look whether its images and masks are, "
            "or raise dataset.limit"
        )
    wanted = {"val": config.val} if has_official_lists else {"test": config.test, "val": config.val}
    wanted = {split: fraction for split, fraction in wanted.items() if fraction > 0}

    groups = _ranked_groups(rest, config)
    if len(groups) <= len(wanted):
        raise StageError(
            f"{len(rest)} pairs in {len(groups)} groups cannot be divided into "
            f"{', '.join([*wanted, 'train'])}: each needs one group at least. Give more data, a finer "
            "dataset.splits.group, or no val split (dataset.splits.val=0)."
        )
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    splits["test"].extend(test)
    start = 0
    for done, (split, fraction) in enumerate(wanted.items(), start=1):
        # Each split still to come, and train, keeps one group.
        last = len(groups) - (len(wanted) - done) - 1
        end = _end_of_split(groups, start, last, target=fraction * len(rest))
        for group in groups[start:end]:
            splits[split].extend(group)
        start = end
    for group in groups[start:]:
        splits["train"].extend(group)
    return splits


def _end_of_split(groups: Sequence[Sequence[Entry]], start: int, last: int, target: float) -> int:
    """Takes groups from ``start`` until one more would lead further from the target than stopping."""
    size, end = len(groups[start]), start + 1
    while end < last and size + len(groups[end]) / 2 <= target:
        size += len(groups[end])
        end += 1
    return end


def _ranked_groups(entries: Sequence[Entry], config: SplitConfig) -> list[list[Entry]]:
    pattern = re.compile(config.group) if config.group is not None else None
    groups: dict[str, list[Entry]] = defaultdict(list)
    unmatched = 0
    for entry in entries:
        match = pattern.search(entry.key) if pattern else None
        unmatched += match is None
        name = None if match is None else match.group(1 if match.re.groups else 0)
        # A key without a group stands alone; the NUL keeps it apart from any group's name.
        groups[f"\0{entry.key}" if name is None else name].append(entry)
    if pattern and entries and unmatched == len(entries):
        raise StageError(
            f"dataset.splits.group {config.group!r} matches none of the {len(entries)} keys, "
            f"such as {entries[0].key!r}."
        )
    return [groups[name] for name in sorted(groups, key=lambda name: stable_rank(name, "split", config.seed))]
