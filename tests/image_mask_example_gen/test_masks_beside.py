"""Masks read by other processes are those that the stage reads itself, whatever happens to either."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from ingested import ingest
from PIL import Image

from components.bucket import BucketPath
from components.dataset.contracts import INGESTION_FILE
from components.image_mask_example_gen import executor
from components.image_mask_example_gen.class_mask import MaskReader
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.masks_beside import MasksBeside
from components.image_mask_example_gen.plan import Plan
from pipeline.beam_config import BeamConfig
from pipeline.failures import explain_failure

PAIRS = 24
DEADLINE = 10
"""Seconds, after which benchmarks.kills takes a process for one that stays."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs whose masks all differ; the last ones are spoilt, each in its way."""
    folder = tmp_path / "data"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"images/{number:02}.jpg")
        class_ids = np.full((48, 64), number % 2, np.uint8)
        class_ids[:, : 1 + number] = 1
        Image.fromarray(class_ids).save(folder / f"masks/{number:02}.png")
    (folder / "images/20.jpg").write_bytes(b"no picture")
    (folder / "masks/21.png").write_bytes(b"")
    # Of another size, and of no class: the size is what is told.
    Image.fromarray(np.full((48, 60), 7, np.uint8)).save(folder / "masks/22.png")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folder / "masks/23.png")
    return folder


def config_of(folder: Path) -> DatasetConfig:
    return DatasetConfig(
        layout="folder",
        root=str(folder),
        images="images/*.jpg",
        masks="masks/*.png",
        classes=("a", "b"),
        max_rejected_fraction=0.5,
    )


@pytest.fixture
def reader(folder: Path) -> MaskReader:
    config = config_of(folder)
    mapping = LabelMapping(*config.raw_labels(), ("a", "b"))
    return MaskReader(config.source, folder, mapping, 10**6)


@pytest.fixture
def entries(reader: MaskReader) -> list[Entry]:
    return reader.layout.scan(reader.root).entries


def children() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() == before


def test_all_that_is_written_and_reported_is_what_one_worker_writes_and_reports(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config_of(folder), tmp_path / "one")
    monkeypatch.setattr(executor, "_FEWEST_BESIDE", 1)
    asked: list[int] = []
    reading = MasksBeside.reading

    def counted(self: MasksBeside, entries: Any) -> Any:
        asked.append(len(entries))
        return reading(self, entries)

    monkeypatch.setattr(MasksBeside, "reading", counted)
    report = ingest(config_of(folder), tmp_path / "two", workers=2)
    assert sum(asked) == PAIRS
    assert sum(report.examples.values()) == PAIRS - 4
    assert [(item.file, item.reason) for item in report.rejected] == [
        ("images/20.jpg", "not decodable"),
        ("masks/21.png", "empty file"),
        ("masks/22.png", "sizes differ"),
        ("masks/23.png", "label outside the classes"),
    ]
    written = [*(tmp_path / "one").glob("examples/*/*"), tmp_path / "one/ingestion" / INGESTION_FILE]
    assert len(written) == 4
    for path in written:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.parametrize(
    ("beam", "pairs"),
    [
        ({"workers": 1}, 10**6),
        ({"workers": 2}, 100),
        ({"runner": "PortableRunner", "job_endpoint": "beam:8099", "environment_type": "LOOPBACK"}, 10**6),
    ],
)
def test_there_is_none_for_one_worker_nor_for_few_pairs_nor_on_a_cluster(
    reader: MaskReader, beam: dict[str, Any], pairs: int
) -> None:
    options = PipelineOptions(BeamConfig(**beam).pipeline_args())
    plan = Plan({"train": pairs}, {}, (), ())
    with executor._masks_beside(plan, reader, options) as beside:
        assert beside is None


def test_many_masks_in_files_of_this_machine_and_two_workers_have_some(reader: MaskReader) -> None:
    options = PipelineOptions(BeamConfig(workers=2).pipeline_args())
    plan = Plan({"train": 1000}, {}, (), ())
    with executor._masks_beside(plan, reader, options) as beside:
        assert beside is not None
    in_bucket = replace(reader, root=BucketPath("s3://bucket/folder"))
    with executor._masks_beside(plan, in_bucket, options) as beside:
        assert beside is None
    in_one_list = replace(reader, layout=Mock(masks_are_files=False))
    with executor._masks_beside(plan, in_one_list, options) as beside:
        assert beside is None


def test_what_an_error_left_unread_is_not_taken_for_other_masks(
    reader: MaskReader, entries: list[Entry]
) -> None:

    def break_off() -> None:
        with beside.reading(entries[:9]) as masks:
            next(masks)
            raise ZeroDivisionError

    with MasksBeside(reader) as beside:
        with pytest.raises(ZeroDivisionError):
            break_off()
        with beside.reading(entries[10:15]) as masks:
            assert list(masks) == [reader.read(entry) for entry in entries[10:15]]


def test_one_process_answers_a_thread_again_and_again(reader: MaskReader, entries: list[Entry]) -> None:
    with MasksBeside(reader) as beside:
        before = len(children())
        for entry in entries[:5]:
            with beside.reading([entry]) as masks:
                assert list(masks) == [reader.read(entry)]
        with beside.reading(()) as masks:
            assert list(masks) == []
        assert len(children()) == before + 1


def test_an_error_that_is_no_fault_of_a_file_is_raised_where_the_mask_is_asked_for(
    reader: MaskReader,
) -> None:
    no_entry: Any = "no entry"
    with (
        MasksBeside(reader) as beside,
        pytest.raises(AttributeError, match="'str' object has no attribute"),
        beside.reading([no_entry]) as masks,
    ):
        next(masks)


def test_a_process_that_is_killed_stops_the_stage_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_FEWEST_BESIDE", 1)
    take = MasksBeside._take

    def killed(self: MasksBeside) -> Any:
        process = take(self)
        process.kill()
        return process

    monkeypatch.setattr(MasksBeside, "_take", killed)
    with pytest.raises(Exception, match="SIGKILL") as caught:
        ingest(config_of(folder), tmp_path / "out", workers=2)
    assert explain_failure(caught.value) == (
        "a process that reads masks was killed by SIGKILL; give the stage more memory, or one worker, which "
        "needs no such process (--set beam.workers=1)"
    )
    assert not list((tmp_path / "out/examples").rglob("*.json"))


_HOLDER = """
import pickle, sys, time
from components.image_mask_example_gen.masks_beside import MasksBeside
reader, entries = pickle.load(sys.stdin.buffer)
with MasksBeside(reader) as beside, beside.reading(entries) as masks:
    next(masks)
    print(beside._all[0].pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("is_busy", [False, True])
def test_they_end_with_the_process_that_holds_them(
    reader: MaskReader, entries: list[Entry], is_busy: bool
) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    # Their answers do not all fit in the pipe.
    holder.stdin.write(pickle.dumps((reader, entries * 1000 if is_busy else entries)))
    holder.stdin.close()
    process = psutil.Process(int(holder.stdout.readline()))
    # What is sent to a terminal's group does not reach it.
    assert os.getpgid(process.pid) != os.getpgid(holder.pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    end = time.monotonic() + DEADLINE
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_is_printed_meanwhile_is_no_answer(
    reader: MaskReader, entries: list[Entry], capfd: pytest.CaptureFixture[str]
) -> None:
    prints: Any = SimpleNamespace(open_mask=print)
    with (
        MasksBeside(replace(reader, layout=prints)) as beside,
        pytest.raises(AttributeError, match="'NoneType' object has no attribute 'height'"),
        beside.reading(entries[:1]) as masks,
    ):
        next(masks)
    assert entries[0].mask in capfd.readouterr().err
