"""The whole check: a real model behind a real server, and what becomes of the verdict."""

import json
import logging
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf
from conftest import Pair
from tfx.components.util import model_utils
from tfx.types import standard_artifacts
from tiny_export import export_tiny_model

from components.dataset.contracts import SERVING_CHECK_FILE, ServingCheck
from components.serving.backends import BINARY, Backend
from components.serving.config import ServingCheckConfig, ServingLimits
from components.serving.process import ServerProcessError
from components.serving.server.options import ServerOptions
from components.serving.server.server import ModelServer
from components.serving_check import check, executor, trial
from components.serving_check.check import peak_resident
from components.serving_check.examples import Examples
from components.serving_check.executor import Executor
from components.serving_check.trial import Findings


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny_model(
        tmp_path_factory.mktemp("model") / "Format-Serving", ServingLimits(max_pixels=1_000_000)
    )


@pytest.fixture(scope="module")
def examples_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, bright and dark in places."""
    root = tmp_path_factory.mktemp("examples")
    (root / "Split-test").mkdir()
    rng = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(root / "Split-test" / "data_tfrecord-00000-of-00001")) as writer:
        for index in range(12):
            image = rng.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8) // 2
            image[:, : 2 * index] += 128
            writer.write(Pair(image, np.zeros(image.shape[:2], np.uint8)).example(f"{index}.png"))
    return root


def run(
    root: Path, model_dir: Path, examples_dir: Path, *, approved: int = 1, **config: Any
) -> standard_artifacts.InfraBlessing:
    model, examples = standard_artifacts.Model(), standard_artifacts.Examples()
    approval, verdict = standard_artifacts.ModelBlessing(), standard_artifacts.InfraBlessing()
    model.uri, examples.uri, verdict.uri = str(model_dir.parent), str(examples_dir), str(root)
    examples.split_names = '["train", "val", "test"]'
    approval.set_int_custom_property("blessed", approved)
    inputs = {"model": [model], "model_blessing": [approval], "examples": [examples]}
    properties = {"config": ServingCheckConfig(**config).model_dump_json(), "code_fingerprint": ""}
    Executor().Do(inputs, {"infra_blessing": [verdict]}, properties)
    return verdict


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, examples_dir: Path) -> Any:
    return run(tmp_path_factory.mktemp("verdict"), model_dir, examples_dir, check_examples=10)


def report_of(verdict: standard_artifacts.InfraBlessing) -> ServingCheck:
    report = ServingCheck.load_if_any(Path(verdict.uri, SERVING_CHECK_FILE))
    assert report
    return report


def test_a_model_that_serves_is_blessed_as_tfx_reads_it(good: standard_artifacts.InfraBlessing) -> None:
    assert report_of(good).reasons == ()
    assert model_utils.is_infra_validated(good)
    assert Path(good.uri, "INFRA_BLESSED").exists()
    assert not Path(good.uri, "INFRA_NOT_BLESSED").exists()


def test_every_mask_asked_for_singly_and_in_a_batch_is_that_of_the_signature_evaluate_byte_by_byte(
    good: standard_artifacts.InfraBlessing,
) -> None:
    report = report_of(good)
    assert (report.masks, report.same_bytes) == (18, 18)


def test_latency_memory_and_loading_are_measured(good: standard_artifacts.InfraBlessing) -> None:
    report = report_of(good)
    assert report.server == "embedded"
    assert report.load_seconds and report.load_seconds > 0.5
    latency, memory = report.latency_ms, report.memory_mb
    assert latency and latency.requests >= 10 and 0 < latency.p50 <= latency.p99
    assert memory and memory.peak > 50


def test_hostile_requests_get_an_answer_that_says_what_is_wrong(
    good: standard_artifacts.InfraBlessing,
) -> None:
    answers = {answer.request: answer for answer in report_of(good).hostile_requests}
    assert len(answers) == 10
    claim = answers["a PNG that claims 60000 x 60000 pixels"]
    assert claim.code == "INVALID_ARGUMENT"
    assert "image 0 claims 60000 x 60000 pixels; at most 1,000,000 are accepted" in claim.message
    assert "65 images at once; 1 to 64 are accepted" in answers["65 images at once"].message
    assert "1000000 bytes" in answers["a megabyte of noise"].message
    assert answers["a PNG that breaks off"].code == "INVALID_ARGUMENT"
    assert "image 1 is no JPEG, PNG or BMP" in answers["a good image and a bad one"].message


def test_what_the_server_printed_is_kept(good: standard_artifacts.InfraBlessing) -> None:
    assert "candidate" in Path(good.uri, "server.log").read_text()


class ServerOfThisProcess:
    """The embedded server, without the seconds that one more process takes."""

    pid = os.getpid()
    returncode = None
    target: str

    def __init__(self, options: ServerOptions, **_: Any) -> None:
        self._server = ModelServer(options, announce=lambda line: None)

    def start(self) -> None:
        self._server.start()
        self.target = f"127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        assert self._server.stop(grace=5)


def test_all_that_speaks_against_a_push_is_said_at_once(
    tmp_path: Path,
    model_dir: Path,
    examples_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "ServerProcess", ServerOfThisProcess)
    flawed = tmp_path / "model" / "Format-Serving"
    shutil.copytree(model_dir, flawed)
    (flawed / "assets.extra" / "tf_serving_warmup_requests").unlink()
    labels = flawed / "assets.extra" / "labels.json"
    description = json.loads(labels.read_text())
    description["labels"]["names"] = ["night", "day"]
    labels.write_text(json.dumps(description))
    (tmp_path / "verdict").mkdir()
    thresholds: dict[str, Any] = {"max_latency_ms": 0.001, "max_memory_mb": 1.5}
    with caplog.at_level(logging.INFO, logger="components.serving_check"):
        verdict = run(tmp_path / "verdict", flawed, examples_dir, approved=1, check_examples=1, **thresholds)
    reasons = report_of(verdict).reasons
    for part in (
        "no warm-up request for serving_default",
        "no warm-up request for serving_pixels",
        "names the classes dark, bright · heiß, not night, day",
        "requests, over serving.max_latency_ms 0.001",
        "MB resident, over serving.max_memory_mb 1.5",
    ):
        assert [part in reason for reason in reasons].count(True) == 1, part
        assert part in caplog.text
    assert len(reasons) == 5
    assert not model_utils.is_infra_validated(verdict)
    assert Path(verdict.uri, "INFRA_NOT_BLESSED").exists()


def padded(name: str, megabytes: int) -> bytes:
    """A serialised Example whose small PNG holds so many bytes that are no pixels."""
    pair = Pair(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    chunk = b"paDD" + bytes(1_000_000)
    filling = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header = 33  # signature and IHDR
    example = tf.train.Example.FromString(pair.example(name))
    image = example.features.feature["image/encoded"].bytes_list.value
    image[0] = image[0][:header] + megabytes * filling + image[0][header:]
    return example.SerializeToString()


def test_images_fill_requests_up_to_what_the_server_takes(
    tmp_path: Path,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(check, "ServerProcess", ServerOfThisProcess)
    monkeypatch.setattr(trial, "_TIMED_SECONDS", 0.0)
    examples = [padded(f"{number}.png", 9) for number in range(8)]
    with caplog.at_level(logging.WARNING, logger="components.serving_check"):
        report = check.check_model(
            model_dir, [padded("huge.png", 68), *examples], ServingCheckConfig(), tmp_path / "log"
        )
    assert report.reasons == ()
    assert report.masks == 8 + 7
    assert report.not_tried == 1
    assert (
        "not tried: 1 of 9 test images do not fit into a request of 67,108,864 bytes (huge.png); "
        "tensorflow_model_server on PATH takes larger ones"
    ) in caplog.text


@pytest.mark.parametrize(
    ("needed", "remedy"),
    [(1 << 28, "; tensorflow_model_server on PATH takes larger ones"), ((1 << 28) + 1, "")],
)
def test_a_model_of_which_no_image_can_be_sent_is_refused_with_the_remedy(
    check_with: Any, monkeypatch: pytest.MonkeyPatch, needed: int, remedy: str
) -> None:
    monkeypatch.setattr(check, "with_expected_masks", lambda *_: Examples([], [], [("x.png", needed)]))
    report = check_with()
    assert report.reasons == (
        "it could not be tried: 1 of 1 test images do not fit into a request of 67,108,864 bytes (x.png)"
        + remedy,
    )
    assert report.not_tried == 1


def test_a_model_that_the_evaluator_did_not_approve_is_not_served(
    tmp_path: Path, model_dir: Path, examples_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "check_model", lambda *_, **__: pytest.fail("it was served"))
    verdict = run(tmp_path, model_dir, examples_dir, approved=0)
    assert not model_utils.is_infra_validated(verdict)
    assert ServingCheck.load_if_any(tmp_path / SERVING_CHECK_FILE) is None


class FakeProcess:
    """A server that ends in the middle, or never begins."""

    pid = 2**22 + 1
    target = "127.0.0.1:9"
    returncode = -9
    starts = True
    backend: Backend | None = None

    def __init__(self, *_: Any, backend: Backend, env: dict[str, str], **__: Any) -> None:
        assert env == {"CUDA_VISIBLE_DEVICES": "-1"}
        type(self).backend = backend

    def start(self) -> None:
        if not self.starts:
            raise ServerProcessError("the model server ended with status 1; the end of its log:\nboom")

    def stop(self) -> None: ...


@pytest.fixture
def check_with(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(check, "ServerProcess", FakeProcess)
    # Nobody is asked for a mask.
    monkeypatch.setattr(check, "with_expected_masks", lambda *_: Examples([], [], []))

    def report(**config: Any) -> ServingCheck:
        example = Pair(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)).example("x.png")
        return check.check_model(model_dir, [example], ServingCheckConfig(**config), tmp_path / "log")

    return report


def test_a_server_that_does_not_start_is_a_refusal_in_one_line(
    check_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProcess, "starts", False)
    assert check_with().reasons == ("the server cannot serve it: the model server ended with status 1",)


@pytest.mark.parametrize(
    ("says", "name"),
    [
        ("echo TensorFlow ModelServer: 2.21.0; echo TensorFlow Library: 2.21.0", "2.21.0"),
        ("exit 127", "of unknown version"),
    ],
)
def test_the_server_on_the_path_is_asked_and_named(
    check_with: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, name: str
) -> None:
    binary = tmp_path / BINARY
    binary.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {says}; fi\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(check, "try_out", lambda *_: Findings())
    assert check_with().server == f"tensorflow_model_server {name}"
    assert FakeProcess.backend is Backend.TENSORFLOW_MODEL_SERVER


def test_a_server_that_ends_by_itself_is_a_refusal(check_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "try_out", lambda *_: Findings(reasons=["it fell silent"]))
    report = check_with()
    assert report.reasons == ("it fell silent", "the server ended by itself, with status -9")
    assert report.memory_mb is None


def test_a_limit_is_not_met_where_nothing_was_measured(
    check_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "try_out", lambda *_: Findings())
    monkeypatch.setattr(FakeProcess, "returncode", None)
    assert check_with(max_latency_ms=1, max_memory_mb=1).reasons == (
        "the server's latency could not be measured, so serving.max_latency_ms is not met",
        "the server's memory could not be measured, so serving.max_memory_mb is not met",
    )
    assert check_with().reasons == ()


def test_a_child_that_has_just_ended_takes_only_its_own_memory_out_of_the_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "_family", lambda pid: [psutil.Process(pid), FakeProcess])
    assert peak_resident(os.getpid()) > 10_000_000


def test_memory_is_that_of_a_process_and_its_children() -> None:
    alone = peak_resident(os.getpid())
    assert alone > 10_000_000
    waits = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        assert peak_resident(os.getpid()) > alone + 2_000_000
        assert peak_resident(child.pid) > 2_000_000
        child.communicate()
    assert peak_resident(child.pid) == 0
