"""Tiles cut from larger pictures stay together, and single photos are not taken for tiles."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import first_recipe
import numpy as np
import pytest
from drawn_folders import blocks, draw_folders, photo, save_gray
from PIL import Image

from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.layouts.voc import Voc
from components.image_mask_example_gen.plan import group_of, plan_ingestion
from components.image_mask_example_gen.splits import SplitConfig
from pipeline.init import groups
from pipeline.init.groups import Frames, find_frames

TILE = 48
Name = Callable[[int, int, int], str]
"""Of the tile of a picture, at a row and a column."""


def scene(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture with large things and small ones, uint8 [side, side, 3]."""
    luma = rng.normal(0, 3, (side, side))
    for cells, contrast in ((5, 60), (20, 25)):
        coarse = Image.fromarray(rng.normal(0, contrast, (cells, cells)).astype(np.float32))
        luma += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(128 + luma, 0, 255).astype(np.uint8)[..., np.newaxis].repeat(3, 2)


def cut(root: Path, name: Name, pictures: int, stride: int, rows: int = 3, columns: int = 3) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    rng = np.random.default_rng(5)
    for picture in range(pictures):
        pixels = scene(rng, stride * (max(rows, columns) - 1) + TILE)
        for row in range(rows):
            for column in range(columns):
                y, x = row * stride, column * stride
                key = name(picture, row, column)
                Image.fromarray(pixels[y : y + TILE, x : x + TILE]).save(root / f"images/{key}.png")
                save_gray(root / "masks" / key, blocks(rng, 3, (TILE, TILE)))


def init(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[DatasetConfig, str]:
    """The dataset that is proposed, and what is said."""
    recipe = first_recipe.init(root / "images", root / "masks", root / "my.yaml")
    return recipe.dataset, " ".join(capsys.readouterr().out.split())


def splits_of_pictures(dataset: DatasetConfig, picture_of: Callable[[str], str]) -> dict[str, set[str]]:
    """The splits that each picture's tiles come into, through ingestion's plan."""
    found: dict[str, set[str]] = {}
    for shard in plan_ingestion(dataset, Path(dataset.root or "")).shards:
        for entry in shard.entries:
            found.setdefault(picture_of(entry.key), set()).add(shard.split)
    return found


@pytest.mark.parametrize("stride", [TILE, TILE * 3 // 4], ids=["side by side", "overlapping"])
@pytest.mark.parametrize(
    ("name", "group"),
    [
        (lambda p, r, c: f"{p + 21}_{3 * r + c:02}", r"^(.*?)_\d+$"),
        (lambda p, r, c: f"tile_{p}_{3 * r + c}", r"^(.*?)_\d+$"),
        (lambda p, r, c: f"{p:04}-{3 * r + c + 1}", r"^(.*?)\-\d+$"),
        (lambda p, r, c: f"area{p}_{r}_{c}", r"^(.*?)_\d+_\d+$"),
        (lambda p, r, c: f"img{p}_x{512 * c}_y{512 * r}", r"^(.*?)_x\d+_y\d+$"),
        (lambda p, r, c: f"scene{p}_r{r}_c{c}", r"^(.*?)_r\d+_c\d+$"),
        (lambda p, r, c: f"{p}_row{r}col{c}", r"^(.*?)_row\d+col\d+$"),
    ],
)
def test_tiles_of_a_picture_stay_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: Name, group: str, stride: int
) -> None:
    cut(tmp_path, name, pictures=12, stride=stride)
    dataset, said = init(tmp_path, capsys)
    assert dataset.splits.group == group
    assert "names and edges say that these are tiles cut from 12 larger pictures; those of a picture" in said
    pictures = {name(p, r, c): str(p) for p in range(12) for r in range(3) for c in range(3)}
    assert {len(splits) for splits in splits_of_pictures(dataset, pictures.__getitem__).values()} == {1}


def save_photos(root: Path, names: list[str]) -> None:
    rng = np.random.default_rng(3)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for name in names:
        Image.fromarray(photo(rng, (TILE, TILE))).save(root / f"images/{name}.png")
        save_gray(root / "masks" / name, blocks(rng, 3, (TILE, TILE)))


@pytest.mark.parametrize(
    "name", ["cat_{0}_{1}", "breed{0}_{1}", "{0}_{1:02}", "photo{2}"], ids=["two", "breeds", "numbers", "one"]
)
def test_single_photos_with_numbers_are_no_tiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    save_photos(tmp_path, [name.format(number // 5, number % 5, number) for number in range(60)])
    dataset, said = init(tmp_path, capsys)
    assert dataset.splits.group is None and "tiles" not in said


@pytest.mark.parametrize("name", ["tile_{0}_{1}", "img{0}_x{1}_y0"])
def test_where_names_alone_speak_of_tiles_a_check_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    save_photos(tmp_path, [name.format(number // 5, number % 5) for number in range(60)])
    dataset, said = init(tmp_path, capsys)
    assert dataset.splits.group
    assert "Check: names say that these are tiles cut from 12 larger pictures" in said


def test_tiles_of_a_single_picture_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(tmp_path, lambda _, r, c: f"big_r{r}_c{c}", pictures=1, stride=TILE, rows=6, columns=6)
    dataset, said = init(tmp_path, capsys)
    assert dataset.splits.group is None
    assert "tiles cut from 1 larger picture, but their names form no groups to be divided" in said


@pytest.mark.parametrize(
    "ends", [("", "_flip", "_aug_1", "-rot90"), (".rf.0a1", ".rf.7b2"), ("_orig", "_hflip")]
)
def test_altered_copies_of_a_picture_stay_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: tuple[str, ...]
) -> None:
    names = [f"{stem}{end}" for stem in "abcdefghijkl" for end in ends]
    draw_folders(tmp_path, save_gray, names=names, mask_name="{}.png")
    dataset, said = init(tmp_path, capsys)
    assert "names tell of altered copies of a picture; those of a picture stay in one split" in said
    found = splits_of_pictures(dataset, lambda key: key[0])
    assert len(found) == 12 and all(len(splits) == 1 for splits in found.values())


def frames_of(monkeypatch: pytest.MonkeyPatch, videos: Mapping[str, Sequence[str]]) -> Frames:
    """What is found of even pictures, of which those of a video are alike."""
    luma = {
        Path(f"{key}.png"): number * 37 % 41 for number, keys in enumerate(videos.values()) for key in keys
    }
    monkeypatch.setattr(groups, "read_luma", lambda path, *_, **__: np.full((16, 16), luma[path]))
    return find_frames(Voc(), Path(), [Entry(path.stem, str(path), str(path)) for path in luma])


def named(form: str, videos: int, frames: int, copies: Sequence[str]) -> dict[str, list[str]]:
    """Keys of each video, by a form of its number, the frame's, the copy's ending, any hash and suffix."""
    return {
        str(v): [
            form.format(v=v, n=n, c=copy, h=999 * n + len(copy), s=("PNG", "jpg")[n % 2])
            for n in range(frames)
            for copy in copies
        ]
        for v in range(videos)
    }


@pytest.mark.parametrize(
    ("form", "videos", "frames"),
    [
        ("P{v:03}_slice_{n:03}{c}", 6, 30),
        ("P{v:03}_slice_{n:03}{c}", 4, 12),
        ("clip{v}_mp4-{n:04}_jpg.rf.{h:05x}", 12, 6),
        ("clip{v}_{n}_{s}.rf.{h:05x}", 12, 6),
        ("clip{v:02}_{n:04}_cam2{c}", 12, 6),
        ("clip{v:02}_mp4-{n:04}_jpg{c}", 12, 6),
    ],
)
@pytest.mark.parametrize("copies", [("",), ("", "_flip", "_aug_2")], ids=["alone", "with copies"])
def test_frames_of_a_video_stay_together_wherever_their_number_stands(
    monkeypatch: pytest.MonkeyPatch, form: str, videos: int, frames: int, copies: Sequence[str]
) -> None:
    keys = named(form, videos, frames, copies)
    found = frames_of(monkeypatch, keys)
    assert found.groups == videos and found.kept == "those of a video" and not found.parted
    config = SplitConfig(group=found.group)
    groups_of = [{group_of(key, config) for key in of_video} for of_video in keys.values()]
    assert all(len(of_video) == 1 and None not in of_video for of_video in groups_of)
    assert len(set().union(*groups_of)) == videos


@pytest.mark.parametrize("videos", [{"v1": 60, "v2": 60, "v3": 60}, {"v1": 100, "v2": 8, "v3": 8, "v4": 4}])
@pytest.mark.parametrize("copies", [("",), ("", "_aug_2")], ids=["alone", "with copies"])
def test_videos_that_cannot_be_divided_whole_are_told_of(
    monkeypatch: pytest.MonkeyPatch, videos: Mapping[str, int], copies: Sequence[str]
) -> None:
    keys = {
        video: [f"{video}_{n:04}{copy}" for n in range(count) for copy in copies]
        for video, count in videos.items()
    }
    found = frames_of(monkeypatch, keys)
    assert found.kept == "blocks of 10 numbers" and found.parted and set(found.parted) <= set(videos)
    config = SplitConfig(group=found.group)
    assert group_of("v1_0012", config) == group_of(f"v1_0013{copies[-1]}", config) == "v1_001"


def test_copies_stay_together_where_their_video_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    found = frames_of(monkeypatch, {"v": [f"v_{n:03}{copy}" for n in range(20) for copy in ("", "_flip")]})
    assert found.kept == "those of a picture" and found.groups == 20 and found.parted == ("v",)


def test_numbers_of_the_same_ending_are_no_frames_unless_they_look_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not frames_of(monkeypatch, {str(n): [f"cat{n:03}_sat"] for n in range(40)}).found
