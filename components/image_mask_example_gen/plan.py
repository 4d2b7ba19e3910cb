"""What an ingestion will do, decided from names alone: which pair goes to which file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.dataset.features import SPLITS
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.hashing import stable_rank
from components.image_mask_example_gen.layouts.registry import LAYOUTS
from components.image_mask_example_gen.layouts.scan import Entry, Scan
from components.image_mask_example_gen.rejections import Rejection, UnusableDatasetError
from components.image_mask_example_gen.splits import assign_splits

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

    shards: tuple[Shard, ...]
    rejected: tuple[Rejection, ...]

    def num_pairs(self, split: str) -> int:
        """Number of pairs meant for a split, before they are read."""
        return sum(len(shard.entries) for shard in self.shards if shard.split == split)


def plan_ingestion(config: DatasetConfig, root: Path) -> Plan:
    """Scans the root, divides the pairs into splits and these into shards.

    Nothing here depends on the number of workers, so neither do the files written.

    Raises:
      StageError: there are no pairs, two have the same name, or the splits cannot be filled.
    """
    scan = _limited(LAYOUTS[config.layout].scan(config, root), config)
    if not scan.entries:
        orphans = "; ".join(f"{item.file}: {item.found}" for item in scan.rejected[:4])
        raise UnusableDatasetError(
            f"{root}: no image has a mask. {orphans or 'There are no files.'}", scan.rejected
        )
    splits = assign_splits(scan.entries, config.splits)
    shards = [shard for split in SPLITS for shard in _shards(split, splits[split])]
    return Plan(tuple(shards), tuple(scan.rejected))


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
