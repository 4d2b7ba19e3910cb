"""Masks read by other processes are those that the stage reads itself, whatever happens to either."""

import errno
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import threading
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
from PIL.ImageFile import ImageFile
from waiting import until_gone

from components.bucket import BucketPath
from components.dataset.contracts import INGESTION_FILE
from components.errors import StageError
from components.image_mask_example_gen import executor, files
from components.image_mask_example_gen import plan as plan_module
from components.image_mask_example_gen.class_mask import MaskReader
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.example import ExampleReader
from components.image_mask_example_gen.label_mapping import LabelMapping
from components.image_mask_example_gen.layouts.layout import Entry
from components.image_mask_example_gen.mask import PictureMask
from components.image_mask_example_gen.masks_beside import MaskProcess, MasksBeside
from components.image_mask_example_gen.plan import Plan, Shard
from components.image_mask_example_gen.report import Reason, Rejection
from components.imaging.reading import RGB
from pipeline.beam_config import BeamConfig
from pipeline.failures import explain_failure

PAIRS = 24
_PIPE_BYTES = 1 << 16
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
    ask = MaskProcess.ask

    def counted(self: MaskProcess, entries: Any) -> Any:
        asked.append(len(entries))
        return ask(self, entries)

    monkeypatch.setattr(MaskProcess, "ask", counted)
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
    plan = Plan({"train": pairs}, {}, (), (), ())
    with executor._masks_beside(plan, reader, options) as beside:
        assert beside is None


def test_many_masks_in_files_of_this_machine_and_two_workers_have_some(reader: MaskReader) -> None:
    options = PipelineOptions(BeamConfig(workers=2).pipeline_args())
    plan = Plan({"train": 1000}, {}, (), (), ())
    with executor._masks_beside(plan, reader, options) as beside:
        assert beside is not None
    in_bucket = replace(reader, root=BucketPath("s3://bucket/folder"))
    with executor._masks_beside(plan, in_bucket, options) as beside:
        assert beside is None
    in_one_list = replace(reader, layout=Mock(masks_are_files=False))
    with executor._masks_beside(plan, in_one_list, options) as beside:
        assert beside is None


def test_one_process_answers_a_thread_again_and_again(reader: MaskReader, entries: list[Entry]) -> None:
    with MasksBeside(reader) as beside:
        before = len(children())
        for asked in (*([entry] for entry in entries[:5]), ()):
            process = beside.take()
            assert list(process.ask(asked)) == [reader.read(entry) for entry in asked]
            beside.give_back(process)
        assert len(children()) == before + 1


def test_more_is_asked_before_anything_is_answered_and_comes_after_it(
    reader: MaskReader, entries: list[Entry]
) -> None:
    some = entries[:20]
    # Neither the answers nor the next question fit in their pipe.
    many = [replace(entry, attributes=(("turn", f"{turn:099}"),)) for turn in range(100) for entry in some]
    assert len(pickle.dumps(many)) > 3 * _PIPE_BYTES
    with MasksBeside(reader) as beside:
        process = beside.take()
        first, second = process.ask(many), process.ask(many[5:])
        expected = [reader.read(entry) for entry in some] * 100
        assert list(first) == expected
        assert list(second) == expected[5:]


class Writer:
    """A bundle of `WriteShard`, as Beam works through it."""

    def __init__(self, reader: MaskReader, entries: list[Entry], folder: Path, beside: MasksBeside):
        self.folder = folder
        folder.mkdir()
        shards = [Shard("train", str(number), tuple(entries[8 * number :][:8])) for number in range(3)]
        self.places = executor._write_entries(str(folder), shards)
        pairs = ExampleReader(reader, RGB)
        self.stage = executor.WriteShard(pairs, {"train": str(folder)}, str(folder), beside)

    def run(self) -> None:
        self.stage.start_bundle()
        for place in self.places:
            self.stage.process(place)
        self.stage.finish_bundle()

    @property
    def written(self) -> list[bytes]:
        return [(self.folder / place.file).read_bytes() for place in self.places]


def test_masks_are_read_while_the_shard_before_is_written(
    reader: MaskReader, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    ask, write = MaskProcess.ask, executor.WriteShard.write

    def asked(self: MaskProcess, entries: Any) -> Any:
        events.append("ask")
        return ask(self, entries)

    def written(self: executor.WriteShard, shard: Shard, *masks: Any) -> None:
        events.append(shard.file)
        write(self, shard, *masks)

    monkeypatch.setattr(MaskProcess, "ask", asked)
    monkeypatch.setattr(executor.WriteShard, "write", written)
    with MasksBeside(reader) as beside:
        writer = Writer(reader, entries, tmp_path / "shards", beside)
        writer.run()
        # The process is anybody's again.
        assert writer.stage._process is writer.stage._asked is None
        assert beside.take() is not beside.take()
    assert events == ["ask", "ask", "0", "ask", "1", "2"]


def test_what_an_error_left_unread_is_not_taken_for_other_masks(
    reader: MaskReader, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ExampleReader.read
    with MasksBeside(reader) as beside:
        good = Writer(reader, entries, tmp_path / "good", beside)
        good.run()
        # The same DoFn, and another one, are given the bundle once more after an error in its second shard.
        tried = Writer(reader, entries, tmp_path / "tried", beside)
        spoilt = Mock(side_effect=[*([Rejection("", Reason.EMPTY_FILE, "")] * 12), ZeroDivisionError])
        with monkeypatch.context() as patched:
            patched.setattr(ExampleReader, "read", spoilt)
            with pytest.raises(ZeroDivisionError):
                tried.run()
        assert ExampleReader.read is read
        tried.run()
        other = Writer(reader, entries, tmp_path / "other", beside)
        other.run()
    assert good.written == tried.written == other.written
    assert all(good.written)


def test_an_error_that_is_no_fault_of_a_file_is_raised_where_the_mask_is_asked_for(
    reader: MaskReader,
) -> None:
    no_entry: Any = "no entry"
    with MasksBeside(reader) as beside:
        masks = beside.take().ask([no_entry])
        with pytest.raises(AttributeError, match="'str' object has no attribute"):
            next(masks)


def test_where_memory_ends_the_run_does_and_rejects_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    Image.new("L", (64, 48)).save(tmp_path / "mask.bmp")
    monkeypatch.setattr(ImageFile, "load", no_memory)
    with pytest.raises(MemoryError):
        PictureMask(tmp_path / "mask.bmp", 10**6).read(as_colors=False)
    # An 8-bit PNG is decoded without Pillow.
    monkeypatch.setattr(files, "read_png", no_memory)
    with pytest.raises(MemoryError) as caught:
        ingest(config_of(folder), tmp_path / "out")
    said = explain_failure(caught.value)
    assert re.match(r"MemoryError: while \w+/\d\d\.\w+ was read; memory is at its end, or what one", said)


MAY_STAY = "; look to the disk or the network between, and start again, or take the file out if it stays"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENFILE, ", which is no fault of the file; raise the limit of open files, such as ulimit -n"),
        (errno.ENOMEM, ", which is no fault of the file; memory is at its end: fewer beam.workers"),
        (errno.ETIMEDOUT, ", which is no fault of the file; look to the disk or the network between"),
        (errno.EIO, MAY_STAY),
        (errno.ESTALE, MAY_STAY),
    ],
)
def test_what_the_machine_refuses_rejects_no_file(
    reader: MaskReader, entries: list[Entry], monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "read_bytes", refuse)
    for read in (reader.read, ExampleReader(reader, RGB).read):
        with pytest.raises(StageError) as caught:
            read(entries[0])
        assert f" cannot be read: {os.strerror(number)}{remedy}" in explain_failure(caught.value)


def test_a_process_that_may_open_no_more_files_rejects_none(reader: MaskReader, entries: list[Entry]) -> None:
    with MasksBeside(reader) as beside:
        process = beside.take()
        next(process.ask(entries[:1]))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (0, 0))
        with pytest.raises(StageError, match=r"masks/01\.png cannot be read: Too many open files, which is"):
            next(process.ask(entries[1:2]))


def test_a_question_that_cannot_be_read_ends_the_process_with_an_error(
    reader: MaskReader, entries: list[Entry], capfd: pytest.CaptureFixture[str]
) -> None:
    with MasksBeside(reader) as beside:
        process = beside.take()
        process.send(b"no pickle")
        with pytest.raises(StageError, match="ended with status 1; the log has its error"):
            # It may still take this one.
            next(process.ask(entries))
    assert "UnpicklingError" in capfd.readouterr().err


def test_a_process_that_is_killed_stops_the_stage_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_FEWEST_BESIDE", 1)
    take = MasksBeside.take

    def killed(self: MasksBeside) -> MaskProcess:
        process = take(self)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(MasksBeside, "take", killed)
    with pytest.raises(Exception, match="SIGKILL") as caught:
        ingest(config_of(folder), tmp_path / "out", workers=2)
    assert explain_failure(caught.value) == (
        "a process that reads masks was killed by SIGKILL; give the stage more memory, or one worker, which "
        "needs no such process (--set beam.workers=1)"
    )
    assert not list((tmp_path / "out/examples").rglob("*.json"))


@pytest.mark.parametrize("fewest", [1, PAIRS + 1])
def test_the_other_worker_does_not_write_all_of_its_shards_where_one_has_failed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewest: int
) -> None:
    monkeypatch.setattr(executor, "_FEWEST_BESIDE", fewest)
    monkeypatch.setattr(plan_module, "_PAIRS_PER_SHARD", 1)
    failed, after = threading.Event(), []
    write = executor.WriteShard.write
    first = threading.Lock()

    def fail_second(self: executor.WriteShard, shard: Shard, *masks: Any) -> None:
        # Whoever comes first is a worker; the next one, in another thread, is the other.
        if failed.is_set():
            after.append(shard)
        elif not first.acquire(blocking=False):
            failed.set()
            raise StageError("no space left")
        else:
            assert failed.wait(20)
        write(self, shard, *masks)

    monkeypatch.setattr(executor.WriteShard, "write", fail_second)
    with pytest.raises(Exception, match="no space left"):
        ingest(config_of(folder), tmp_path / "out", workers=2)
    assert len(after) <= 2


_HOLDER = """
import pickle, sys, time
from components.image_mask_example_gen.masks_beside import MasksBeside
reader, entries = pickle.load(sys.stdin.buffer)
with MasksBeside(reader) as beside:
    process = beside.take()
    masks = process.ask(entries)
    for _ in range(int(sys.argv[1])):
        next(masks)
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("is_busy", [False, True])
def test_they_end_with_the_process_that_holds_them(
    reader: MaskReader, entries: list[Entry], is_busy: bool
) -> None:
    # Of a busy one the answers do not all fit in the pipe; of an idle one nothing is left to be answered.
    asked, taken = (entries * 1000, 1) if is_busy else (entries, len(entries))
    command = [sys.executable, "-c", _HOLDER, str(taken)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.write(pickle.dumps((reader, asked)))
    holder.stdin.close()
    process = psutil.Process(int(holder.stdout.readline()))
    # What is sent to a terminal's group does not reach it.
    assert os.getpgid(process.pid) != os.getpgid(holder.pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until_gone(process, DEADLINE)


def test_what_is_printed_meanwhile_is_no_answer(
    reader: MaskReader, entries: list[Entry], capfd: pytest.CaptureFixture[str]
) -> None:
    prints: Any = SimpleNamespace(open_mask=print)
    with MasksBeside(replace(reader, layout=prints)) as beside:
        masks = beside.take().ask(entries[:1])
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'height'"):
            next(masks)
    assert entries[0].mask in capfd.readouterr().err
