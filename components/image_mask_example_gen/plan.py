"""What an ingestion will do, decided from names alone: which pair goes to which split and file."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from components.dataset.features import SPLITS
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.report import Rejection, UnusableDatasetError
from components.image_mask_example_gen.splits import SplitConfig, declare

_PAIRS_PER_SHARD = 64
"""Few enough to keep workers evenly busy to the end, enough for a file worth opening."""
_MAX_SHARDS = 1024
"""A split of a million pairs shall not become a folder of ten thousand files."""


@dataclass(frozen=True)
class Shard:
    """One TFRecord file and the pairs that go into it."""

    split: str
    file: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Plan:
    """The shards to write, and what the scan set aside."""

    pairs: dict[str, int]
    """Number of pairs meant for each split, before they are read."""
    origins: dict[str, str]
    """What decides about each split, in words; empty where no split is declared."""
    shards: tuple[Shard, ...]
    rejected: tuple[Rejection, ...]
    files: Sequence[str]
    """All input files that the scan found."""
    notes: tuple[str, ...] = ()
    """What deserves to be said of the pairs, a line each."""


def plan_ingestion(config: DatasetConfig, root: Path) -> Plan:
    """Scans the root, divides the pairs into splits and these into shards.

    Nothing here depends on the number of workers, so neither do the files written.

    Raises:
      StageError: there are no pairs, two have the same name, or the splits cannot be filled.
    """
    declared = declare(_paired(config, root), config.splits, root)
    scan = _limited(declared.scan, config)
    splits = assign_splits(scan.entries, config.grouped_splits, declared.origins)
    for split in declared.origins:
        if not splits[split]:
            raise StageError(f"dataset.limit {config.limit} leaves {split} no pair; raise it")
    shards = [shard for split in SPLITS for shard in _shards(split, splits[split])]
    pairs = {split: len(entries) for split, entries in splits.items()}
    origins = split_origins(declared.origins, config.splits)
    return Plan(pairs, origins, tuple(shards), tuple(scan.rejected), scan.files, scan.notes)


def plan_evaluation(config: DatasetConfig, root: Path, learnt: Callable[[Entry], bool]) -> Plan:
    """Puts all pairs of a folder into the test split, but those that the model in question learnt from.

    What no declared split asks for stays aside as in an ingestion; a folder need not be divided as the recipe
    declares, though. Files without a partner are told of where the folder has nothing else to do with that
    model: of its own folder the ingestion has told.

    Raises:
      StageError: there are no pairs, two have the same name, or none is left.
    """
    scan = _paired(config, root)
    try:
        scan = declare(scan, config.splits, root).scan
    except StageError as error:
        why = f"not divided as the recipe declares, so no pair is set aside: {error}"
        scan = replace(scan, notes=(*scan.notes, why))
    scan = _limited(scan, config)
    entries = [entry for entry in scan.entries if not learnt(entry)]
    if not entries:
        raise StageError(
            f"{root}: the model learnt from all {len(scan.entries)} pairs, or from their groups; give others"
        )
    rejected = scan.rejected if len(entries) == len(scan.entries) else []
    shards = tuple(_shards("test", entries))
    return Plan({"test": len(entries)}, {}, shards, tuple(rejected), scan.files, scan.notes)


def _paired(config: DatasetConfig, root: Path) -> Scan:
    scan = config.source.scan(root)
    if not scan.entries:
        orphans = "; ".join(f"{item.file}: {item.found}" for item in scan.rejected[:4])
        raise UnusableDatasetError(
            f"{root}: no image has a mask. {orphans or 'There are no files.'}", scan.rejected
        )
    return scan


def split_origins(declared: Mapping[str, str], config: SplitConfig) -> dict[str, str]:
    """Says of each split what decides about it; nothing where none is declared.

    Args:
      declared: What `declare` found.
      config: The shares.
    """
    if not declared:
        return {}
    shares = {split: getattr(config, split) for split in ("val", "test") if split not in declared}
    drawn = {
        split: f"a share of {share:g} of train, drawn by name" if share else "none asked for"
        for split, share in shares.items()
    }
    origins = {"train": "all in no other split"} | drawn | dict(declared)
    if "train" in declared and any(shares.values()):
        origins["train"] += f", but for {' and '.join(split for split in shares if shares[split])}"
    return {split: origins[split] for split in SPLITS}


def _limited(scan: Scan, config: DatasetConfig) -> Scan:
    """Keeps ``config.limit`` pairs, and of the files without a partner a like share."""
    if config.limit is None or len(scan.entries) <= config.limit:
        return scan
    ranks = {entry.key: stable_rank(entry.key, "limit") for entry in scan.entries}
    entries = sorted(scan.entries, key=lambda entry: ranks[entry.key])[: config.limit]
    last = ranks[entries[-1].key]
    rejected = [item for item in scan.rejected if stable_rank(item.file, "limit") <= last]
    return replace(scan, entries=sorted(entries, key=lambda entry: entry.key), rejected=rejected)


def _shards(split: str, entries: Sequence[Entry]) -> list[Shard]:
    """Deals the entries out in a random but fixed order, so that each shard is a fair sample.

    An empty split gets one empty file, which every reader of ``Split-<name>/*`` takes in its stride.
    """
    shuffled = sorted(entries, key=lambda entry: stable_rank(entry.key, "shard"))
    count = min(_MAX_SHARDS, max(1, -(-len(shuffled) // _PAIRS_PER_SHARD)))
    return [
        Shard(split, f"data_tfrecord-{index:05d}-of-{count:05d}", tuple(shuffled[index::count]))
        for index in range(count)
    ]


def assign_splits(
    entries: Sequence[Entry], config: SplitConfig, declared: Collection[str] = ()
) -> dict[str, list[Entry]]:
    """Returns the entries of each of train, val and test.

    What is declared as val or test stays it; where neither is, shares of the rest are drawn. Groups (single
    keys without ``config.group``) are ranked by a stable hash; the first of them make the test split, the
    next ones val, the rest train. Ranking meets the fractions as exactly as the groups allow, also with five
    pictures, where independent coin flips would leave splits empty; adding a file moves at most three groups,
    those at the borders.

    Args:
      entries: As `declare` returns them.
      config: The shares.
      declared: Splits of which no share is drawn, though none of the entries be in them.

    Raises:
      StageError: too few groups to give every split one.
    """
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    rest: list[Entry] = []
    for entry in entries:
        (splits[entry.official_split] if entry.official_split in ("val", "test") else rest).append(entry)
    shares = {"test": config.test, "val": config.val}
    wanted = {
        split: share
        for split, share in shares.items()
        if isinstance(share, float) and share > 0 and not splits[split] and split not in declared
    }

    groups = _ranked_groups(rest, config)
    if len(groups) <= len(wanted):
        raise StageError(
            f"{len(rest)} pairs in {len(groups)} groups cannot be divided into "
            f"{', '.join([*wanted, 'train'])}: each needs one group at least. Give more data, a finer "
            "dataset.splits.group, or no val split (dataset.splits.val=0)."
        )
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


def group_of(key: str, config: SplitConfig) -> str | None:
    """Returns the name of the group that a key is in; None where it stands alone."""
    match = None if config.group is None else re.search(config.group, key)
    return None if match is None else match.group(1 if match.re.groups else 0)


def _ranked_groups(entries: Sequence[Entry], config: SplitConfig) -> list[list[Entry]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        name = group_of(entry.key, config)
        # The NUL keeps a key that stands alone apart from any group's name.
        groups[f"\0{entry.key}" if name is None else name].append(entry)
    pattern = config.group
    if pattern is not None and entries and not any(re.search(pattern, entry.key) for entry in entries):
        raise StageError(
            f"dataset.splits.group {config.group!r} matches none of the {len(entries)} keys, "
            f"such as {entries[0].key!r}."
        )
    return [groups[name] for name in sorted(groups, key=lambda name: stable_rank(name, "split", config.seed))]


def stable_rank(key: str, purpose: str, seed: int = 0) -> bytes:
    """Returns eight bytes to sort by: an order that looks random, is the same everywhere, and hardly moves
    when a key is added.

    Args:
      key: What is to be ordered.
      purpose: Orders with different purposes are independent of each other.
      seed: Another seed gives another order.
    """
    text = f"{purpose}/{seed}/{key}".encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=8).digest()
