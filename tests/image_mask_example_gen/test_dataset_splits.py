"""Division into train, val and test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Entry, Scan
from components.image_mask_example_gen.plan import assign_splits, plan_ingestion, split_origins
from components.image_mask_example_gen.report import Reason, Rejection
from components.image_mask_example_gen.split_lists import PairNames
from components.image_mask_example_gen.splits import SplitConfig, declare


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


def test_no_share_is_drawn_for_a_declared_split_that_a_limit_empties(tmp_path: Path) -> None:
    for number in range(40):
        name = f"{'test' if number == 7 else 'train'}/{number}"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jpg").touch()
        content = {"imagePath": f"{number}.jpg", "imageHeight": 9, "imageWidth": 9, "shapes": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    config = DatasetConfig(layout="labelme", root=str(tmp_path), classes=("background", "a"), limit=5)
    with pytest.raises(StageError, match="limit 5 leaves test no pair; raise it"):
        plan_ingestion(config, tmp_path)
    with_share = SplitConfig(val=0.2, test=0.2)
    assert assign_splits(entries(20), with_share, {"test"})["test"] == []
    assert assign_splits(entries(20), with_share, {"val"})["test"] != []


def test_a_key_without_the_group_s_part_stands_alone() -> None:
    singles = [Entry(f"photo{number}", "", "") for number in range(12)]
    split = split_of(singles, SplitConfig(val=0.25, test=0.25, group=r"^(clip\d+_)?"))
    assert set(split.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(("count", "filled"), [(3, [1, 1, 1]), (4, [1, 1, 2]), (20, [1, 9, 10])])
def test_large_shares_leave_every_split_a_group(count: int, filled: list[int]) -> None:
    splits = assign_splits(entries(count), SplitConfig(val=0.45, test=0.5))
    assert [len(splits[name]) for name in ("train", "val", "test")] == filled


def test_what_matches_no_group_s_pattern_stands_alone_beside_the_groups() -> None:
    clips = [Entry(f"seq{clip}_{frame}", "", "") for clip in range(5) for frame in range(3)]
    photos = [Entry(f"photo{number}", "", "") for number in range(5)]
    split = split_of([*clips, *photos], SplitConfig(val=0.2, test=0.2, group=r"^(seq\d+)_"))
    assert set(split.values()) == {"train", "val", "test"}
    assert all(len({split[f"seq{clip}_{frame}"] for frame in range(3)}) == 1 for clip in range(5))


@pytest.mark.parametrize(("count", "group", "groups"), [(20, "^0", 1), (2, None, 2)])
def test_too_few_groups_are_an_error_that_says_so(count: int, group: str | None, groups: int) -> None:
    with pytest.raises(StageError, match=f"in {groups} groups"):
        assign_splits(entries(count), SplitConfig(group=group))


def test_a_group_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(StageError, match="matches none of the 5 keys, such as '00000'"):
        assign_splits(entries(5), SplitConfig(group="video"))


def test_official_test_stays_test_and_val_comes_out_of_trainval() -> None:
    official = [Entry(f"{index}", "", "", "trainval" if index < 40 else "test") for index in range(60)]
    splits = assign_splits(official, SplitConfig(val=0.25, test=0.9 - 0.25))
    assert {entry.official_split for entry in splits["test"]} == {"test"}
    assert [len(splits[name]) for name in ("train", "val", "test")] == [30, 10, 20]


def test_what_no_list_names_is_a_share_of_the_training_list() -> None:
    official = [Entry(f"{index}", "", "", "trainval") for index in range(20)]
    splits = assign_splits(official, SplitConfig(val=0.2, test=0.3))
    assert [len(splits[name]) for name in ("train", "val", "test")] == [10, 4, 6]


def test_no_val_is_possible() -> None:
    assert assign_splits(entries(10), SplitConfig(val=0.0))["val"] == []


def pairs(*names: str, official: Mapping[str, str] = {}) -> list[Entry]:
    """Named as two folders are paired: the key is the name."""
    return [Entry(name, f"images/{name}.jpg", f"masks/{name}_mask.png", official.get(name)) for name in names]


def divided(
    root: Path, scan: Scan | list[Entry], **splits: Any
) -> tuple[dict[str, str], dict[str, Reason], dict[str, str]]:
    """Split of each key, reason of each file set aside, and what declares each split."""
    scan = scan if isinstance(scan, Scan) else Scan(scan, [])
    config = SplitConfig.model_validate(splits)
    declared = declare(scan, config, root)
    return (
        split_of(declared.scan.entries, config),
        {item.file: item.reason for item in declared.scan.rejected},
        declared.origins,
    )


def test_folders_are_kept_and_the_rest_is_set_aside(tmp_path: Path) -> None:
    found = pairs("train/1", "train/2", "val/1", "test/1", "extra/1")
    split, aside, origins = divided(
        tmp_path,
        found,
        train={"folder": "images/train"},
        val={"folder": ["images/valid", "images/v*"]},
        test={"folder": "**/test"},
    )
    assert split == {"train/1": "train", "train/2": "train", "val/1": "val", "test/1": "test"}
    assert aside == {"images/extra/1.jpg": Reason.UNLISTED}
    assert origins["train"] == "folder images/train"


def test_a_share_is_drawn_where_a_declaration_claims_all_of_an_official_split(tmp_path: Path) -> None:
    official = {f"{split}/{number}": split for split in ("train", "val", "test") for number in range(10)}
    config = SplitConfig.model_validate({"train": {"folder": ["images/train", "images/val"]}, "val": 0.2})
    declared = declare(Scan(pairs(*official, official=official), []), config, tmp_path)
    assert set(declared.origins) == {"train", "test"}
    found = assign_splits(declared.scan.entries, config, declared.origins)
    assert {split: len(members) for split, members in found.items()} == {"train": 16, "val": 4, "test": 10}


def test_a_folder_is_no_beginning_of_a_name(tmp_path: Path) -> None:
    found = [*pairs("train_extra/1", "train/1", "train/2")]
    split, aside, _ = divided(tmp_path, found, train={"folder": "images/train"}, val=0.0, test=0.5)
    assert set(split) == {"train/1", "train/2"} and len(aside) == 1


def test_a_folder_begins_at_the_root(tmp_path: Path) -> None:
    older = Entry("old/val/1", "old/images/val/1.jpg", "old/masks/val/1_mask.png")
    found = [*pairs("val/1", "a", "b"), older]
    split, _, _ = divided(tmp_path, found, test={"folder": "images/val"}, val=0.0)
    assert split == {"val/1": "test", "a": "train", "b": "train", "old/val/1": "train"}


@pytest.mark.parametrize(
    "line",
    [
        "b",
        "b.jpg",
        "b_mask.png",
        "images/b.jpg masks/b_mask.png",
        "/elsewhere/images/b.jpg\t/elsewhere/masks/b_mask.png",
        "./images/b.jpg,1",
        "C:\\data\\images\\b.jpg",
        "b 1 1 1",
        "b  -1",
        '"b.jpg"',
        "b.tiff",
        "7 b.jpg",
        "B.JPG",
    ],
)
def test_a_list_may_write_names_and_paths_and_further_columns(tmp_path: Path, line: str) -> None:
    (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbf# names\r\n\r\n" + line.encode() + b"\r\n")
    split, aside, _ = divided(tmp_path, pairs("a", "b", "c"), test={"list": "test.txt"}, val=0.0)
    assert split == {"a": "train", "b": "test", "c": "train"} and not aside


@pytest.mark.parametrize("name", ["street 1", "v1.2", "a,b", "\u00fc", "u\u0308"])
def test_names_may_be_unusual(tmp_path: Path, name: str) -> None:
    (tmp_path / "test.txt").write_text("\u00fc" if name == "u\u0308" else name, encoding="utf-8")
    split, aside, _ = divided(tmp_path, pairs("a", name, "c"), test={"list": "test.txt"}, val=0.0)
    assert split[name] == "test" and not aside


def test_the_folder_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("/data/images/val/1.jpg")
    split, _, _ = divided(tmp_path, pairs("train/1", "val/1", "val/2"), test={"list": "test.txt"}, val=0.0)
    assert [key for key, name in split.items() if name == "test"] == ["val/1"]
    (tmp_path / "test.txt").write_text("\n1\n")
    with pytest.raises(StageError, match=r"test.txt, line 2: '1' names 2 pairs, images/train/1.jpg and"):
        divided(tmp_path, pairs("train/1", "val/1", "val/2"), test={"list": "test.txt"})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("images/val/1.jpg", None),
        ("/data/val/images/1.jpg", None),
        ("images/VAL/2.jpg", "val/2"),
        ("elsewhere/1.jpg", "train/1"),
        ("train/images/1.jpg", "train/1"),
    ],
)
def test_a_file_that_is_missing_in_a_folder_is_not_found_in_another(
    tmp_path: Path, line: str, found: str | None
) -> None:
    (tmp_path / "test.txt").write_text(f"{line}\nval/3.jpg")
    names = pairs("train/1", "train/2", "val/2", "val/3")
    split, aside, _ = divided(tmp_path, names, test={"list": "test.txt"}, val=0.0)
    assert {key for key, name in split.items() if name == "test"} == {"val/3"} | ({found} - {None})
    assert aside == ({} if found else {line: Reason.LISTED_ONLY})


@pytest.mark.parametrize("line", ["/home/me/test/project/images/3.jpg", "/home/me/masks/images/3.jpg"])
def test_a_folder_that_is_not_beside_the_pair_s_own_does_not_speak_against_it(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "test.txt").write_text(line)
    unlabelled = [Rejection("test/900.jpg", Reason.IMAGE_WITHOUT_MASK, "no mask")]
    split, _, _ = divided(tmp_path, Scan(pairs("2", "3"), unlabelled), test={"list": "test.txt"}, val=0.0)
    assert split == {"2": "train", "3": "test"}


def test_the_case_of_letters_tells_files_apart_where_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("IMG")
    split, _, _ = divided(tmp_path, pairs("img", "IMG", "other"), test={"list": "test.txt"}, val=0.0)
    assert split == {"img": "train", "IMG": "test", "other": "train"}


def test_a_name_that_no_file_has_is_rejected_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("a\nz\n")
    found = declare(
        Scan(pairs("a", "b", "c"), []), SplitConfig.model_validate({"val": {"list": "val.txt"}}), tmp_path
    )
    [item] = found.scan.rejected
    assert (item.file, item.reason, item.found) == (
        "z",
        Reason.LISTED_ONLY,
        "val.txt, line 2; no file has this name",
    )


def test_an_image_without_mask_is_damage_only_where_a_split_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\nb\nwanted")
    (tmp_path / "val.txt").write_text("c")
    alone = [
        Rejection(f"images/{name}.jpg", Reason.IMAGE_WITHOUT_MASK, "no mask")
        for name in ("wanted", "unlabelled")
    ]
    lists = {"train": {"list": "train.txt"}, "val": {"list": "val.txt"}}
    split, aside, _ = divided(tmp_path, Scan(pairs("a", "b", "c"), alone), **lists, test=0.5)
    assert aside == {"images/wanted.jpg": Reason.IMAGE_WITHOUT_MASK, "images/unlabelled.jpg": Reason.UNLISTED}
    assert split["c"] == "val" and set(split.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_declare_splits(tmp_path: Path, separator: str) -> None:
    rows = [
        ("id", "file", "set"),
        ("1", "a.jpg", "train"),
        ("2", "b.jpg", "dev"),
        ("3", "c.jpg", "hold"),
        ("4", "d.jpg", "train"),
    ]
    (tmp_path / "split.csv").write_text("\n".join(map(separator.join, rows)))
    table = {"csv": "split.csv", "column": "set"}
    splits = {
        "train": {**table, "value": "train"},
        "val": {**table, "value": "dev"},
        "test": {**table, "value": ["hold", "out"]},
    }
    split, aside, origins = divided(tmp_path, pairs("a", "b", "c", "d"), **splits)
    assert split == {"a": "train", "b": "val", "c": "test", "d": "train"} and not aside
    assert origins["test"] == "split.csv, set = hold or out"


def test_blanks_around_a_word_of_a_table_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("file,set\na.jpg,train\nb.jpg, val\nc.jpg,val \nd.jpg,train\n")
    val = {"csv": "split.csv", "column": "set", "value": "val"}
    split, aside, _ = divided(tmp_path, pairs("a", "b", "c", "d"), val=val, test=0.5)
    assert {key for key, name in split.items() if name == "val"} == {"b", "c"} and not aside


NUMBERS = [str(number) for number in range(12)]
TESTED = {"0", "1", "2"}


def table(root: Path, heading: str, row: str) -> dict[str, Any]:
    """Writes a table of pairs whose names are numbers, in an order of its own; returns its declaration."""
    rows = [
        row.format(
            i=place,
            n=number,
            twin=(int(number) + 5) % 12,
            count=int(number) * 7 % 9,
            seven="7.jpg" if number == "5" else "",
            before=f"{int(number) - 1}.jpg" if int(number) else "",
            url=f"https://x.org/{7 if number == '9' else 5000 + int(number)}.jpg",
            s="test" if number in TESTED else "rest",
        )
        for place, number in enumerate(sorted(NUMBERS, key=lambda name: int(name) * 7 % 12))
    ]
    (root / "meta.csv").write_text("\n".join([heading, *rows, ""]))
    return {"csv": "meta.csv", "column": "split", "value": "test"}


@pytest.mark.parametrize(
    ("heading", "row"),
    [
        (",id,split", "{i},{n},{s}"),
        ("Unnamed: 0,split,id", "{i},{s},{n}"),
        ("patient,file,split", "{twin},{n}.png,{s}"),
        ("image,mask,split", "{n},{n}_mask.png,{s}"),
        ("few,image,split", "3,{n},{s}"),
        ("id,duplicate_of,split", "{n},{seven},{s}"),
        ("image,source,split", "{n},{url},{s}"),
        ("image,duplicate_of,split", "{n}.jpg,{seven},{s}"),
        ("previous,frame,split", "{before},{n}.jpg,{s}"),
        ("age,image,split", "{count},{n},{s}"),
        ("area,image,split", "{twin}.37,{n},{s}"),
        ("area,image,split", "{twin}.5e+0,{n},{s}"),
    ],
)
def test_one_column_of_a_table_names_the_pairs_of_all_its_rows(
    tmp_path: Path, heading: str, row: str
) -> None:
    split, aside, _ = divided(tmp_path, pairs(*NUMBERS), test=table(tmp_path, heading, row), val=0.0)
    assert {key for key, name in split.items() if name == "test"} == TESTED and not aside


def test_a_name_that_all_folders_have_tells_no_pair_and_is_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [f"case_{number}" for number in range(20)]
    found = [Entry(case, f"cases/{case}/image.png", f"cases/{case}/mask.png") for case in cases]
    rows = [f"image.png,{case},{'test' if case == 'case_3' else 'rest'}" for case in cases]
    (tmp_path / "meta.csv").write_text("\n".join(["file,case,split", *rows]))
    asked: list[str] = []
    find = PairNames.find

    def noted(self: PairNames, name: str) -> list[str]:
        asked.append(name)
        return find(self, name)

    monkeypatch.setattr(PairNames, "find", noted)
    test = {"csv": "meta.csv", "column": "split", "value": "test"}
    split, _, _ = divided(tmp_path, found, test=test, val=0.0)
    assert [key for key, name in split.items() if name == "test"] == ["case_3"]
    assert asked.count("image.png") == 1


def test_a_name_that_is_missing_is_not_looked_for_in_another_column(tmp_path: Path) -> None:
    rows = table(tmp_path, "patient,file,split", "{twin},{n}.png,{s}")
    split, aside, _ = divided(tmp_path, pairs(*NUMBERS[1:]), test=rows, val=0.0)
    assert {key for key, name in split.items() if name == "test"} == {"1", "2"}
    assert aside == {"0.png": Reason.LISTED_ONLY}


def test_a_table_in_which_two_columns_may_be_the_names_is_refused(tmp_path: Path) -> None:
    declared = {"test": table(tmp_path, "patient,image,split", "{twin},{n},{s}")}
    for splits in (declared, {"test": {"list": "meta.csv"}}):
        with pytest.raises(StageError, match=r"meta\.csv: column patient and column image both name pairs"):
            divided(tmp_path, pairs(*NUMBERS), **splits)


@pytest.mark.parametrize(
    ("splits", "origins"),
    [
        ({}, []),
        (
            {"test": {"folder": "t"}},
            ["all in no other split", "a share of 0.15 of train, drawn by name", "folder t"],
        ),
        (
            {"train": {"folder": "a"}, "test": {"folder": "t"}, "val": 0.0},
            ["folder a", "none asked for", "folder t"],
        ),
        (
            {name: {"folder": name} for name in ("train", "val", "test")},
            ["folder train", "folder val", "folder test"],
        ),
    ],
)
def test_it_is_said_what_decides_about_each_split(splits: dict[str, Any], origins: list[str]) -> None:
    config = SplitConfig.model_validate(splits)
    declared = {name: str(split) for name, split in config.declared.items()}
    assert list(split_origins(declared, config).values()) == origins


def test_a_pattern_may_declare_a_split(tmp_path: Path) -> None:
    split, _, _ = divided(tmp_path, pairs("1_a", "2_a", "1_b", "2_b"), test={"pattern": "_b[^/]*$"}, val=0.0)
    assert split == {"1_a": "train", "2_a": "train", "1_b": "test", "2_b": "test"}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"val": {"list": "two.txt"}, "test": {"folder": "images"}},
            r"images/a.jpg is in val \(list two.txt\) and in test",
        ),
        (
            {"val": {"list": "none.txt"}},
            r"dataset.splits.val.list: none.txt cannot be read under .*No such file",
        ),
        ({"val": {"folder": "images/val"}}, r"dataset.splits.val: no pair of image and mask is in it"),
        (
            {"val": {"csv": "t.csv", "column": "fold", "value": "1"}},
            r"t.csv has no column 'fold'; it has name, set",
        ),
        (
            {"val": {"csv": "t.csv", "column": "set", "value": "dev"}},
            r"dev stands nowhere in the column set of t.csv; there is val",
        ),
        (
            {"val": {"csv": "w.csv", "column": "Größe", "value": "1"}},
            r"w.csv has no column 'Größe'; it has name, set, .*, and is no UTF-8: save it as that",
        ),
        (
            {"val": {"csv": "w.csv", "column": "set", "value": "prüf"}},
            r"prüf stands nowhere in the column set of w.csv; .*, and is no UTF-8: save it as that",
        ),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused_in_one_line(
    tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    (tmp_path / "two.txt").write_text("a\nb")
    (tmp_path / "t.csv").write_text("name,set\na,val\n")
    (tmp_path / "w.csv").write_text("name,set,Größe\na,prüf,1\n", "cp1252")
    with pytest.raises(StageError, match=message) as raised:
        divided(tmp_path, pairs("a", "b", "c"), **splits)
    assert "\n" not in str(raised.value)


def test_an_official_val_without_a_test_is_the_test(tmp_path: Path) -> None:
    official = {name: "val" if name in "yz" else "train" for name in "abcdefyz"}
    split, _, origins = divided(tmp_path, pairs(*official, official=official), val=0.2)
    assert {key for key, name in split.items() if name == "test"} == {"y", "z"}
    assert list(split.values()).count("val") == 1
    assert origins["test"] == "the dataset's own list of val, as it has none of test"


def test_an_official_val_stays_one_where_the_recipe_declares_the_test(tmp_path: Path) -> None:
    official = {"a": "train", "b": "train", "c": "val", "mine/d": "train"}
    found = pairs(*official, official=official)
    split, aside, origins = divided(tmp_path, found, test={"folder": "images/mine"})
    assert split == official | {"mine/d": "test"} and not aside
    assert origins["val"] == "the dataset's own list"


def test_all_official_splits_are_kept_and_no_val_trains_on_it(tmp_path: Path) -> None:
    official = {"a": "train", "b": "train", "c": "val", "d": "test"}
    found = pairs(*official, official=official)
    assert divided(tmp_path, found)[0] == official
    assert divided(tmp_path, found, val=0.0)[0] == official | {"c": "train"}


def test_a_declaration_takes_the_place_of_the_official_list_of_its_name(tmp_path: Path) -> None:
    official = {"a": "trainval", "b": "trainval", "c": "test", "d": "test"}
    (tmp_path / "mine.txt").write_text("c")
    found = pairs(*official, official=official)
    split, aside, _ = divided(tmp_path, found, test={"list": "mine.txt"}, val=0.0)
    assert split == {"a": "train", "b": "train", "c": "test"}
    assert aside == {"images/d.jpg": Reason.UNLISTED}
