"""python -m pipeline.predict, as people call it."""

import contextlib
import errno
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import png_bytes
from fake_server import (
    COLORS,
    NAMES,
    RAW_VALUES,
    FakeServer,
    class_ids_of,
    expected_class_ids,
    picture,
    running,
)
from PIL import Image
from waiting import until

from components.image_mask_example_gen.files import MAX_FILE_BYTES, InputRejectedError, read_bytes
from components.imaging.drawing import read_class_ids
from pipeline.predict.__main__ import main
from pipeline.predict.image_files import ImageFile, sent_bytes
from pipeline.predict.result_files import Existing, Record, ResultFiles

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[FakeServer]:
    with running(FakeServer()) as started:
        yield started


@pytest.fixture
def server(shared_server: FakeServer) -> FakeServer:
    shared_server.failures = []
    shared_server.requests = []
    shared_server.seconds = 0
    shared_server.raw_values = RAW_VALUES
    return shared_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``photos/{a.jpg,a.png,sub/b.PNG}``, a hidden file, and a text."""
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "a.png", "sub/b.PNG", ".hidden.png")):
        (photos / name).write_bytes(picture(number))
    (photos / "notes.txt").write_text("no image")
    return photos


@dataclass(frozen=True)
class Run:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: list[str]
    """Lines."""


Predict = Callable[..., Run]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Predict:
    """Runs the command in the folder that holds ``photos``, in this process: most of a run is imports."""
    monkeypatch.chdir(folder.parent)

    def run(server: FakeServer | str, *arguments: str, stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        address = server if isinstance(server, str) else server.address
        try:
            code = main(["--server", address, "--model", "pets", *arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        printed = capsys.readouterr()
        return Run(code, printed.out, printed.err.splitlines())

    return run


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_a_mask_for_each_image_in_the_same_place(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    run = predict(server, "photos", "--output", "masks")
    assert (run.returncode, run.stdout) == (0, "")
    passed_over, summary = run.stderr
    assert passed_over.startswith("passed over: photos/notes.txt; images end in .bmp, .gif, ")
    assert summary.startswith("3 of 3 images answered by pets (version 3) in ")
    masks = folder.parent / "masks"
    assert files_below(masks) == ["a.jpg.png", "a.png.png", "sub/b.PNG.png"]
    for name in ("a.jpg", "a.png", "sub/b.PNG"):
        mask = (masks / f"{name}.png").read_bytes()
        expected = expected_class_ids((folder / name).read_bytes())
        assert np.array_equal(read_class_ids(mask), expected)
        with Image.open(io.BytesIO(mask)) as shown:
            assert shown.mode == "P"
            assert np.array_equal(np.array(shown.convert("RGB")), np.array(COLORS, np.uint8)[expected])


def test_a_folder_is_searched_as_ingestion_does_past_links_but_not_past_what_it_may_not_read(
    server: FakeServer, folder: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere"
    (elsewhere / "masks").mkdir(parents=True)
    (elsewhere / "c.png").write_bytes(picture(3))
    (folder / "linked").symlink_to(elsewhere)
    (folder / "sub/round").symlink_to(folder)
    for existing in ("refuse", "replace"):
        # Results of the first are below a link of the second.
        run = predict(server, "photos", "--output", "photos/linked/masks", "--existing", existing)
        assert run.returncode == 0
        assert run.stderr[-1].startswith("4 of 4 images answered")
    masks = ["a.jpg.png", "a.png.png", "linked/c.png.png", "sub/b.PNG.png"]
    assert files_below(elsewhere / "masks") == masks

    scandir, requests = os.scandir, len(server.requests)

    def refuse(path: Any) -> Any:
        # Not by permissions, which do not hold for the superuser.
        if Path(path) == Path("photos/sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    lstat = os.lstat

    def refuse_names(path: Any, **options: Any) -> Any:
        if Path(path).parent == Path("photos/sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return lstat(path, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    for images in ("photos", "photos/**", "photos/**/*.PNG", "photos/*/*.PNG", "ph*/sub/*.PNG"):
        run = predict(server, "photos/a.png", images, "--output", "masks")
        assert run.returncode == 2
        assert run.stderr == ["python -m pipeline.predict: photos/sub: Permission denied"]
    assert predict(server, "photos/*.png", "--output", "masks").returncode == 0
    requests += 1
    monkeypatch.setattr(os, "lstat", refuse_names)
    run = predict(server, "photos/a.png", "photos/*/b.PNG", "--output", "masks")
    assert (run.returncode, run.stderr[-1:]) == (
        2,
        ["python -m pipeline.predict: photos/sub/b.PNG: Permission denied"],
    )
    assert len(server.requests) == requests


def test_raw_masks_are_the_servers_bytes(server: FakeServer, folder: Path, predict: Predict) -> None:
    predict(server, "photos/a.jpg", "--output", "masks", "--raw")
    expected = png_bytes(expected_class_ids((folder / "a.jpg").read_bytes()))
    assert (folder.parent / "masks" / "a.jpg.png").read_bytes() == expected


@pytest.mark.parametrize(
    ("raw_values", "mode", "dtype"),
    [
        (((0,), (9,), (255,)), "L", np.uint8),
        (((0,), (256,), (40_000,)), "I;16", np.uint16),
        (((0, 0, 0), (128, 64, 128), (255, 0, 7)), "RGB", np.uint8),
    ],
    ids=["bytes", "16 bits", "colours"],
)
def test_raw_values_are_those_of_the_data(
    server: FakeServer,
    folder: Path,
    predict: Predict,
    raw_values: tuple[tuple[int, ...], ...],
    mode: str,
    dtype: type,
) -> None:
    server.raw_values = raw_values
    assert predict(server, "photos/a.jpg", "--output", "masks", "--values", "raw").returncode == 0
    class_ids = expected_class_ids((folder / "a.jpg").read_bytes())
    assert set(np.unique(class_ids)) == {0, 1, 2}
    expected = np.array(raw_values, dtype)[class_ids].squeeze()
    with Image.open(folder.parent / "masks/a.jpg.png") as mask:
        assert mask.mode == mode
        assert np.array_equal(np.array(mask), expected)


def test_raw_values_of_a_model_that_knows_none_are_refused_before_anything_is_sent(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    server.raw_values = ()
    run = predict(server, "photos", "--output", "masks", "--values", "raw")
    assert run.returncode == 1
    assert run.stderr[1] == (
        "pets (version 3) does not say its data's own label values: it was exported before they were kept; "
        "leave --values raw out, or train it anew"
    )
    assert server.requests == [] and files_below(folder.parent / "masks") == []


def test_overlays_and_a_record_go_with_the_masks(server: FakeServer, folder: Path, predict: Predict) -> None:
    run = predict(
        server, "photos/**/*.PNG", "photos/a.jpg", "--output", "out", "--overlay", "--json", "out/r.jsonl",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert files_below(folder.parent / "out") == [
        "a.jpg.overlay.jpg", "a.jpg.png", "r.jsonl", "sub/b.PNG.overlay.jpg", "sub/b.PNG.png",
    ]  # fmt: skip
    first, second = map(json.loads, (folder.parent / "out/r.jsonl").read_text().splitlines())
    assert (first["file"], first["mask"]) == ("photos/sub/b.PNG", "out/sub/b.PNG.png")
    class_ids = expected_class_ids((folder / "a.jpg").read_bytes())
    assert second["version"] == 3
    assert second["class_fraction"] == {
        "background": pytest.approx(np.mean(class_ids == 0), abs=1e-6),
        "cat": pytest.approx(np.mean(class_ids == 1), abs=1e-6),
        "dög": pytest.approx(np.mean(class_ids == 2), abs=1e-6),
    }


def test_a_class_of_a_single_pixel_has_a_share_in_the_record(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    pixels = np.full((2001, 2001, 3), 255, np.uint8)
    pixels[0, 0] = 0
    (folder / "large.png").write_bytes(png_bytes(pixels))
    run = predict(server, "photos/large.png", "--output", "out", "--json", "-")
    assert run.returncode == 0, run.stderr
    shares = json.loads(run.stdout)["class_fraction"].values()
    assert sorted(share for share in shares if share)[0] == pytest.approx(1 / 2001**2, rel=1e-6)


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_names_on_standard_input_and_a_record_on_standard_output(
    server: FakeServer, folder: Path, predict: Predict, end: str
) -> None:
    names = end.join(["photos/a.jpg", "photos/sub/b.PNG", "photos/missing.jpg", ""]).encode()
    run = predict(server, "-", "--output", "masks", "--json", "-", stdin=names)
    assert run.returncode == 1
    assert files_below(folder.parent / "masks") == ["a.jpg.png", "sub/b.PNG.png"]
    records = {record["file"]: record for record in map(json.loads, run.stdout.splitlines())}
    assert records["photos/missing.jpg"] == {
        "file": "photos/missing.jpg",
        "error": "No such file or directory",
    }
    assert set(records) == {"photos/a.jpg", "photos/sub/b.PNG", "photos/missing.jpg"}


def test_a_record_on_a_full_disk_is_a_failure_and_no_other_status(server: FakeServer, folder: Path) -> None:
    command = f"{sys.executable} -m pipeline.predict photos --server {server.address} --model pets"
    done = subprocess.run(
        ["sh", "-c", f"exec {command} --output masks --json - >/dev/full"],
        cwd=folder.parent,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


COLORFUL = np.random.default_rng(4).integers(0, 256, (13, 17, 3), dtype=np.uint8)
FORMATS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "a.tif": (Image.fromarray(COLORFUL), {"compression": "tiff_lzw"}),
    "cmyk.tiff": (Image.fromarray(COLORFUL).convert("CMYK"), {}),
    "gray16.tif": (Image.fromarray(np.arange(0, 52000, 1000, dtype=np.uint16).reshape(4, 13)), {}),
    "a.webp": (Image.fromarray(COLORFUL), {"lossless": True}),
    "a.jp2": (Image.fromarray(COLORFUL), {"irreversible": False}),
    "a.ppm": (Image.fromarray(COLORFUL), {}),
    "gray.pgm": (Image.fromarray(COLORFUL[..., 0]), {}),
    "bits.pbm": (Image.fromarray(COLORFUL[..., 0] > 99), {}),
    "a.bmp": (Image.fromarray(COLORFUL), {}),
    "palette.bmp": (Image.fromarray(COLORFUL).quantize(9), {}),
    "a.gif": (Image.fromarray(COLORFUL).quantize(9), {}),
    "moving.gif": (
        Image.fromarray(COLORFUL).quantize(9),
        {"save_all": True, "append_images": [Image.new("P", (17, 13))]},
    ),
    "a.jpg": (Image.fromarray(COLORFUL), {}),
    "alpha.png": (Image.fromarray(np.dstack([COLORFUL, COLORFUL[..., 0]])), {}),
}


@pytest.fixture(scope="module")
def of_all_formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for name, (image, options) in FORMATS.items():
        image.save(folder / name, **options)
    return folder


def test_an_empty_file_is_said_to_be_one() -> None:
    with pytest.raises(InputRejectedError) as rejected:
        sent_bytes(b"")
    assert rejected.value.found == "0 bytes"


@pytest.mark.parametrize("name", FORMATS)
def test_a_server_is_sent_the_very_pixels_that_ingestion_gave_to_the_training(
    of_all_formats: Path, name: str
) -> None:
    from components.image_mask_example_gen.image import read_image
    from components.imaging.decode import decode_image
    from components.imaging.reading import Reading

    data = (of_all_formats / name).read_bytes()
    sent, trained_on = sent_bytes(data), read_image(of_all_formats / name, 10**6).data
    for channels in (1, 3, 4):
        reading = Reading(channels=channels)
        assert np.array_equal(decode_image(sent, reading), decode_image(trained_on, reading))
    assert (sent == data) == (name in ("a.jpg", "alpha.png"))


def test_a_folder_of_all_formats_is_answered_with_overlays_and_what_is_left_is_named(
    server: FakeServer, folder: Path, of_all_formats: Path, predict: Predict
) -> None:
    for name in ("a.heic", "b.svg", "c.json", "d.txt", "e.xml", "f.md"):
        (folder / name).write_text("no image")
    for name in FORMATS:
        (folder / name).write_bytes((of_all_formats / name).read_bytes())
    run = predict(server, "photos", "photos/c.json", "--output", "masks", "--overlay")
    assert run.returncode == 1
    over, failed, summary = run.stderr
    assert over.startswith(
        "passed over: photos/a.heic, photos/b.svg, photos/d.txt, photos/e.xml, photos/f.md and 1 more; "
        "images end in .bmp, .gif, .j2k, "
    )
    assert failed == "photos/c.json: no image format known here; it begins with b'no image'"
    assert summary.startswith("16 of 17 images answered")
    mask = read_class_ids((folder.parent / "masks" / "a.tif.png").read_bytes())
    assert np.array_equal(mask, class_ids_of(COLORFUL))
    assert (folder.parent / "masks" / "gray16.tif.overlay.jpg").exists()


def test_images_are_turned_into_png_without_tensorflow(of_all_formats: Path) -> None:
    script = (
        "import sys, pipeline.predict.run\n"
        "from pipeline.predict.image_files import sent_bytes\n"
        "assert sent_bytes(open(sys.argv[1], 'rb').read()).startswith(b'\\x89PNG')\n"
        "assert not {'tensorflow', 'tfx', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script, str(of_all_formats / "a.tif")]
    run = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_failed_file_is_named_and_the_others_go_on(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    (folder / "broken.png").write_bytes(b"text")
    (folder / "half.png").write_bytes(picture(5)[:20])
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "huge.png").touch()
    os.truncate(folder / "huge.png", MAX_FILE_BYTES + 1)
    tracemalloc.start()
    try:
        run = predict(server, "photos", "--output", "masks", "--batch-size", "10")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Neither for the huge one nor for each of the others a gigabyte.
    assert peak < MAX_FILE_BYTES >> 4
    assert run.returncode == 1
    _, *failed, summary = run.stderr
    assert sorted(failed) == [
        "photos/broken.png: no image format known here; it begins with b'text'",
        "photos/gone.png: No such file or directory",
        "photos/half.png: INVALID_ARGUMENT: Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
        "photos/huge.png: more than 1 GiB, which no request can hold",
    ]
    assert summary.startswith("3 of 7 images answered")
    assert len(files_below(folder.parent / "masks")) == 3


def test_pipes_long_names_and_names_that_write_on_the_terminal_fail_one_by_one(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "a\x1b[2J\n.png").write_bytes(b"text")
    (folder / ("x" * 251 + ".png")).write_bytes(picture(5))
    run = predict(server, "photos", "--output", "masks")
    assert run.returncode == 1
    _, *failed, summary = run.stderr
    *others, too_long = sorted(failed)
    assert others == [
        r"photos/a\x1b[2J\n.png: no image format known here; it begins with b'text'",
        "photos/pipe.png: it is a pipe, a socket or a device, no file",
    ]
    assert too_long.startswith(f"photos/{'x' * 251}.png: ") and too_long.endswith(": File name too long")
    assert summary.startswith("3 of 6 images answered")


def test_results_that_exist_are_refused_skipped_or_replaced(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    options = ("photos", "--output", "masks")
    mask = folder.parent / "masks" / "a.jpg.png"
    mask.parent.mkdir()
    mask.write_bytes(b"mine")
    refused = predict(server, *options)
    assert refused.returncode == 2
    assert refused.stderr == [
        "python -m pipeline.predict: masks/a.jpg.png exists already; "
        "give --existing skip or replace, or another --output"
    ]
    skipped = predict(server, *options, "--existing", "skip")
    assert skipped.returncode == 0
    assert "2 of 2 images answered" in skipped.stderr[-1]
    assert mask.read_bytes() == b"mine"
    replaced = predict(server, *options, "--existing", "replace")
    assert "3 of 3 images answered" in replaced.stderr[-1]
    assert mask.read_bytes() != b"mine"


def test_an_overlay_that_is_missing_is_still_to_do(server: FakeServer, predict: Predict) -> None:
    predict(server, "photos", "--output", "masks")
    again = ("photos", "--output", "masks", "--overlay", "--existing", "skip")
    assert "3 of 3 images answered" in predict(server, *again).stderr[-1]
    assert "0 of 0 images answered" in predict(server, *again).stderr[-1]


def test_a_record_that_exists_is_refused_without_a_mask_and_replaced_as_a_whole(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    options = ("photos/a.png", "--output", "masks", "--json", "r.jsonl")
    record = folder.parent / "r.jsonl"
    earlier = '{"file": "elsewhere/z.png", "mask": "elsewhere/z.png.png"}\n'
    record.write_text(earlier)
    refused = predict(server, *options)
    assert refused.returncode == 2 and "r.jsonl exists already" in refused.stderr[-1]
    assert (record.read_text(), server.requests) == (earlier, [])
    assert predict(server, *options, "--existing", "replace").returncode == 0
    assert [json.loads(line)["file"] for line in record.read_text().splitlines()] == ["photos/a.png"]


def test_skipping_asks_again_for_what_the_record_lost(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    """A run was killed while it wrote the second of three lines; the masks of two images were there."""
    options = ("photos", "--output", "masks", "--json", "r.jsonl")
    predict(server, *options)
    record = folder.parent / "r.jsonl"
    complete = record.read_bytes()
    first, second, _ = complete.splitlines(keepends=True)
    record.write_bytes(first + second[:20])
    whole = record.with_name("whole.jsonl")
    whole.write_bytes(complete.rstrip())
    predict(server, "photos", "--output", "masks", "--json", str(whole), "--existing", "skip")
    assert whole.read_bytes() == complete, "its last entry was whole, but for the end of the line"
    again = predict(server, *options, "--existing", "skip")
    assert "2 of 2 images answered" in again.stderr[-1]
    assert sorted(record.read_bytes().splitlines()) == sorted(complete.splitlines())
    assert "0 of 0 images answered" in predict(server, *options, "--existing", "skip").stderr[-1]


@pytest.mark.parametrize("existing", ["refuse", "skip", "replace"])
@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("photos/a.jpg", "--json photos/a.jpg names a picture; it takes the record's file, or -"),
        ("none.PNG", "--json none.PNG names a picture"),
        ("photos/notes.txt", "--json photos/notes.txt exists and is no record of this command"),
    ],
)
def test_a_record_does_not_go_into_a_file_that_is_none(
    server: FakeServer, folder: Path, predict: Predict, record: str, said: str, existing: str
) -> None:
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    run = predict(server, "--json", record, "photos/a.png", "--output", "masks", "--existing", existing)
    assert run.returncode == 2 and said in run.stderr[-1]
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before
    assert server.requests == []


@pytest.mark.parametrize("left", ["", '{"fi', '{"file": "photos/a.p'])
def test_a_record_that_was_hardly_begun_is_gone_on_with(
    server: FakeServer, folder: Path, predict: Predict, left: str
) -> None:
    record = folder.parent / "r.jsonl"
    record.write_text(left)
    run = predict(server, "photos/a.png", "--output", "masks", "--json", "r.jsonl", "--existing", "skip")
    assert run.returncode == 0
    assert [json.loads(line)["file"] for line in record.read_text().splitlines()] == ["photos/a.png"]


def test_two_runs_that_write_one_record_keep_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"file": "of last week"}\n')
    results = ResultFiles(tmp_path, overlays=False, record=str(path), existing=Existing.REPLACE)
    shares = {f"class {number}": 1 / 3 for number in range(255)}
    with results.open_record() as one, results.open_record() as other:
        for record, name in ((one, "a"), (other, "b"), (one, "c"), (other, "d")):
            record.write(file=name, class_fraction=shares)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["file"] for line in lines] == ["a", "b", "c", "d"]


def test_an_image_whose_line_cannot_be_written_is_not_answered(
    server: FakeServer, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Record, **entry: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "r.jsonl")

    monkeypatch.setattr(Record, "write", full)
    run = predict(server, "photos/a.jpg", "--output", "masks", "--json", "r.jsonl")
    assert run.returncode == 1
    assert run.stderr == ["r.jsonl: No space left on device", run.stderr[1]]
    assert run.stderr[1].startswith("0 of 1 images answered")


@pytest.mark.parametrize("output", ["photos/masks", "linked/masks"])
def test_a_pattern_finds_no_results_of_an_earlier_run(
    server: FakeServer, folder: Path, predict: Predict, output: str
) -> None:
    (folder.parent / "linked").symlink_to(folder)
    for existing in ("refuse", "replace"):
        run = predict(server, "photos/**/*.png", "--output", output, "--existing", existing)
        assert run.stderr[-1].startswith("1 of 1 images answered")
    assert files_below(folder / "masks") == ["a.png.png"]


def test_a_pattern_below_the_folder_for_results_means_what_it_says(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    run = predict(server, "photos/sub/*.PNG", "--output", ".")
    assert run.stderr[-1].startswith("1 of 1 images answered")


def test_runs_that_write_into_one_folder_do_not_touch_each_others_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ResultFiles(tmp_path, overlays=False)
    first, second = (ImageFile(Path(name), Path(name)) for name in ("a.png", "b.png"))
    replace = Path.replace

    def overtaken(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        results.write_mask(second, b"of the second")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    results.write_mask(first, b"of the first")
    assert results.mask(first).read_bytes() == b"of the first"
    assert results.mask(second).read_bytes() == b"of the second"
    assert files_below(tmp_path) == ["a.png.png", "b.png.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["*.bmp"], "*.bmp: no file matches this pattern"),
        (["empty"], "empty: no images in this folder (.bmp, .gif, .j2k, .jfif, .jp2, "),
        (["-"], "standard input names no image"),
        (["photos", "--server", "localhost"], "'localhost' is no server address; give HOST:PORT"),
        (["photos", "--batch-size", "0"], "argument --batch-size: '0' is not a whole number of at least 1"),
        (["photos", "--timeout", "nan"], "argument --timeout: 'nan' is not a number of at least 0.001"),
        (["photos", "--version", "1", "--label", "x"], "--label: not allowed with argument --version"),
        (["photos", "--tls-key", "k"], "--tls-key and --tls-server-name go with --tls-ca"),
        (["photos", "--tls-ca", "none"], "CA file none: No such file or directory"),
        (["photos", "--output", "photos"], "images and results in one folder would get mixed up"),
        (["photos", "--output", "linked"], "images and results in one folder would get mixed up"),
        (["photos", "--output", "photos/notes.txt"], "pipeline.predict: photos/notes.txt: File exists"),
        ([""], "argument IMAGE: it is empty"),
    ],
)
def test_a_wrong_command_is_answered_with_exit_2_before_anything_is_sent(
    server: FakeServer, folder: Path, predict: Predict, arguments: Sequence[str], message: str
) -> None:
    (folder.parent / "empty").mkdir()
    (folder.parent / "linked").symlink_to(folder)
    run = predict(server, "--output", "masks", *arguments)
    assert run.returncode == 2
    assert message in run.stderr[-1]
    assert server.requests == []


def test_names_on_a_closed_standard_input_are_a_wrong_command(tmp_path: Path) -> None:
    options = ["--server", "localhost:1", "--model", "pets", "--output", str(tmp_path / "masks")]
    command = f"exec {sys.executable} -m pipeline.predict - {' '.join(options)} <&-"
    run = subprocess.run(["sh", "-c", command], cwd=_REPOSITORY, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert run.stderr == "python -m pipeline.predict: standard input is closed\n"


def test_a_server_that_refuses_to_name_the_classes_ends_the_run(server: FakeServer, predict: Predict) -> None:
    run = predict(server, "photos", "--output", "masks", "--max-message-bytes", "10")
    assert run.returncode == 1
    assert "raise max_message_bytes" in run.stderr[1]
    assert run.stderr[2].startswith("0 of 3 images answered")


def test_a_server_that_is_not_there_is_said_at_once_and_given_up_after_patience(predict: Predict) -> None:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        address = f"localhost:{bound.getsockname()[1]}"
        run = predict(address, "photos", "--output", "masks", "--patience", "1")
    refusal = (
        f"cannot reach {address}: it refuses connections: is the server running, and is this its gRPC port?"
    )
    assert run.returncode == 1
    _, first, second, summary = run.stderr
    assert [first, second] == [f"{refusal}; trying again for up to 1 s", refusal]
    assert summary.startswith("0 of 3 images answered")


def test_a_server_lost_on_the_way_ends_the_run_once(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    server.failures = [(grpc.StatusCode.UNAVAILABLE, "going away")] * 20
    run = predict(server, "photos", "--output", "masks", "--patience", "0")
    assert run.returncode == 1
    assert run.stderr[1] == f"{server.address} is unavailable: going away"
    assert len(run.stderr) == 3


def test_a_mask_that_cannot_be_written_is_a_failed_file(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    masks = folder.parent / "masks"
    masks.mkdir()
    (masks / "sub").write_text("in the way")
    run = predict(server, "photos", "--output", "masks")
    assert run.returncode == 1
    assert run.stderr[1] == "photos/sub/b.PNG: masks/sub: File exists"
    assert run.stderr[2].startswith("2 of 3 images answered")


def test_a_full_disk_ends_the_run(
    server: FakeServer, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    run = predict(server, "photos", "--output", "masks")
    assert run.returncode == 1
    assert run.stderr[1].endswith(": No space left on device")
    assert len(run.stderr) == 3


def test_a_terminal_shows_how_far_it_is_and_whole_lines_above(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"no picture")
    controller, terminal = pty.openpty()
    with running(FakeServer(seconds=0.2)) as server:
        options = ["--server", server.address, "--model", "pets", "--output", "masks", "--concurrency", "1"]
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline.predict", "photos", *options],
            cwd=folder.parent,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY), "TERM": "xterm", "COLUMNS": "40"},
            stderr=terminal,
        ) as process:
            os.close(terminal)
            shown = b""
            # Linux ends the terminal with an error once nobody writes to it any more.
            with contextlib.suppress(OSError):
                while piece := os.read(controller, 4096):
                    shown += piece
    os.close(controller)
    assert process.returncode == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")
    assert re.search("━ +2/3 images", plain)
    lines = plain.splitlines()
    assert sum(line.startswith("photos/a.jpg: ") for line in lines) == 1
    [summary] = [line for line in lines if line.startswith("2 of 3 images answered by pets (version 3) in ")]
    assert summary.endswith("masks in masks")


def test_an_interrupt_keeps_what_is_done_and_leaves_no_half_file(folder: Path) -> None:
    for number in range(200):
        (folder / f"{number:03}.png").write_bytes(picture(number))
    with running(FakeServer(seconds=0.05)) as server:
        options = ["--server", server.address, "--model", "pets", "--output", "masks"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.predict", "photos", *options],
            cwd=folder.parent,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            stderr=subprocess.PIPE,
        )
        masks = folder.parent / "masks"
        until(lambda: len(list(masks.glob("*.png"))) > 3, 60)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (
        stderr.decode().splitlines()[-1]
        == "interrupted; the same command with --existing skip goes on from there"
    )
    done = files_below(masks)
    assert 3 < len(done) < 200
    assert all(name.endswith(".png") and not name.startswith(".") for name in done)


@pytest.mark.parametrize(
    "bands", [{}, {4: (3, 1)}, {3: (3, 1)}, {3: (1, 2), 4: (3, 2)}], ids=["alike", "to", "from", "other"]
)
def test_a_new_version_may_take_over_on_the_way_and_read_other_bands(
    bands: dict[int, tuple[int, ...]], folder: Path, predict: Predict
) -> None:
    for number in range(40):
        (folder / f"{number}.png").write_bytes(picture(number))

    def push(server: FakeServer) -> None:
        until(lambda: len(server.requests) >= 5)
        server.versions = [3, 4]

    with running(FakeServer(seconds=0.02, bands=bands)) as server:
        pushing = threading.Thread(target=push, args=[server])
        pushing.start()
        run = predict(server, "photos", "--output", "masks", "--json", "-", "--overlay")
        pushing.join()
    assert run.stderr[-1].startswith("43 of 43 images answered by pets (version 3, 4) in ")
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert {record["version"] for record in records} == {3, 4}
    for record in records:
        with Image.open(folder.parent / record["file"]) as image:
            red = bands.get(record["version"], (1,))[0] - 1
            expected = class_ids_of(np.roll(np.array(image.convert("RGB")), -red, axis=-1))
        mask = read_class_ids((folder.parent / record["mask"]).read_bytes())
        assert np.array_equal(mask, expected), record


def test_the_classes_of_a_version_that_is_gone_are_guessed_aloud(
    server: FakeServer, folder: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push(image: ImageFile, *_: object) -> bytes:
        monkeypatch.setattr(server, "versions", [3, 4])
        return picture(0)

    monkeypatch.setattr(server, "shy_versions", [4])
    monkeypatch.setattr("pipeline.predict.run.read_bytes", push)
    run = predict(server, "photos", "--output", "masks")
    said, summary = run.stderr[1:]
    assert said == (
        "version 4 answered and does not say its classes; those of version 3 are taken for them "
        f"({server.address} does not serve model 'pets' version 4; its versions: 4 AVAILABLE, 3 AVAILABLE)"
    )
    assert summary.startswith("3 of 3 images answered by pets (version 3, 4) in ")


def test_a_version_that_does_not_say_its_classes_once_is_asked_again(
    folder: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        (folder / f"{number}.png").write_bytes(picture(number))
    slow = (grpc.StatusCode.DEADLINE_EXCEEDED, "")
    with running(FakeServer(bands={3: (3, 1), 4: (3, 1)}, labels_failures={4: [slow]})) as server:

        def push(path: Path, purpose: str) -> bytes:
            server.versions = [3, 4]
            return read_bytes(path, purpose)

        monkeypatch.setattr("pipeline.predict.run.read_bytes", push)
        run = predict(server, "photos", "--output", "masks", "--json", "-")
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(set(record["class_fraction"]) == set(NAMES) for record in records[1:])
    said, summary = run.stderr[1:]
    assert said.startswith("the classes have numbers instead of names: ")
    assert summary.startswith("12 of 12 images answered by pets (version 3, 4) in ")


def test_raw_values_that_come_late_are_those_of_all_masks(folder: Path, predict: Predict) -> None:
    with running(FakeServer(labels_failures={3: [(grpc.StatusCode.INTERNAL, "")]})) as server:
        assert predict(server, "photos", "--output", "masks", "--values", "raw").returncode == 0
    values = {value for (value,) in RAW_VALUES}
    for name in ("a.jpg", "a.png"):
        with Image.open(folder.parent / "masks" / f"{name}.png") as mask:
            assert set(np.unique(np.array(mask))) == values


def test_a_version_that_never_says_its_classes_is_not_asked_for_ever(folder: Path, predict: Predict) -> None:
    failures = [(grpc.StatusCode.INTERNAL, "")] * 100
    with running(FakeServer(labels_failures={3: failures})) as server:
        assert predict(server, "photos", "photos", "--output", "masks").returncode == 0
    assert server.labels_requests == 3


def test_images_that_are_refused_are_not_each_a_question_for_the_classes(
    server: FakeServer, folder: Path, predict: Predict
) -> None:
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number)[:-40])
    before = server.labels_requests
    run = predict(server, "photos", "--output", "masks")
    assert run.stderr[-1].startswith("3 of 23 images answered by pets (version 3) in ")
    assert server.labels_requests - before == 1


def test_versions_that_take_turns_and_read_other_bands_are_not_asked_for_ever(
    folder: Path, predict: Predict
) -> None:
    class Turning(FakeServer):
        def _version(self, spec: Any, context: grpc.ServicerContext) -> int:
            if spec.HasField("version"):
                return super()._version(spec, context)
            self.versions = self.versions[::-1]
            return self.versions[0]

    with running(Turning(versions=(3, 4), bands={3: (1, 2), 4: (2, 1)})) as server:
        run = predict(server, "photos/a.png", "--output", "masks")
    failed, summary = run.stderr
    assert failed == ("photos/a.png: versions that read other bands or values answer in turn: give --version")
    assert len(server.requests) == 5
    assert summary.startswith("0 of 1 images answered")


def test_help_needs_neither_grpc_nor_tensorflow() -> None:
    script = (
        "import sys, pipeline.predict.__main__ as p\n"
        "try: p.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'grpc', 'numpy', 'tensorflow', 'pydantic'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=_REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "130 if it was interrupted" in run.stdout
