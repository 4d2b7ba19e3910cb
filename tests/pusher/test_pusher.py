"""What the Pusher's executor does, and its settings."""

import logging
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import ValidationError
from signing_keys import needs_signing, write_keys
from tfx.types import standard_artifacts

from components.errors import StageError
from components.model_store import publishing, signing, store, tokens
from components.pusher.driver import resolve_token
from components.pusher.executor import Executor
from components.serving.config import ServingConfig


@pytest.fixture
def serving_dir(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "segmentation"


def push(
    tmp_path: Path,
    serving_dir: Path,
    content: str = "weights",
    *,
    blessed: int = 1,
    serves: int = 1,
    keep: int = 3,
    compared_with: str | None = None,
    approved: str | None = None,
    driven: bool = False,
    **options: str,
) -> standard_artifacts.PushedModel:
    """Runs the executor on a model of the given content; without options, as where no driver runs.

    Where it is driven, it has the token that the driver gives.
    Unless something else is said, it was compared with what is served now.
    """
    model, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    baseline, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
    model.uri, pushed.uri = str(tmp_path / f"model-{content}"), str(tmp_path / f"pushed-{content}")
    model_dir = Path(model.uri) / "Format-Serving"
    model_dir.mkdir(parents=True, exist_ok=True)
    (model_dir / "saved_model.pb").write_text(content)
    Path(pushed.uri).mkdir(exist_ok=True)
    blessing.set_int_custom_property("blessed", blessed)
    blessing.set_string_custom_property("current_model", approved or model.uri)
    infra_blessing = standard_artifacts.InfraBlessing()
    infra_blessing.set_int_custom_property("blessed", serves)
    token = tokens.baseline_token(model_dir, serving_dir) if compared_with is None else compared_with
    baseline.set_string_custom_property("baseline_token", token)
    properties: dict[str, Any] = {
        "serving_dir": str(serving_dir),
        "keep_versions": keep,
        **options,
    }
    inputs = {
        "model": [model],
        "model_blessing": [blessing],
        "infra_blessing": [infra_blessing],
        "baseline_model": [baseline],
    }
    if driven:
        properties["push_token"] = resolve_token(inputs, properties)
    Executor().Do(inputs, {"pushed_model": [pushed]}, properties)
    return pushed


def test_a_verdict_on_another_model_pushes_nothing(
    tmp_path: Path, serving_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        pushed = push(tmp_path, serving_dir, approved="s3://bucket/another")
    assert pushed.get_int_custom_property("pushed") == 0 and store.newest(serving_dir) is None
    assert "not pushed: the Evaluator approved another model, s3://bucket/another" in caplog.text


def test_a_blessed_model_is_pushed_and_remembers_what_it_was_compared_with(
    tmp_path: Path, serving_dir: Path
) -> None:
    pushed = push(tmp_path, serving_dir, push_token="t")
    version = store.newest(serving_dir)
    assert version
    assert (version.path / "saved_model.pb").read_text() == "weights"
    assert version.provenance()["baseline_token"] == tokens.NO_BASELINE
    assert version.provenance()["push_token"] == "t"
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == str(version.number)
    assert pushed.get_string_custom_property("pushed_destination") == str(version.path)


def test_the_artifact_still_holds_the_model_when_the_version_is_gone(
    tmp_path: Path, serving_dir: Path
) -> None:
    pushed = push(tmp_path, serving_dir)
    store.shutil.rmtree(serving_dir)
    assert (Path(pushed.uri) / "saved_model.pb").read_text() == "weights"


def test_a_run_that_cannot_write_the_artifact_serves_nothing_that_it_does_not_tell_of(
    tmp_path: Path, serving_dir: Path
) -> None:
    (tmp_path / "pushed-weights/saved_model.pb").mkdir(parents=True)
    with pytest.raises(store.shutil.Error, match="Is a directory"):
        push(tmp_path, serving_dir)
    assert store.newest(serving_dir) is None


@pytest.mark.parametrize(
    ("blessed", "serves", "reason"),
    [
        (0, 0, "the Evaluator did not approve the model"),
        (0, 1, "the Evaluator did not approve the model"),
        (1, 0, "the model did not pass the serving check"),
    ],
)
def test_a_refused_model_is_not_pushed_and_one_line_says_why(
    tmp_path: Path,
    serving_dir: Path,
    caplog: pytest.LogCaptureFixture,
    blessed: int,
    serves: int,
    reason: str,
) -> None:
    with caplog.at_level(logging.INFO, logger="components.pusher"):
        pushed = push(tmp_path, serving_dir, blessed=blessed, serves=serves)
    assert not serving_dir.exists()
    assert pushed.get_int_custom_property("pushed") == 0
    assert [record.message for record in caplog.records if record.name.startswith("components")] == [
        f"not pushed: {reason}"
    ]


def test_without_a_driver_a_served_model_is_not_pushed_twice_but_a_new_one_is(
    tmp_path: Path, serving_dir: Path
) -> None:
    first = push(tmp_path, serving_dir)
    again = push(tmp_path, serving_dir)
    assert again.get_string_custom_property("pushed_version") == first.get_string_custom_property(
        "pushed_version"
    )
    assert again.get_int_custom_property("pushed") == 1
    assert (
        first.get_int_custom_property("already_served"),
        again.get_int_custom_property("already_served"),
    ) == (
        0,
        1,
    )
    push(tmp_path, serving_dir, "other")
    tokens = {
        store.Version(number, serving_dir / str(number)).provenance()["push_token"]
        for number in store.versions(serving_dir)
    }
    assert len(tokens) == 2


def test_a_model_compared_with_what_is_no_longer_the_newest_is_not_pushed(
    tmp_path: Path, serving_dir: Path
) -> None:
    push(tmp_path, serving_dir, "theirs")
    with pytest.raises(StageError, match="changed after the model was compared with them; run the pipeline"):
        push(tmp_path, serving_dir, "ours", compared_with=tokens.NO_BASELINE)
    assert len(store.versions(serving_dir)) == 1
    assert sorted(path.name for path in serving_dir.glob(".*")) == [".lock"]


def test_two_runs_at_a_time_push_one_model_once(
    tmp_path: Path, serving_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run pushes after this one has looked."""
    looked: list[Path] = []

    def withdrawn(model_dir: Path, base: Path) -> None:
        if not looked:
            looked.append(base)
            push(tmp_path, serving_dir)

    monkeypatch.setattr(store, "withdrawn", withdrawn)
    with pytest.raises(StageError, match="run the pipeline again"):
        push(tmp_path, serving_dir, compared_with=tokens.NO_BASELINE)
    assert len(store.versions(serving_dir)) == 1


def test_a_withdrawn_model_is_not_pushed_again(tmp_path: Path, serving_dir: Path) -> None:
    push(tmp_path, serving_dir, "good")
    good = store.newest(serving_dir)
    push(tmp_path, serving_dir, "bad")
    bad = store.newest(serving_dir)
    assert good and bad
    bad.path.rename(serving_dir / f".withdrawn-{bad.number}")
    with pytest.raises(StageError, match=rf"was withdrawn, it lies in .*\.withdrawn-{bad.number}; train"):
        push(tmp_path, serving_dir, "bad")
    assert store.versions(serving_dir) == [good.number]
    push(tmp_path, serving_dir, "better")
    assert len(store.versions(serving_dir)) == 2


@pytest.mark.parametrize("spoilt", ["saved_model.pb", str(store.PROVENANCE_FILE)])
def test_a_damaged_version_that_is_named_as_advised_keeps_its_model_from_nothing(
    tmp_path: Path, serving_dir: Path, spoilt: str
) -> None:
    push(tmp_path, serving_dir)
    damaged = store.newest(serving_dir)
    assert damaged
    (damaged.path / spoilt).write_text("spoilt")
    with pytest.raises(StageError, match="is damaged") as refused:
        push(tmp_path, serving_dir)
    [name] = re.findall(r"giving its directory the name (\S+), and run", str(refused.value))
    damaged.path.rename(serving_dir / name)
    push(tmp_path, serving_dir)
    served = store.newest(serving_dir)
    assert served and (served.path / "saved_model.pb").read_text() == "weights"
    assert store.damage(served.path) == ""


def test_only_the_newest_versions_are_kept(tmp_path: Path, serving_dir: Path) -> None:
    numbers = [
        int(push(tmp_path, serving_dir, content, keep=2).get_string_custom_property("pushed_version"))
        for content in ("one", "two", "three")
    ]
    assert store.versions(serving_dir) == numbers[1:]
    push(tmp_path, serving_dir, "three", keep=1)
    assert store.versions(serving_dir) == numbers[2:]


@pytest.mark.parametrize(
    "obstacle", [PermissionError(13, "Permission denied"), StageError("no locks"), KeyboardInterrupt()]
)
def test_a_model_is_pushed_whatever_keeps_old_versions(
    tmp_path: Path,
    serving_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    obstacle: BaseException,
) -> None:
    monkeypatch.setattr(publishing, "prune", Mock(side_effect=obstacle))
    pushed = push(tmp_path, serving_dir)
    served = store.newest(serving_dir)
    assert served and pushed.get_string_custom_property("pushed_version") == str(served.number)
    assert f"old versions under {serving_dir} stay until the next push" in caplog.text


@pytest.mark.parametrize("obstacle", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_model_is_pushed_once_it_is_served(
    tmp_path: Path,
    serving_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    obstacle: BaseException,
) -> None:
    flush = publishing.flush

    def not_the_folder(path: Path) -> None:
        if path == serving_dir:
            raise obstacle
        flush(path)

    monkeypatch.setattr(publishing, "flush", not_the_folder)
    pushed = push(tmp_path, serving_dir)
    served = store.newest(serving_dir)
    assert served and pushed.get_string_custom_property("pushed_version") == str(served.number)
    assert f"version {served.number} under {serving_dir} is served, but a power cut may" in caplog.text


@pytest.mark.parametrize("name", ["segmentation", "pets_unet-2.1", "_a"])
def test_names_that_work_as_directory_and_as_address_are_accepted(name: str) -> None:
    assert ServingConfig(model_name=name).model_name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "-a", "a\n", "x" * 129])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="model_name"):
        ServingConfig(model_name=name)


def test_at_least_one_version_is_kept() -> None:
    with pytest.raises(ValidationError, match="keep_versions"):
        ServingConfig(keep_versions=0)


@needs_signing
def test_with_a_key_versions_are_signed_and_one_that_is_not_is_pushed_anew(
    tmp_path: Path, serving_dir: Path
) -> None:
    private, public = write_keys(tmp_path)
    push(tmp_path, serving_dir)
    unsigned = store.newest(serving_dir)
    assert unsigned and not (unsigned.path / store.SIGNATURE_FILE).exists()
    push(tmp_path, serving_dir, signing_key=private)
    signed = store.newest(serving_dir)
    assert signed and signed.number > unsigned.number
    signing.verify(signed.path, public)
    again = push(tmp_path, serving_dir, signing_key=private)
    assert again.get_string_custom_property("pushed_version") == str(signed.number)
    assert again.get_int_custom_property("already_served") == 1
    # The artifact is the model, which is no version.
    assert not (Path(again.uri) / store.SIGNATURE_FILE).exists()


@needs_signing
@pytest.mark.parametrize("who", ["driver", "task without the key"])
def test_a_push_for_another_signature_is_another_push_to_the_cache(
    tmp_path: Path, serving_dir: Path, who: str
) -> None:
    keys = {name: write_keys(tmp_path / name)[0] for name in "ab"}

    def token_after(key: str | None) -> str:
        options: dict[str, Any] = {"signing_key": keys[key]} if key else {}
        if who != "driver" and (newest := store.newest(serving_dir)):
            options["push_token"] = newest.provenance()["push_token"]
        push(tmp_path, serving_dir, driven=who == "driver", **options)
        served = store.newest(serving_dir)
        assert served
        return served.provenance()["push_token"]

    tokens = [token_after(key) for key in (None, "a", None, "b", "a")]
    assert tokens[1] == tokens[2] and len({*tokens}) == 4
    assert token_after("a") == tokens[-1]
    signed = store.newest(serving_dir)
    assert signed
    (signed.path / store.SIGNATURE_FILE).unlink()
    assert token_after("a") not in tokens


def test_a_key_that_is_gone_pushes_nothing_and_names_the_setting(tmp_path: Path, serving_dir: Path) -> None:
    with pytest.raises(StageError, match=r"^serving.signing_key: private key no.pem cannot be read: No such"):
        push(tmp_path, serving_dir, signing_key="no.pem")
    assert store.newest(serving_dir) is None
