"""Division into train, val and test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StageError
from components.image_mask_example_gen.config import SplitConfig
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.plan import assign_splits


def entries(count: int) -> list[Entry]:
    return [Entry(f"{index:05d}", "", "") for index in range(count)]


def split_of(pairs: list[Entry], config: SplitConfig) -> dict[str, str]:
    return {entry.key: split for split, members in assign_splits(pairs, config).items() for entry in members}


@given(count=st.integers(3, 400), seed=st.integers(0, 5))
def test_every_split_is_filled_and_fractions_are_met(count: int, seed: int) -> None:
    splits = assign_splits(entries(count), SplitConfig(val=0.2, test=0.1, seed=seed))
    assert sum(map(len, splits.values())) == count
    assert len(splits["test"]) == pytest.approx(max(1, 0.1 * count), abs=0.5)
    assert len(splits["val"]) == pytest.approx(max(1, 0.2 * count), abs=0.5)
    assert splits["train"]


@given(count=st.integers(20, 300), seed=st.integers(0, 5))
def test_one_more_file_moves_at_most_three(count: int, seed: int) -> None:
    config = SplitConfig(seed=seed)
    before, after = split_of(entries(count), config), split_of(entries(count + 1), config)
    assert sum(before[key] != after[key] for key in before) <= 3


def test_the_order_of_files_does_not_matter_and_the_seed_does() -> None:
    assert split_of(entries(50), SplitConfig()) == split_of(entries(50)[::-1], SplitConfig())
    assert split_of(entries(50), SplitConfig()) != split_of(entries(50), SplitConfig(seed=1))


def test_frames_of_one_video_stay_together() -> None:
    frames = [Entry(f"clip{clip}_{frame}", "", "") for clip in range(8) for frame in range(2 + 3 * clip)]
    split = split_of(frames, SplitConfig(val=0.25, test=0.25, group=r"^(clip\d+)_"))
    clips = [
        {split[entry.key] for entry in frames if entry.key.startswith(f"clip{clip}_")} for clip in range(8)
    ]
    assert all(len(splits) == 1 for splits in clips)
    assert set(split.values()) == {"train", "val", "test"}


def test_a_key_without_the_group_s_part_stands_alone() -> None:
    singles = [Entry(f"photo{number}", "", "") for number in range(12)]
    split = split_of(singles, SplitConfig(val=0.25, test=0.25, group=r"^(clip\d+_)?"))
    assert set(split.values()) == {"train", "val", "test"}


def test_too_few_groups_are_an_error_that_says_so() -> None:
    with pytest.raises(StageError, match="in 1 groups"):
        assign_splits(entries(20), SplitConfig(group="^0"))


def test_a_group_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(StageError, match="matches none of the 5 keys, such as '00000'"):
        assign_splits(entries(5), SplitConfig(group="video"))


def test_official_test_stays_test_and_val_comes_out_of_trainval() -> None:
    official = [Entry(f"{index}", "", "", "trainval" if index < 40 else "test") for index in range(60)]
    splits = assign_splits(official, SplitConfig(val=0.25, test=0.9 - 0.25))
    assert {entry.official_split for entry in splits["test"]} == {"test"}
    assert [len(splits[name]) for name in ("train", "val", "test")] == [30, 10, 20]


def test_an_official_test_list_without_a_pair_is_an_error() -> None:
    official = [Entry(f"{index}", "", "", "trainval") for index in range(9)]
    with pytest.raises(StageError, match=r"no pair of the dataset's official test list is there"):
        assign_splits(official, SplitConfig())


def test_no_val_is_possible() -> None:
    assert assign_splits(entries(10), SplitConfig(val=0.0))["val"] == []
