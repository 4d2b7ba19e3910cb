"""Which folders a walk goes through."""

from pathlib import Path

import pytest

from components.folders import files_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for file in ("data/a/1.png", "data/b/2.png", "data/.cache/3.png", "data/b/.4.png", "elsewhere/5.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path / "data"


def test_hidden_files_and_folders_are_left_out(root: Path) -> None:
    assert list(files_below(root)) == ["a/1.png", "b/2.png"]


def test_a_link_to_a_folder_is_followed_however_often_there_is_one(root: Path) -> None:
    for link in ("c", "d"):
        (root / link).symlink_to(root.parent / "elsewhere")
    assert list(files_below(root)) == ["a/1.png", "b/2.png", "c/5.png", "d/5.png"]


def test_any_number_of_links_lead_to_one_folder_behind_a_link_too(root: Path) -> None:
    for number in range(150):
        (root / f"scene/{number}").mkdir(parents=True)
        (root / f"scene/{number}/calib").symlink_to(root.parent / "elsewhere")
    (root.parent / "data2").mkdir()
    (root.parent / "data2/all").symlink_to(root)
    expected = sorted(f"scene/{number}/calib/5.png" for number in range(150))
    assert sorted(files_below(root))[2:] == expected
    assert sorted(files_below(root.parent / "data2"))[2:] == [f"all/{path}" for path in expected]


@pytest.mark.parametrize("target", [".", "data", "data/a"])
def test_a_link_to_where_one_came_from_is_not(root: Path, target: str) -> None:
    (root / "a" / "up").symlink_to(root.parent / target)
    assert list(files_below(root)) == ["a/1.png", "b/2.png"]


def test_two_links_to_each_others_folders_end(root: Path) -> None:
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    assert list(files_below(root)) == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]


def test_no_deeper_than_asked_for(root: Path) -> None:
    (root / "0.png").touch()
    assert list(files_below(root, depth=0)) == ["0.png"]
    assert list(files_below(root, depth=1)) == ["0.png", "a/1.png", "b/2.png"]


def test_a_folder_that_is_not_there_is_an_error_unless_passed_over(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(files_below(root / "nowhere"))
    assert list(files_below(root / "nowhere", onerror=None)) == []
