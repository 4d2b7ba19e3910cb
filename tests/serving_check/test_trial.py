"""What is said of servers that do not do what they must."""

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import png_bytes
from PIL import Image
from scripted_server import scripted_server

from components.serving_check import trial
from components.serving_check.examples import CheckedExample, Examples
from components.serving_check.trial import Findings, try_out

SIGNATURES = ["serving_default", "serving_pixels", "evaluate", "labels"]
NAMES = ["ground", "disc"]
MASKS = [np.full((4, 5), value, np.uint8) for value in range(5)]
EXAMPLES = [
    CheckedExample(f"{index}.png", png_bytes(np.full((4, 5, 3), index, np.uint8)), png_bytes(mask))
    for index, mask in enumerate(MASKS)
]
ANSWERS = {example.image: example.mask for example in EXAMPLES}


class Script:
    """A well-behaved server by default; each test spoils one thing."""

    def __init__(self) -> None:
        self.answers = dict(ANSWERS)
        self.refusal = grpc.StatusCode.INVALID_ARGUMENT
        self.is_down = False

    def __call__(self, request: Any, context: grpc.ServicerContext) -> dict[str, np.ndarray]:
        images = list(request.inputs["image_bytes"].string_val)
        if self.is_down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        good = set(request.inputs) == {"image_bytes"} and images and all(map(self.answers.get, images))
        if not good or request.model_spec.signature_name != "serving_default":
            self.refuse(context)
        masks = np.array([self.answers.get(image, b"") for image in images], object)
        shares = np.array([self.shares_of(mask) for mask in masks], np.float32)
        return {"mask_bytes": masks, "class_fraction": shares}

    def shares_of(self, mask: bytes) -> list[float]:
        try:
            pixels = np.asarray(Image.open(io.BytesIO(mask)))
        except OSError:
            return [0.0, 0.0]
        return [float(np.mean(pixels == class_id)) for class_id in range(2)]

    def refuse(self, context: grpc.ServicerContext) -> None:
        context.abort(self.refusal, "no")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(trial, "_TIMED_SECONDS", 0.0)
    return Script()


def describe(model_dir: Path, names: list[str]) -> None:
    """Writes what an exported model says of itself."""
    (model_dir / "assets.extra").mkdir()
    description = {"labels": {"names": names}, "limits": {"max_batch_size": 32}}
    (model_dir / "assets.extra" / "labels.json").write_text(json.dumps(description))


def findings_on(script: Script, tmp_path: Path, signatures: list[str] = SIGNATURES) -> Findings:
    describe(tmp_path, NAMES)
    with scripted_server(signatures, NAMES, script) as address:
        return try_out(address, "m", tmp_path, Examples(EXAMPLES, EXAMPLES[:2], []))


def test_nothing_is_said_against_a_server_that_does_all_it_must(script: Script, tmp_path: Path) -> None:
    findings = findings_on(script, tmp_path)
    assert findings.reasons == []
    assert (findings.masks, findings.same_bytes) == (7, 7)
    assert findings.latency_ms and findings.latency_ms.requests == 5
    assert {answer.code for answer in findings.hostile_requests} == {"INVALID_ARGUMENT"}


def test_the_very_first_request_is_not_among_those_whose_time_is_judged(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.9, *(2.0 + 0.25 * tick for tick in range(10))])
    monkeypatch.setattr(
        trial, "time", SimpleNamespace(perf_counter=lambda: next(clock), monotonic=time.monotonic)
    )
    latency = findings_on(script, tmp_path).latency_ms
    assert latency and (latency.first, latency.p50, latency.p99) == (900, 250, 250)


def test_wrong_masks_are_named_and_counted_and_the_rest_summed_up(script: Script, tmp_path: Path) -> None:
    for example in EXAMPLES[1:]:
        script.answers[example.image] = png_bytes(np.where(np.eye(4, 5), 9, 0).astype(np.uint8))
    script.answers[EXAMPLES[2].image] = png_bytes(np.zeros((5, 4), np.uint8))
    script.answers[EXAMPLES[3].image] = b"no mask at all"
    findings = findings_on(script, tmp_path)
    assert (
        findings.reasons[0]
        == "the served mask of 1.png is not what evaluate gives: it differs in 20 of 20 pixels"
    )
    assert (
        findings.reasons[1]
        == "the served mask of 2.png is not what evaluate gives: it is 4 x 5 pixels, not 5 x 4"
    )
    assert (
        "the served mask of 3.png is not what evaluate gives: it is no picture but 14 bytes"
        in findings.reasons[2]
    )
    assert findings.reasons[3] == "1 more served masks differ"
    assert "mask of 1.png, in a batch of 2, is not what evaluate gives" in findings.reasons[4]
    assert findings.masks == 2


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ([0.7, 0.0], "says 0.700000 of ground, the mask 1.000000"),
        ([1.0, 0.00001], "says 0.000010 of disc, the mask 0.000000"),
        ([1.0, float("nan")], "says nan of disc, the mask 0.000000"),
        ([1.0], "has the shape [1], not [2]"),
    ],
)
def test_shares_that_are_not_those_of_the_mask_are_refused_in_one_line(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: list[float], said: str
) -> None:
    monkeypatch.setattr(Script, "shares_of", lambda self, mask: spoilt)
    findings = findings_on(script, tmp_path)
    assert findings.reasons == [f"the served class_fraction of 0.png is not that of its own mask: it {said}"]
    assert findings.masks == 7


def test_a_share_may_be_rounded_as_a_float32_is(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((3, 1), np.uint8)
    mask[0] = 1
    monkeypatch.setattr(Script, "shares_of", lambda self, mask: [np.float32(2 / 3), np.float32(1 / 3)])
    for example in EXAMPLES:
        script.answers[example.image] = png_bytes(mask)
    assert not [reason for reason in findings_on(script, tmp_path).reasons if "class_fraction" in reason]


def test_another_encoding_of_the_same_mask_is_the_same_mask(script: Script, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(MASKS[0]).save(file, "PNG", compress_level=0)
    script.answers[EXAMPLES[0].image] = file.getvalue()
    findings = findings_on(script, tmp_path)
    assert findings.reasons == []
    assert (findings.masks, findings.same_bytes) == (7, 5)


def test_hostile_requests_must_be_refused_with_a_code_that_tells_whose_fault_it_is(
    script: Script, tmp_path: Path
) -> None:
    script.refusal = grpc.StatusCode.INTERNAL
    reasons = findings_on(script, tmp_path).reasons
    assert "an image of 0 bytes is answered with INTERNAL, not INVALID_ARGUMENT" in reasons
    assert (
        "a signature that the model does not have is answered with INTERNAL, "
        "not FAILED_PRECONDITION or INVALID_ARGUMENT or NOT_FOUND"
    ) in reasons


def test_hostile_requests_must_not_be_answered(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Script, "refuse", lambda self, context: None)
    reasons = findings_on(script, tmp_path).reasons
    assert "a PNG that claims 60000 x 60000 pixels is answered with OK, not INVALID_ARGUMENT" in reasons


def test_a_server_that_a_hostile_request_brings_down_is_asked_no_more(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(self: Script, context: grpc.ServicerContext) -> None:
        self.is_down = True
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")

    monkeypatch.setattr(Script, "refuse", break_down)
    findings = findings_on(script, tmp_path)
    assert len(findings.reasons) == 1
    assert findings.reasons[0].startswith("the server did not answer when it had got an image of 0 bytes: ")
    assert findings.masks == 7
    assert len(findings.hostile_requests) == 1


def test_a_server_that_was_damaged_by_a_hostile_request_is_found_out(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(self: Script, context: grpc.ServicerContext) -> None:
        self.answers[EXAMPLES[0].image] = EXAMPLES[1].mask
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")

    monkeypatch.setattr(Script, "refuse", forget)
    reasons = findings_on(script, tmp_path).reasons
    assert reasons[0] == "after an image of 0 bytes the mask of 0.png differs in 20 of 20 pixels"


def test_missing_signatures_are_named(script: Script, tmp_path: Path) -> None:
    findings = findings_on(script, tmp_path, ["serving_default", "labels"])
    assert findings.reasons == ["the server knows no signature evaluate, serving_pixels"]


def test_other_class_names_are_named(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NAMES", ["disc", "ground"])
    describe(tmp_path, ["ground", "disc"])
    with scripted_server(SIGNATURES, NAMES, script) as address:
        findings = try_out(address, "m", tmp_path, Examples(EXAMPLES, EXAMPLES[:2], []))
    assert findings.reasons == ["the server names the classes disc, ground, not ground, disc"]


def test_no_server_at_all_is_one_reason(script: Script, tmp_path: Path) -> None:
    describe(tmp_path, NAMES)
    findings = try_out("127.0.0.1:9", "m", tmp_path, Examples(EXAMPLES, EXAMPLES[:2], []))
    assert len(findings.reasons) == 1
    assert findings.reasons[0].startswith("the server did not answer when asked what it serves: ")
