"""Datasets in a bucket: what folders give, in one pass over the names, and failures that name the object.

Layouts and failures are tried on a stand-in that serves a folder and counts what it is asked. Pages,
signatures and errors are those of a server that speaks S3: see `test_bucket_server`.
"""

import json
import os
import shutil
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingested import ingest
from PIL import Image
from pyarrow import ArrowException, fs

from components import bucket
from components.bucket import BucketPath, is_remote, path_of, reading_ahead
from components.errors import StageError
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.files import read_file
from components.image_mask_example_gen.inputs import (
    InputFiles,
    fingerprint_before,
    fingerprint_contents,
    fingerprint_inputs,
    opened_root,
)
from components.image_mask_example_gen.layouts import labelme
from components.image_mask_example_gen.layouts.coco import Coco
from components.image_mask_example_gen.layouts.json_file import read_json
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.plan import Plan, plan_ingestion
from pipeline.evaluate import run as evaluation
from pipeline.failures import explain_failure
from pipeline.run_local import main

ROOT = "s3://data/set"
FOLDER = {"layout": "folder", "images": "images/*.jpg", "masks": "masks/*.png", "classes": ["a", "b"]}


class Store:
    """As much of Arrow's file systems as is used, over a folder in the place of all buckets."""

    def __init__(self, root: Path):
        self.files = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        self.listed: list[str] = []
        self.looked_at: list[str] = []
        self.opened: list[str] = []
        self.refused: dict[str, Exception] = {}
        """Objects and folders by whose names requests fail."""

    def get_file_info(self, asked: Any) -> Any:
        if isinstance(asked, fs.FileSelector):
            self._note(self.listed, asked.base_dir)
        else:
            self._note(self.looked_at, *asked)
        return self.files.get_file_info(asked)

    def open_input_file(self, path: str) -> Any:
        self._note(self.opened, path)
        return self.files.open_input_file(path)

    def _note(self, notes: list[str], *paths: str) -> None:
        notes += paths
        if (error := self.refused.get(paths[0])) is not None:
            raise error


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "buckets").mkdir()
    served = Store(tmp_path / "buckets")
    monkeypatch.setattr(bucket, "_connect", lambda scheme, name, endpoint: served)
    return served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is served as `ROOT`."""
    return tmp_path / "buckets/data/set"


def draw(root: Path, paths: Iterable[str]) -> None:
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 2, (8, 12), np.uint8)
        Image.fromarray(pixels).save(root / path)


def pairs(root: Path, names: Iterable[str] = "abcdefgh") -> None:
    draw(root, [f"{kind}{name}{suffix}" for name in names for kind, suffix in _KINDS])


_KINDS = (("images/", ".jpg"), ("masks/", ".png"))


def planned(config: DatasetConfig) -> Plan:
    with opened_root(config) as root:
        return plan_ingestion(config, root)


def as_folder(root: Path) -> dict[str, Any]:
    pairs(root)
    draw(root, ["images/.hidden.jpg", "images/lone.jpg", "masks/deep/er.png"])
    (root / "images/Thumbs.db").touch()
    return FOLDER


def as_pets(root: Path) -> dict[str, Any]:
    names = [f"Pug_{number}" for number in range(8)]
    draw(root, [f"images/{n}.jpg" for n in names] + [f"annotations/trimaps/{n}.png" for n in names])
    for split, part in (("trainval", names[:6]), ("test", names[6:])):
        (root / f"annotations/{split}.txt").write_text("".join(f"{name} 1 2 1\n" for name in part))
    return {"layout": "oxford_iiit_pet"}


def as_kitti(root: Path) -> dict[str, Any]:
    draw(root, [f"training/{kind}/{n}.png" for kind in ("image_2", "semantic") for n in range(6)])
    return {"layout": "kitti_semantics"}


def as_clothing(root: Path) -> dict[str, Any]:
    for n in range(6):
        for path in (f"photos/{n}.jpg", f"annotations/pixel-level/{n}.mat", "photos/9.jpg", "label_list.mat"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    draw(root, ["annotations/image-level/9.png"])
    return {"layout": "clothing_co_parsing"}


def as_voc(root: Path) -> dict[str, Any]:
    names = [f"2007_{n:06d}" for n in range(8)]
    draw(root, [f"JPEGImages/{n}.jpg" for n in names] + [f"SegmentationClass/{n}.png" for n in names])
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/trainval.txt").write_text("\n".join(names[:5]))
    (root / "ImageSets/Segmentation/test.txt").write_text("\n".join(names[5:]))
    return {"layout": "voc"}


def as_cityscapes(root: Path) -> dict[str, Any]:
    for split, city in (("train", "ulm"), ("train", "bonn"), ("val", "jena"), ("test", "kiel")):
        stem = f"{split}/{city}/{city}_0_0"
        draw(root, [f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png"])
    return {"layout": "cityscapes"}


def as_ade(root: Path) -> dict[str, Any]:
    for split, numbers in (("training", range(6)), ("validation", range(6, 8))):
        draw(root, [f"images/{split}/ADE_{n}.jpg" for n in numbers])
        draw(root, [f"annotations/{split}/ADE_{n}.png" for n in numbers])
    return {"layout": "ade20k"}


def as_coco(root: Path) -> dict[str, Any]:
    draw(root, [f"images/train2017/{n}.jpg" for n in range(6)])
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 8, "width": 12} for n in range(5)]
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "segmentation": square} for n in range(5)]
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]})
    )
    return {"layout": "coco", "classes": ["background", "cup"]}


def as_labelme(root: Path) -> dict[str, Any]:
    draw(root, [f"{n}.jpg" for n in range(6)])
    for n in range(5):
        shapes = [{"label": "cup", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}]
        content = {"shapes": shapes, "imagePath": f"{n}.jpg", "imageHeight": 8, "imageWidth": 12}
        (root / f"{n}.json").write_text(json.dumps(content))
    return {"layout": "labelme", "classes": ["background", "cup"]}


@pytest.mark.parametrize(
    "lay_out",
    [as_folder, as_pets, as_kitti, as_clothing, as_voc, as_cityscapes, as_ade, as_coco, as_labelme],
)
def test_a_layout_finds_in_a_bucket_what_it_finds_in_a_folder(
    store: Store, folder: Path, lay_out: Callable[[Path], dict[str, Any]]
) -> None:
    settings = lay_out(folder)
    there = DatasetConfig.model_validate({**settings, "root": ROOT})
    here = DatasetConfig.model_validate({**settings, "root": str(folder)})
    there.check_root()
    assert planned(there) == planned(here)
    with opened_root(there) as root:
        assert there.source.scan(root) == here.source.scan(folder)


@pytest.mark.parametrize("lay_out", [as_kitti, as_pets])
def test_a_folder_that_is_another_layouts_is_refused_as_one_here_is(
    store: Store, folder: Path, lay_out: Callable[[Path], dict[str, Any]]
) -> None:
    pairs(folder / "sub")
    settings = lay_out(folder.with_name("other")) | {"root": ROOT}
    with pytest.raises(ValueError, match=r"\Adataset.root: 's3://data/set' does not look like .*\Z"):
        DatasetConfig.model_validate(settings).check_root()
    with pytest.raises(ValueError, match="did you mean 's3://data/other'"):
        DatasetConfig.model_validate(settings | {"root": "s3://data"}).check_root()


def test_examples_are_byte_for_byte_those_of_the_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    pairs(folder, ["plain", "a b", "50%", "é", "x#1", "c+d", "deep", "q?"])
    written = []
    for name, root in (("there", ROOT), ("here", str(folder))):
        out = tmp_path / name
        ingest(DatasetConfig.model_validate(FOLDER | {"root": root}), out)
        files = (file for file in out.rglob("*") if file.is_file())
        written.append({file.relative_to(out): file.read_bytes() for file in files})
    assert written[0] == written[1] and len(written[0]) == 5
    assert not bucket._coming and not bucket._listings


def test_a_bucket_is_listed_once_and_no_object_asked_for_its_state(store: Store, folder: Path) -> None:
    pairs(folder)
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT})
    fingerprint_inputs(config)
    planned(config)
    assert (store.listed, store.looked_at, store.opened) == (["data/set"] * 2, [], [])


def test_the_fingerprint_sees_what_was_written_anew_and_what_came_or_went(store: Store, folder: Path) -> None:
    pairs(folder)
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT})
    first = fingerprint_inputs(config)
    assert fingerprint_contents(config) == first == fingerprint_inputs(config)
    Image.new("L", (12, 8), 1).save(folder / "masks/a.png")
    second = fingerprint_inputs(config)
    os.utime(folder / "masks/b.png", ns=(10**18, 10**18 + 1))
    third = fingerprint_inputs(config)
    (folder / "images/h.jpg").unlink()
    assert len({first, second, third, fingerprint_inputs(config)}) == 4


def test_an_object_that_is_written_anew_while_others_are_read_is_refused(store: Store, folder: Path) -> None:
    pairs(folder)
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT})
    with opened_root(config) as root:
        files = InputFiles(config, root, config.source.scan(root).files)
    files.check_same(fingerprint_before(config, fingerprint_contents(config)))
    files.check_unchanged()
    os.utime(folder / "masks/b.png", ns=(10**18, 10**18 + 1))
    with pytest.raises(StageError, match=f"changed while it was read: {ROOT}/masks/b.png; run again"):
        files.check_unchanged()


def test_a_split_may_be_declared_by_a_list_in_the_bucket(store: Store, folder: Path) -> None:
    pairs(folder)
    (folder / "test.txt").write_text("c\nd\n")
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT, "splits": {"test": {"list": "test.txt"}}})
    [test] = [shard for shard in planned(config).shards if shard.split == "test"]
    assert {entry.key for entry in test.entries} == {"c", "d"}
    shutil.move(folder / "test.txt", folder / "tests.txt")
    with pytest.raises(StageError, match=r"test.txt cannot be read under s3://data/set: No such file"):
        planned(config)


def test_what_arrow_does_not_know_is_one_line_with_the_uri(store: Store, folder: Path) -> None:
    store.refused["data/set"] = ArrowException("Unknown error: CURL error [60]=SSL peer certificate")
    with pytest.raises(StageError, match=r"^s3://data/set cannot be read: Unknown error: CURL error \[60\]"):
        planned(DatasetConfig.model_validate(FOLDER | {"root": ROOT}))


def test_googles_client_trusts_whom_this_system_does_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fs, "GcsFileSystem", lambda **_: None)
    monkeypatch.setenv("SSL_CERT_FILE", "/own/authorities.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "")
    monkeypatch.delenv("SSL_CERT_DIR")
    known = ssl.get_default_verify_paths()._replace(cafile="/system/cert.pem", capath="/system/certs")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: known)
    bucket._connect.__wrapped__("gs:", "bucket", "")
    assert (os.environ["SSL_CERT_FILE"], os.environ["SSL_CERT_DIR"]) == (
        "/own/authorities.pem",
        "/system/certs",
    )


@pytest.mark.parametrize("where", ["data/set", "data/set/images/c.jpg", "data/set/masks/c.png"])
def test_what_a_store_refuses_ends_the_ingestion_in_one_line(
    store: Store, folder: Path, tmp_path: Path, where: str
) -> None:
    pairs(folder)
    store.refused[where] = OSError("AWS Error ACCESS_DENIED during\nGetObject operation")
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT, "max_rejected_fraction": 1.0})
    with pytest.raises(Exception, match="s3://data/set") as failure:
        ingest(config, tmp_path / "out")
    explained = explain_failure(failure.value)
    assert explained.startswith(f"s3://{where} cannot be read: AWS Error ACCESS_DENIED during GetObject ")
    assert "AWS_ACCESS_KEY_ID" in explained and "\n" not in explained
    assert not bucket._coming and not bucket._listings


def test_an_object_that_is_gone_does_not_make_the_dataset_smaller(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    pairs(folder)
    store.refused["data/set/masks/c.png"] = FileNotFoundError()
    config = DatasetConfig.model_validate(FOLDER | {"root": ROOT, "max_rejected_fraction": 1.0})
    with pytest.raises(Exception, match="s3://data/set") as failure:
        ingest(config, tmp_path / "out")
    gone = "s3://data/set/masks/c.png is gone since its folder was listed; start again"
    assert explain_failure(failure.value) == gone


def test_a_labelme_file_that_is_gone_is_not_rejected(store: Store, folder: Path) -> None:
    draw(folder, ["a.jpg"])
    (folder / "a.json").write_text("{}")
    store.refused["data/set/a.json"] = FileNotFoundError()
    with pytest.raises(StageError, match=r"s3://data/set/a\.json is gone since its folder was listed"):
        labelme._read(path_of(f"{ROOT}/a.json"))


def test_a_coco_list_that_a_store_refuses_is_not_rejected(store: Store, folder: Path) -> None:
    store.refused["data/set/list.json"] = OSError("SLOW_DOWN")
    with pytest.raises(StageError, match="SLOW_DOWN"):
        Coco().open_mask(path_of(ROOT), Entry("a", "a.jpg", "list.json#1"), 100)


def test_a_look_at_the_root_lists_it_once_and_asks_for_nothing_else(store: Store, folder: Path) -> None:
    for number in range(20):
        pairs(folder / str(number), ["a"])
    config = FOLDER | {"root": ROOT, "images": "*/images/*.jpg", "masks": "*/masks/*.png"}
    DatasetConfig.model_validate(config).check_root()
    assert store.listed == ["data/set"] and not store.looked_at


def test_a_copy_of_what_a_model_learnt_from_in_a_bucket_is_not_passed_over_in_silence(
    store: Store,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pairs(folder)
    monkeypatch.setattr(evaluation, "described", lambda *_: FOLDER | {"root": ROOT})
    learnt = evaluation._Learnt(tmp_path)
    learnt.of(DatasetConfig.model_validate(FOLDER | {"root": ROOT}))
    learnt.tell()
    assert not caplog.text
    learnt.of(DatasetConfig.model_validate(FOLDER | {"root": str(folder)}))
    learnt.tell()
    assert "it is not known whether the model learnt from these pairs" in caplog.text
    assert f"{ROOT} is a bucket" in caplog.text


def test_an_object_that_comes_short_is_no_smaller_picture(store: Store, folder: Path) -> None:
    pairs(folder)
    path = path_of(f"{ROOT}/images/a.jpg")
    with path.open("rb") as file:
        (folder / "images/a.jpg").write_bytes(b"\xff\xd8")
        with pytest.raises(StageError, match=r"images/a.jpg cannot be read: \d+ bytes are due, and 2 came"):
            file.read()


@pytest.mark.parametrize("name", ["images//a.jpg", "images/../a.jpg", "./a.jpg", "images/a.jpg/b.jpg"])
def test_a_name_that_no_file_can_have_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    objects = [fs.FileInfo(f"data/set/{each}", fs.FileType.File, size=1) for each in ("images/a.jpg", name)]
    monkeypatch.setattr(store, "get_file_info", lambda selector: objects)
    with pytest.raises(StageError, match=r"s3://data/set: the name .* is no file's") as refusal:
        planned(DatasetConfig.model_validate(FOLDER | {"root": ROOT}))
    assert name.split("/")[0] in str(refusal.value)


def test_objects_are_asked_for_ahead_and_each_once(store: Store, folder: Path) -> None:
    names = [f"{number:02}" for number in range(30)]
    pairs(folder, names)
    root = path_of(ROOT)
    for place, name in enumerate(reading_ahead(names, lambda name: [root / f"images/{name}.jpg"])):
        assert (root / f"images/{name}.jpg").read_bytes() == (folder / f"images/{name}.jpg").read_bytes()
        assert len(store.opened) <= place + 1 + bucket._AHEAD
    assert sorted(store.opened) == [f"data/set/images/{name}.jpg" for name in names]
    assert not bucket._coming


def test_what_has_come_ahead_is_read_without_a_request_more(store: Store, folder: Path) -> None:
    as_labelme(folder)
    root, asked = path_of(ROOT), []
    for number in reading_ahead(range(5), lambda n: [root / f"{n}.jpg", root / f"{n}.json"]):
        bucket._coming[BucketPath(root / f"{number}.json")].result()
        asked.append(len(store.opened))
        assert read_file(root / f"{number}.jpg") == (folder / f"{number}.jpg").read_bytes()
        assert read_json(root / f"{number}.json")["imagePath"] == f"{number}.jpg"
    assert store.looked_at == [] and len(store.opened) == 10


def test_what_is_large_does_not_wait_in_memory(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs(folder)
    monkeypatch.setattr(bucket, "_LARGE", 10)
    path = path_of(f"{ROOT}/images/a.jpg")
    for _ in reading_ahead([path], lambda path: [path]):
        assert bucket._coming[BucketPath(path)].result() is None
        assert path.read_bytes() == (folder / "images/a.jpg").read_bytes()


@pytest.mark.parametrize("fails", ["", "data/set/images/02.jpg"])
def test_as_many_bytes_wait_in_memory_as_have_room_and_all_are_read(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    names = [f"{number:02}" for number in range(12)]
    (folder / "images").mkdir(parents=True)
    for name in names:
        (folder / f"images/{name}.jpg").write_bytes(name.encode() * 50)
    room = 350
    monkeypatch.setattr(bucket, "_MOST_WAITING", room)
    if fails:
        store.refused[fails] = OSError("SLOW_DOWN")
    root = path_of(ROOT)

    def waiting() -> int:
        """Bytes, once all that was asked for has come."""
        came = [future for future in bucket._coming.values() if future.exception() is None]
        return sum(len(future.result() or b"") for future in came)

    most = 0
    for name in reading_ahead(names, lambda name: [root / f"images/{name}.jpg"]):
        most = max(most, waiting())
        # What nobody opens must not keep its room.
        if name in ("03", "04") or fails.endswith(f"{name}.jpg"):
            continue
        assert (root / f"images/{name}.jpg").read_bytes() == name.encode() * 50
    assert most == 300
    assert bucket._room.take(room), "all of it is free again"
    bucket._room.give_back(room)


def test_paths_of_a_bucket_stay_what_they_are() -> None:
    path = path_of("minio://data/a/b.png")
    assert str(path) == "minio://data/a/b.png" and str(path.parent / "c") == "minio://data/a/c"
    assert (path.name, path.suffix) == ("b.png", ".png")
    assert path.relative_to(path_of("minio://data")).as_posix() == "a/b.png"
    assert not is_remote("/data/s3://") and type(path_of("/data")) is type(Path())
    with pytest.raises(OSError, match="only be read"):
        path.open("wb")


def test_minio_must_be_told_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in bucket._ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    config = DatasetConfig.model_validate(FOLDER | {"root": "minio://data/set"})
    with pytest.raises(ValueError, match=r"\Adataset.root: minio://data/set: AWS_ENDPOINT_URL_S3 must say"):
        config.check_root()


def test_tfds_reads_no_bucket(store: Store, folder: Path) -> None:
    pairs(folder)
    config = DatasetConfig(layout="tfds", root=ROOT, name="x:1.0.0", classes=("a", "b"))
    with pytest.raises(ValueError, match=r"\Adataset.root: layout tfds reads no bucket, .* copy the folder"):
        config.check_root()


@pytest.mark.parametrize("refused", [False, True])
def test_the_command_ends_with_2_where_nothing_can_be_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(json.dumps({"dataset": FOLDER}))
    if refused:
        store.refused["data/set"] = OSError("AWS Error ACCESS_DENIED")
    assert main(["--recipe", str(recipe), "--data", f"{ROOT}/", "--workdir", str(tmp_path / "w")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    said = "s3://data/set cannot be read: AWS Error" if refused else "no folder 's3://data/set'; give"
    assert line.startswith(f"dataset.root: {said}")
