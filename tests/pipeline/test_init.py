"""The init command: from two folders to a recipe that runs as it is."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_folders import (
    COLORS,
    blocks,
    draw_folders,
    photo,
    save_16_bit,
    save_binary,
    save_gray,
    save_mat,
    save_one_bit,
    save_palette,
    save_rgb,
)
from PIL import Image

from components.dataset.features import IGNORE_LABEL
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.mask import open_mask
from components.image_mask_example_gen.plan import plan_ingestion
from pipeline.config import Recipe, load_recipe
from pipeline.init import run
from pipeline.init.__main__ import main
from pipeline.init.inspection import Dataset


def init(root: Path, *more: str, images: str = "images", masks: str = "masks") -> Recipe:
    """Runs the command and loads the recipe without a change."""
    output = root / "my.yaml"
    folders = ["--images", str(root / images), "--masks", str(root / masks)]
    assert main([*folders, "--output", str(output), *more]) == 0
    return load_recipe(str(output))


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Returns the one line that the command ends with."""
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    return line.removeprefix("python -m pipeline.init: ")


def refused_folders(capsys: pytest.CaptureFixture[str], root: Path, *more: str) -> str:
    folders = ["--images", str(root / "images"), "--masks", str(root / "masks")]
    line = refused(capsys, *folders, "--output", str(root / "my.yaml"), *more)
    assert not (root / "my.yaml").exists() and not (root / "preview.png").exists()
    return line


def test_a_bucket_is_sent_to_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ("--images", "s3://data/set/images", "--masks", str(tmp_path))
    line = refused(capsys, *folders, "--output", str(tmp_path / "my.yaml"))
    assert "--images: s3://data/set/images is in a bucket" in line and "--data s3://BUCKET/FOLDER" in line


def ingested(dataset: DatasetConfig) -> dict[str, np.ndarray]:
    """Class ids of each pair, as the ingestion makes them of the recipe."""
    root = Path(str(dataset.root))
    names, ignored = dataset.raw_labels()
    mapping = LabelMapping(names, ignored, dataset.label_set().names)
    entries = [entry for shard in plan_ingestion(dataset, root).shards for entry in shard.entries]
    return {
        entry.key: mapping.class_ids(open_mask(root / entry.mask, 10**6).read(mapping.of_colors))
        for entry in entries
    }


@pytest.mark.parametrize(
    ("save", "classes", "raw"),
    [
        (save_gray, 3, [0, 1, 2]),
        (save_binary, 2, [0, 255]),
        (save_one_bit, 2, [0, 1]),
        (save_palette, 4, [0, 1, 2, 3]),
        (save_16_bit, 3, [0, 1000, 2000]),
        (save_mat, 5, [0, 1, 2, 3, 4]),
        (save_rgb, 3, sorted(COLORS[:3])),
    ],
)
def test_each_encoding_is_ingested_as_it_was_drawn(
    tmp_path: Path, save: Callable[[Path, np.ndarray], None], classes: int, raw: list[object]
) -> None:
    drawn = draw_folders(tmp_path, save, classes=classes)
    dataset = init(tmp_path).dataset
    assert dataset.root == str(tmp_path)
    assert list(dataset.raw_labels()[0]) == raw
    found = ingested(dataset)
    assert found.keys() == drawn.keys()
    for name, ids in drawn.items():
        np.testing.assert_array_equal(found[name], ids)


def test_a_customary_void_is_written_as_ignored(tmp_path: Path) -> None:
    drawn = draw_folders(tmp_path, lambda path, ids: save_gray(path, np.where(ids == 3, 255, ids)), classes=4)
    dataset = init(tmp_path).dataset
    assert dataset.ignore_label == 255
    assert len(dataset.label_set().names) == 3
    for name, ids in ingested(dataset).items():
        np.testing.assert_array_equal(ids, np.where(drawn[name] == 3, IGNORE_LABEL, drawn[name]))


def test_the_border_colour_of_pascal_voc_is_ignored(tmp_path: Path) -> None:
    draw_folders(tmp_path, save_rgb, classes=5)
    dataset = init(tmp_path).dataset
    assert dataset.ignore_label == (224, 224, 192)
    assert dataset.label_set().colors == ((0, 0, 0), (10, 20, 30), (128, 64, 128), (255, 0, 0))
    assert "class_red" in dataset.label_set().names


def test_names_given_stand_in_recipe_and_preview(tmp_path: Path) -> None:
    draw_folders(tmp_path, save_gray)
    recipe = init(tmp_path, "--classes", "sky,no,'road: wet'")
    assert recipe.dataset.label_set().names == ("sky", "no", "'road: wet'")
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.width > preview.height / 4
        assert len(preview.getcolors(1 << 24) or ()) > 1000


def test_a_preview_names_its_files_in_any_letters(tmp_path: Path) -> None:
    captions = []
    for images in ("Жук", "Тиж", "木の道"):
        draw_folders(tmp_path / images, save_gray, images=images, names="abc")
        init(tmp_path / images, images=images)
        with Image.open(tmp_path / images / "preview.png") as preview:
            captions.append(np.asarray(preview.crop((0, 0, 400, 30))))
    # Letters that a font lacks all look alike.
    assert not np.array_equal(captions[0], captions[1])
    assert not np.array_equal(captions[0], captions[2])


def test_several_values_without_a_class_are_all_ignored(tmp_path: Path) -> None:
    drawn = draw_folders(tmp_path, save_gray, classes=4)
    (tmp_path / "names.txt").write_text("# raw value and name\n1 car\n0 road\n")
    dataset = init(tmp_path, "--classes", str(tmp_path / "names.txt")).dataset
    assert dataset.label_set().names == ("car", "road")
    for name, ids in ingested(dataset).items():
        np.testing.assert_array_equal(ids, np.array([1, 0, 255, 255], np.uint8)[drawn[name]])


@pytest.mark.parametrize("is_mixed", [False, True])
def test_frames_of_a_video_stay_together(tmp_path: Path, is_mixed: bool) -> None:
    names = [f"drive_{number:05d}" for number in range(0, 240, 2)]
    # Masks of pictures of two formats keep their whole names.
    suffixes = {name: ".png" if is_mixed and number % 7 == 0 else ".jpg" for number, name in enumerate(names)}
    draw_folders(tmp_path, save_gray, names=names)
    if is_mixed:
        for name in names:
            (tmp_path / f"masks/{name}.png").rename(tmp_path / f"masks/{name}{suffixes[name]}.png")
    rng = np.random.default_rng(1)
    for start in range(0, len(names), 5):
        scene = photo(rng)
        for name in names[start : start + 5]:
            noisy = np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
            (tmp_path / f"images/{name}.jpg").unlink()
            Image.fromarray(noisy).save(tmp_path / f"images/{name}{suffixes[name]}", quality=95)
    dataset = init(tmp_path).dataset
    assert dataset.splits.group == (r"^(.*?)\d(?:\.jpg|\.png)?$" if is_mixed else r"^(.*?)\d$")
    splits: dict[str, set[str]] = {}
    for shard in plan_ingestion(dataset, tmp_path).shards:
        for entry in shard.entries:
            splits.setdefault(Path(entry.image).stem[:-1], set()).add(shard.split)
    assert len(splits) == 24 and all(len(each) == 1 for each in splits.values())


def test_numbered_single_photos_need_no_groups(tmp_path: Path) -> None:
    draw_folders(tmp_path, save_gray, names=[f"cat_{number}" for number in range(40)])
    assert init(tmp_path).dataset.splits.group is None


def test_files_that_cannot_be_used_are_told_and_allowed_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, save_gray, names=[f"n{c}" for c in [*"abcd", *map(str, range(96))]])
    (tmp_path / "masks" / "na.png").unlink()
    (tmp_path / "masks" / "nb.png").write_bytes(b"")
    (tmp_path / "images" / "nc.jpg").write_bytes(b"no picture")
    save_gray(tmp_path / "masks" / "nd.png", blocks(np.random.default_rng(0), 3, (24, 32)))
    recipe = init(tmp_path)
    text = " ".join(capsys.readouterr().out.split())
    for reason in ("image without mask", "empty file", "not decodable", "sizes differ"):
        assert f"1 files set aside, {reason}" in text
    assert recipe.dataset.max_rejected_fraction == pytest.approx(0.05)


def test_more_damage_than_a_recipe_may_pass_over_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, save_gray)
    (tmp_path / "masks" / "a.png").unlink()
    line = refused_folders(capsys, tmp_path)
    assert "1 of 12 pairs cannot be used" in line and "images/a.jpg: no mask for the name 'a'" in line


def test_images_of_another_format_than_their_names_say_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, save_gray)
    init(tmp_path)
    assert "names say" not in capsys.readouterr().out
    path = tmp_path / "images" / "c.jpg"
    with Image.open(path) as picture:
        picture.save(path, "PPM")
    init(tmp_path, "--force")
    assert "1 images are not what their names say: images/c.jpg (the first is PPM)" in capsys.readouterr().out


def test_a_known_layout_keeps_its_own_values(tmp_path: Path) -> None:
    draw_folders(
        tmp_path,
        lambda path, ids: save_gray(path, ids + 1),
        names=[f"Beagle_{n}" for n in range(9)],
        masks="annotations/trimaps",
    )
    lists = {"trainval": range(6), "test": range(6, 9)}
    for name, numbers in lists.items():
        text = "".join(f"Beagle_{number} 1 2 1\n" for number in numbers)
        (tmp_path / "annotations" / f"{name}.txt").write_text(text)
    output = tmp_path / "pets.yaml"
    assert main(["--layout", "oxford_iiit_pet", "--data", str(tmp_path), "--output", str(output)]) == 0
    recipe = load_recipe(str(output))
    assert recipe.dataset.layout == "oxford_iiit_pet"
    assert recipe.dataset.label_set().names == ("pet", "background", "border")
    assert recipe.evaluation.slices == ("species",)


def test_odd_file_names_make_a_recipe_all_the_same(tmp_path: Path) -> None:
    root = tmp_path / "it's [mine]: #1"
    draw_folders(root, save_gray)
    output = root / "my recipe: 1.yaml"
    folders = ["--images", str(root / "images"), "--masks", str(root / "masks")]
    assert main([*folders, "--output", str(output)]) == 0
    recipe = load_recipe(str(output))
    assert recipe.name == recipe.serving.model_name == "my-recipe-1"
    assert len(ingested(recipe.dataset)) == 12


def test_existing_files_are_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, save_gray)
    init(tmp_path)
    before = (tmp_path / "my.yaml").read_text()
    capsys.readouterr()
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    argv = [*folders, "--output", str(tmp_path / "my.yaml"), "--classes", "a,b,c"]
    assert "my.yaml exists" in refused(capsys, *argv)
    assert (tmp_path / "my.yaml").read_text() == before
    assert main([*argv, "--force"]) == 0
    assert load_recipe(str(tmp_path / "my.yaml")).dataset.classes == ("a", "b", "c")


def no_hard_links(*_: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, no_hard_links])
@pytest.mark.parametrize("name", ["my.yaml", "preview.png"])
def test_a_file_that_comes_while_the_folders_are_looked_at_is_kept(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    link: Callable[..., None],
    name: str,
) -> None:
    draw_folders(tmp_path, save_gray)
    theirs = tmp_path / name
    draw = run.draw_preview

    def draw_late(dataset: Dataset) -> Any:
        theirs.write_text("hours of work")
        return draw(dataset)

    monkeypatch.setattr(run, "draw_preview", draw_late)
    monkeypatch.setattr(os, "link", link)
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    line = refused(capsys, *folders, "--output", str(tmp_path / "my.yaml"))
    assert f"{theirs} exists; name another file, or give --force to replace it" in line
    assert theirs.read_text() == "hours of work"
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", name}
    theirs.unlink()
    monkeypatch.setattr(run, "draw_preview", draw)
    assert main([*folders, "--output", str(tmp_path / "my.yaml")]) == 0
    assert load_recipe(str(tmp_path / "my.yaml")) and (tmp_path / "preview.png").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", "my.yaml", "preview.png"}


def test_masks_that_are_photos_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_folders(tmp_path, save_gray)
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "masks").rename(tmp_path / "images")
    (tmp_path / "photos").rename(tmp_path / "masks")
    line = refused_folders(capsys, tmp_path)
    assert "looks like a photo" in line and "were the two folders swapped?" in line


def test_masks_blurred_by_jpeg_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def save_jpeg(path: Path, ids: np.ndarray) -> None:
        rows, columns = np.mgrid[:48, :64]
        disc = (np.hypot(rows - 24, columns - 32) < 10 + ids[0, 0]) * 1 + (columns < 20)
        Image.fromarray(disc.astype(np.uint8) * 100).save(path.with_suffix(".jpg"), quality=40)

    draw_folders(tmp_path, save_jpeg)
    line = refused_folders(capsys, tmp_path)
    assert "JPEG is a lossy format" in line and "mostly" in line


def test_masks_with_soft_edges_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def save_soft(path: Path, ids: np.ndarray) -> None:
        rows, columns = np.mgrid[:480, :640]
        disc = (np.hypot(rows - 240, columns - 320) < 100 + ids[0, 0]) * np.uint8(100) + np.uint8(100)
        disc[:, :100] = 0
        Image.fromarray(disc).resize((64, 48), Image.Resampling.BICUBIC).save(path.with_suffix(".png"))

    draw_folders(tmp_path, save_soft)
    assert "edges are soft" in refused_folders(capsys, tmp_path)


def test_masks_without_anything_to_tell_apart_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, lambda path, ids: save_gray(path, np.zeros_like(ids)))
    assert "every mask read holds 0" in refused_folders(capsys, tmp_path)


def test_folders_that_are_missing_or_hold_nothing_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "images does not exist" in refused_folders(capsys, tmp_path)
    (tmp_path / "images").mkdir()
    assert "images is empty" in refused_folders(capsys, tmp_path)
    (tmp_path / "images" / "a.txt").touch()
    assert "holds 1 files, of which 1 with .txt" in refused_folders(capsys, tmp_path)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").touch()
    assert "is a file" in refused_folders(capsys, tmp_path)


def test_two_pairs_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_folders(tmp_path, save_gray, names=["a", "b"])
    assert refused_folders(capsys, tmp_path).startswith("2 usable pairs")


def test_a_write_that_fails_is_told_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path, save_gray)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(Image.Image, "save", fail)
    assert refused_folders(capsys, tmp_path) == f"{tmp_path / 'my.yaml'}: File too large"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--output", "a.yaml"], "give --images DIR and --masks DIR, or --layout"),
        (["--images", "a", "--output", "a.yaml"], "--masks DIR is missing"),
        (["--images", "a", "--data", "b", "--output", "a.yaml"], "give --images"),
        (["--layout", "kitti_semantics", "--output", "a.yaml"], "needs --data"),
        (["--images", "a", "--masks", "b", "--output", "a.json"], "must end in .yaml"),
        (["--images", "a", "--masks", "b", "--output", "none/a.yaml"], "has no folder none"),
        (["--images", "a", "--masks", "b", "--output", "a.yaml", "--preview", "a.gif"], "must end in .png"),
        (["--layout", "kitti_semantics", "--data", "nowhere", "--output", "a.yaml"], "--data: no folder"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem in refused(capsys, *argv)


def test_tensorflow_is_never_imported(tmp_path: Path) -> None:
    draw_folders(tmp_path, save_gray)
    code = (
        "import sys; from pipeline.init.__main__ import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'tensorflow', 'tfx', 'keras', 'apache_beam'} & set(sys.modules)"
    )
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    argv = [sys.executable, "-c", code, *folders, "--output", str(tmp_path / "my.yaml")]
    assert subprocess.run(argv, check=False).returncode == 0


def test_masks_that_are_not_those_of_the_layout_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(
        tmp_path,
        lambda path, ids: save_gray(path, ids + 100),
        images="training/image_2",
        masks="training/semantic",
    )
    for path in (tmp_path / "training" / "image_2").iterdir():
        path.rename(path.with_suffix(".png"))
    argv = ["--layout", "kitti_semantics", "--data", str(tmp_path), "--output", str(tmp_path / "a.yaml")]
    line = refused(capsys, *argv)
    assert line.startswith("the masks are none of kitti_semantics") and "they hold 10" in line


def test_official_lists_too_short_to_divide_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"Beagle_{n}" for n in range(4)]
    draw_folders(
        tmp_path, lambda path, ids: save_gray(path, ids + 1), names=names, masks="annotations/trimaps"
    )
    (tmp_path / "annotations" / "trainval.txt").write_text("Beagle_0 1 2 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("".join(f"{name} 1 2 1\n" for name in names[1:]))
    argv = ["--layout", "oxford_iiit_pet", "--data", str(tmp_path), "--output", str(tmp_path / "a.yaml")]
    assert "cannot be divided into val, train" in refused(capsys, *argv)
