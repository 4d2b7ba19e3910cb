"""The component: real files in, Examples and an account of every file out."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
import ml_metadata as mlmd
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from conftest import png_bytes
from ingested import ingest, read_split
from ml_metadata.proto import metadata_store_pb2
from PIL import Image
from raw_pictures import png
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx_bsl.public.tfxio import TFExampleRecord

from components.dataset.contracts import Ingestion
from components.dataset.features import CLASS_PIXELS, IMAGE_ENCODED, MASK_ENCODED, SPLITS
from components.errors import StageError
from components.image_mask_example_gen.component import ImageMaskExampleGen
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.inputs import fingerprint_inputs
from pipeline.beam_config import BeamConfig


def decode_mask(encoded: bytes) -> np.ndarray:
    return tf.io.decode_png(encoded, channels=1).numpy()[..., 0]


def decode_picture(encoded: bytes) -> np.ndarray:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


@pytest.fixture(scope="module")
def pets_out(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ingestion, Path]:
    out = tmp_path_factory.mktemp("pets")
    config = DatasetConfig(layout="oxford_iiit_pet", root=str(shared_data / "oxford_iiit_pet"))
    return ingest(config, out), out


def test_pets_follow_the_official_lists(pets_out: tuple[Ingestion, Path], shared_data: Path) -> None:
    report, out = pets_out
    assert report.examples["train"] + report.examples["val"] == 300
    assert report.examples["test"] == 298
    assert [(item.file, item.reason) for item in report.rejected] == [
        ("images/Abyssinian_34.jpg", "unlisted"),
        ("images/Abyssinian_82.jpg", "unlisted"),
    ]
    lines = (shared_data / "oxford_iiit_pet/annotations/test.txt").read_text().splitlines()
    assert set(read_split(out, "test")) == {f"images/{line.split()[0]}.jpg" for line in lines}


def test_pets_keep_the_original_bytes_and_map_the_trimap(
    pets_out: tuple[Ingestion, Path], shared_data: Path
) -> None:
    _, out = pets_out
    root = shared_data / "oxford_iiit_pet"
    examples = {name: values for split in SPLITS for name, values in read_split(out, split).items()}
    for name in ("images/Abyssinian_5.jpg", "images/Abyssinian_17.jpg", *list(examples)[:20]):
        values = examples[name]
        assert values[IMAGE_ENCODED] == (root / name).read_bytes()
        trimap = np.asarray(Image.open(root / "annotations/trimaps" / f"{Path(name).stem}.png"))
        np.testing.assert_array_equal(decode_mask(values[MASK_ENCODED]), trimap - 1)
        assert values[CLASS_PIXELS] == [(trimap == value).sum() for value in (1, 2, 3)]
        assert decode_picture(values[IMAGE_ENCODED]).shape[:2] == trimap.shape
        assert (values["image/height"], values["image/width"]) == trimap.shape
        assert values["attribute/breed"].decode() == Path(name).stem.rpartition("_")[0]
    assert examples["images/Abyssinian_5.jpg"]["image/format"] == b"png"
    assert {values["attribute/species"] for values in examples.values()} == {b"cat", b"dog"}


def test_clothing_masks_equal_their_mat_files(shared_data: Path, tmp_path: Path) -> None:
    from scipy.io import loadmat

    root = shared_data / "clothing_co_parsing"
    ingest(DatasetConfig(layout="clothing_co_parsing", root=str(root), limit=12), tmp_path)
    for name, values in read_split(tmp_path, "train").items():
        expected = loadmat(root / "annotations/pixel-level" / f"{Path(name).stem}.mat")["groundtruth"]
        np.testing.assert_array_equal(decode_mask(values[MASK_ENCODED]), expected)


def test_kitti_maps_20_of_34_ids_and_ignores_the_rest(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "kitti_semantics"
    config = DatasetConfig(layout="kitti_semantics", root=str(root))
    report = ingest(config, tmp_path)
    assert report.examples == {"train": 3, "val": 1, "test": 1}
    names, _ = config.raw_labels()
    table = np.full(34, 255)
    for raw, name in names.items():
        table[raw] = config.label_set().names.index(name)
    for name, values in read_split(tmp_path, "train").items():
        raw = np.asarray(Image.open(root / "training/semantic" / Path(name).name))
        np.testing.assert_array_equal(decode_mask(values[MASK_ENCODED]), table[raw])
        counts = np.bincount(table[raw].ravel(), minlength=256)
        assert values[CLASS_PIXELS] == counts[:20].tolist() and counts[255] > 0


def camvid(shared_data: Path, **settings: Any) -> DatasetConfig:
    names = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist"
    return DatasetConfig.model_validate(
        {
            "layout": "folder",
            "root": str(shared_data / "camvid"),
            "images": "val/*.png",
            "masks": "valannot/*.png",
            "classes": names.split(),
            "ignore_label": 11,
        }
        | settings
    )


def test_camvid_as_a_folder_ignores_its_void_label(shared_data: Path, tmp_path: Path) -> None:
    report = ingest(camvid(shared_data, limit=15), tmp_path)
    assert sum(report.examples.values()) == 15
    values = np.unique(
        [decode_mask(values[MASK_ENCODED]) for values in read_split(tmp_path, "train").values()]
    )
    assert set(values) <= {*range(11), 255}
    assert 255 in values


def test_the_files_written_do_not_depend_on_the_workers(shared_data: Path, tmp_path: Path) -> None:
    config = camvid(shared_data, limit=10)
    ingest(config, tmp_path / "one")
    ingest(config, tmp_path / "two", workers=2)
    for path in (tmp_path / "one/examples").glob("*/*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_an_empty_val_split_is_readable_as_no_examples(shared_data: Path, tmp_path: Path) -> None:
    """Read as StatisticsGen, Transform and Evaluator do."""
    report = ingest(camvid(shared_data, limit=4, splits={"val": 0.0}), tmp_path)
    assert report.examples["val"] == 0
    with beam.Pipeline(argv=BeamConfig(workers=1).pipeline_args()) as pipeline:
        for split, expected in report.examples.items():
            source = TFExampleRecord(
                str(tmp_path / f"examples/Split-{split}/*"), telemetry_descriptors=["test"]
            )
            counts = (
                pipeline
                | f"Read {split}" >> source.BeamSource()
                | f"Rows {split}" >> beam.Map(lambda batch: batch.num_rows)
                | f"Sum {split}" >> beam.CombineGlobally(sum)
            )
            assert_that(counts, equal_to([expected]), label=split)


@pytest.fixture
def spoilt(shared_data: Path, tmp_path: Path) -> Path:
    """200 real pairs, eight of which are spoilt in as many ways."""
    source, root = shared_data / "oxford_iiit_pet", tmp_path / "spoilt"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    names = sorted(path.stem for path in (source / "annotations/trimaps").glob("*.png"))[100:300]
    for name in names:
        os.symlink(source / f"images/{name}.jpg", root / f"images/{name}.jpg")
        os.symlink(source / f"annotations/trimaps/{name}.png", root / f"masks/{name}.png")

    def replace(path: str, data: bytes) -> None:
        (root / path).unlink()
        (root / path).write_bytes(data)

    image = (root / f"images/{names[1]}.jpg").read_bytes()
    replace(f"images/{names[0]}.jpg", b"not a picture")
    replace(f"images/{names[1]}.jpg", image[: len(image) // 2])
    (root / f"masks/{names[2]}.png").unlink()
    (root / f"images/{names[3]}.jpg").unlink()
    mask = Image.open(root / f"masks/{names[4]}.png")
    replace(f"masks/{names[4]}.png", png_bytes(np.asarray(mask)[:-1]))
    strange = np.asarray(Image.open(root / f"masks/{names[5]}.png")).copy()
    strange[0, :7] = 77
    replace(f"masks/{names[5]}.png", png_bytes(strange))
    replace(f"masks/{names[6]}.png", b"")
    # A bomb: a few kilobytes that would unpack to gigabytes.
    replace(f"images/{names[7]}.jpg", png(60_000, 60_000, bytes(10**7)))
    return root


def spoilt_config(root: Path, allowed: float) -> DatasetConfig:
    return DatasetConfig(
        layout="folder",
        root=str(root),
        images="images/*.jpg",
        masks="masks/*.png",
        classes=("pet", "background", "border"),
        label_values={"pet": 1, "background": 2, "border": 3},
        max_rejected_fraction=allowed,
    )


def test_spoilt_files_are_set_aside_each_with_its_reason(
    spoilt: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "components")
    report = ingest(spoilt_config(spoilt, 0.05), tmp_path / "out")
    assert sum(report.examples.values()) == 192
    assert sorted(item.reason for item in report.rejected) == [
        "empty file",
        "image without mask",
        "label outside the classes",
        "mask without image",
        "not decodable",
        "sizes differ",
        "too many pixels",
        "truncated",
    ]
    assert "8 of 200 pairs rejected" in caplog.text


def test_too_many_spoilt_files_stop_the_stage_with_names_counts_and_remedy(
    spoilt: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as caught:
        ingest(spoilt_config(spoilt, 0.01), tmp_path / "out")
    message = str(caught.value)
    assert "8 of 200 pairs cannot be used (4.0%)" in message
    assert "1 sizes differ" in message
    assert message.count("images/") + message.count("masks/") >= 8
    assert "77 (" in message
    assert "--set dataset.max_rejected_fraction=0.04" in message


def test_wrong_settings_are_not_blamed_on_the_files(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="point to the settings") as caught:
        ingest(camvid(shared_data, limit=6, classes=["sky", "building"], ignore_label=None), tmp_path)
    assert "--set" not in str(caught.value)


def test_a_split_that_loses_all_its_pairs_stops_the_stage(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "kitti"
    shutil.copytree(shared_data / "kitti_semantics", root)
    config = DatasetConfig(layout="kitti_semantics", root=str(root), max_rejected_fraction=0.5)
    ingest(config, tmp_path / "first")
    (name,) = read_split(tmp_path / "first", "test")
    (root / name).write_bytes(b"")
    with pytest.raises(StageError, match="All 1 pairs of the split 'test'"):
        ingest(config, tmp_path / "second")


def executions(metadata_path: Path) -> list[int]:
    """Last known state of each execution, in order."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata_path)
    return [execution.last_known_state for execution in mlmd.MetadataStore(config).get_executions()]


def test_unchanged_files_are_cached_and_a_touched_one_is_not(shared_data: Path, tmp_path: Path) -> None:
    root, metadata_path = tmp_path / "kitti", tmp_path / "metadata.sqlite"
    shutil.copytree(shared_data / "kitti_semantics", root)
    config = DatasetConfig(layout="kitti_semantics", root=str(root))

    def run() -> None:
        pipeline = Pipeline(
            pipeline_name="ingestion",
            pipeline_root=str(tmp_path / "artifacts"),
            components=[
                ImageMaskExampleGen(config, config.label_set(), config.root or "", code_fingerprint="1")
            ],
            enable_cache=True,
            metadata_connection_config=sqlite_metadata_connection_config(str(metadata_path)),
            beam_pipeline_args=BeamConfig(workers=1).pipeline_args(),
        )
        LocalDagRunner().run(pipeline)

    complete, cached = metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED
    run()
    run()
    assert executions(metadata_path) == [complete, cached]
    (root / "training/semantic/000000_10.png").touch()
    run()
    assert executions(metadata_path) == [complete, cached, complete]
    (root / "training/image_2").rename(root / "training/elsewhere")
    with pytest.raises(StageError, match="training/image_2"):
        run()


def test_shapes_are_drawn_for_the_run_and_leave_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    config = DatasetConfig.model_validate({"shapes": {"num_images": 12}})
    assert sum(ingest(config, tmp_path / "out").examples.values()) == 12
    assert not list((tmp_path / "temporary").rglob("*.jpg"))


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_file_names_that_are_not_utf8_are_ingested_and_reported_printable(
    spoilt: Path, tmp_path: Path
) -> None:
    good, bad = (path.stem for path in sorted((spoilt / "images").iterdir())[50:52])
    for name, kind in ((good, "good"), (bad, "bad")):
        (spoilt / f"images/{name}.jpg").rename(spoilt / f"images/{NOT_UTF8}_{kind}.jpg")
        (spoilt / f"masks/{name}.png").rename(spoilt / f"masks/{NOT_UTF8}_{kind}.png")
    (spoilt / f"masks/{NOT_UTF8}_bad.png").unlink()
    (spoilt / f"masks/{NOT_UTF8}_bad.png").touch()
    (spoilt / f"images/{NOT_UTF8}_alone.jpg").write_bytes(b"x")

    config = spoilt_config(spoilt, 0.1)
    assert fingerprint_inputs(config)
    report = ingest(config, tmp_path / "out", workers=2)
    assert sum(report.examples.values()) == 191
    reported = {item.file: item for item in report.rejected}
    assert "images/caf\\xe9_alone.jpg" in reported
    assert "images/caf\\xe9_bad.jpg is left out" in reported["masks/caf\\xe9_bad.png"].found
    report.model_dump_json()


def test_all_rejected_files_travel_with_the_error_and_stand_in_the_log(
    spoilt: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in sorted((spoilt / "masks").iterdir())[-20:]:
        path.unlink()
    caplog.set_level(logging.DEBUG, "components")
    with pytest.raises(StageError) as caught:
        ingest(spoilt_config(spoilt, 0.0), tmp_path / "out")
    rejected = caught.value.rejected_files
    assert len(rejected) == 28 > str(caught.value).count("image without mask.")
    assert set(rejected[0]) == {"file", "reason", "found"}
    json.dumps(rejected)
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert all(any(f"rejected {item['file']}: " in line for line in logged) for item in rejected)
