"""What Baseline answers for each state of the served versions."""

import logging
from pathlib import Path
from typing import Any

import pytest
from candidates import write_candidate
from tfx.types import standard_artifacts

from components.baseline.executor import Executor
from components.errors import StageError
from components.model_store import publishing, store, tokens


@pytest.fixture
def serving_dir(tmp_path: Path) -> Path:
    return tmp_path / "serving"


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "candidate" / "Format-Serving", "candidate")


def push(
    tmp_path: Path, serving_dir: Path, content: str, token: str = tokens.NO_BASELINE, **options: Any
) -> int:
    model = write_candidate(tmp_path / content, content, **options)
    return publishing.publish(model, serving_dir, {tokens.BASELINE_TOKEN_KEY: token})


def run(candidate: Path, serving_dir: Path, token: str | None = None) -> standard_artifacts.Model:
    """Runs the executor; without a token, as where no driver runs."""
    model, baseline = standard_artifacts.Model(), standard_artifacts.Model()
    model.uri = str(candidate.parent)
    baseline.uri = str(candidate.parent.parent / "baseline")
    Path(baseline.uri).mkdir(exist_ok=True)
    properties = {"serving_dir": str(serving_dir)} | ({"served_model": token} if token else {})
    Executor().Do({"model": [model]}, {"baseline_model": [baseline]}, properties)
    return baseline


def assert_empty(baseline: standard_artifacts.Model) -> None:
    assert baseline.get_string_custom_property("version") == ""
    assert list(Path(baseline.uri).iterdir()) == []


def test_nothing_served_is_an_empty_baseline(candidate: Path, serving_dir: Path) -> None:
    baseline = run(candidate, serving_dir)
    assert_empty(baseline)
    assert baseline.get_string_custom_property("baseline_token") == tokens.NO_BASELINE
    assert baseline.get_string_custom_property("incomparable_version") == ""


def test_the_newest_version_is_the_baseline(candidate: Path, serving_dir: Path, tmp_path: Path) -> None:
    push(tmp_path, serving_dir, "old")
    number = push(tmp_path, serving_dir, "new")
    baseline = run(candidate, serving_dir)
    assert baseline.get_string_custom_property("version") == str(number)
    model = Path(baseline.uri) / "Format-Serving"
    assert store.content_fingerprint(model) == store.content_fingerprint(tmp_path / "new")
    token = baseline.get_string_custom_property("baseline_token")
    assert tokens.find_baseline(token, serving_dir) == store.newest(serving_dir)
    assert baseline.get_string_custom_property("obstacle") == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"classes": ("cat", "horse")}, "classes are not the same"),
        ({"classes": ("dog", "cat")}, "classes are not the same"),
        ({"classes": None}, "does not say what its classes are"),
        ({"signatures": ("serving_default",)}, "no signature 'evaluate'"),
        ({"max_pixels": 79}, "refuses images of more than 79 pixels, and there may be some of 80 now"),
        ({"exif": "upright"}, "turns images as EXIF says and the other does not"),
        ({"channels": [1, 2, 3]}, "it reads the bands [1, 2, 3], and the candidate no list of bands"),
        (
            {"value_range": [0, 4095]},
            "it takes the values 0 to 4095 of pictures of more than 8 bits, and the candidate the upper 8",
        ),
    ],
)
def test_a_version_that_cannot_be_compared_is_left_out_and_said_so(
    candidate: Path,
    serving_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    reason: str,
) -> None:
    number = push(tmp_path, serving_dir, "served", **options)
    with caplog.at_level(logging.INFO, logger="components.baseline"):
        baseline = run(candidate, serving_dir)
    assert_empty(baseline)
    assert f"not comparing with version {number}" in caplog.text
    assert reason in caplog.text
    assert baseline.get_string_custom_property("incomparable_version") == str(number)
    assert reason in baseline.get_string_custom_property("obstacle")


@pytest.mark.parametrize(
    ("served", "now", "comparable"),
    [
        ({"channels": [1, 2, 3]}, {"channels": [4, 3, 2]}, False),
        ({"channels": 3}, {"channels": [1, 2, 3]}, False),
        ({"channels": [4, 3, 2]}, {"channels": [4, 3, 2]}, True),
        # Each makes its own of the files' bytes.
        ({"channels": 1}, {"channels": 3}, True),
        ({"value_range": [0, 1]}, {"value_range": [0, 2]}, False),
        ({"value_range": [0, 1]}, {"value_range": [0.0, 1.0]}, True),
    ],
)
def test_models_are_compared_where_the_examples_of_one_are_those_of_the_other(
    serving_dir: Path, tmp_path: Path, served: dict[str, Any], now: dict[str, Any], comparable: bool
) -> None:
    push(tmp_path, serving_dir, "served", **served)
    candidate = write_candidate(tmp_path / "candidate" / "Format-Serving", "candidate", **now)
    assert (run(candidate, serving_dir).get_string_custom_property("obstacle") == "") is comparable


def test_the_token_changes_with_the_newest_version_and_with_its_bytes(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    answers = [tokens.baseline_token(candidate, serving_dir)]
    number = push(tmp_path, serving_dir, "one")
    answers.append(tokens.baseline_token(candidate, serving_dir))
    # What came in another way than by a push, nobody can tell from what it should be.
    (serving_dir / str(number) / store.PROVENANCE_FILE).unlink()
    (serving_dir / str(number) / "variables/variables.data").write_text("changed by hand")
    answers.append(tokens.baseline_token(candidate, serving_dir))
    push(tmp_path, serving_dir, "two")
    answers.append(tokens.baseline_token(candidate, serving_dir))
    assert len(set(answers)) == 4


def test_no_candidate_is_compared_with_a_version_that_is_not_what_was_pushed(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    number = push(tmp_path, serving_dir, "pushed")
    token = tokens.baseline_token(candidate, serving_dir)
    (serving_dir / str(number) / "variables/variables.data").write_text("pulled")
    for known in (None, token):
        with pytest.raises(
            StageError, match=rf"{number} is damaged: .*; put a copy of version {number} back"
        ):
            run(candidate, serving_dir, known)


def test_a_candidate_that_is_served_asks_for_what_it_was_compared_with(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    earlier = push(tmp_path, serving_dir, "earlier")
    token = tokens.baseline_token(candidate, serving_dir)
    publishing.publish(candidate, serving_dir, {tokens.BASELINE_TOKEN_KEY: token})
    assert tokens.baseline_token(candidate, serving_dir) == token
    assert run(candidate, serving_dir, token).get_string_custom_property("version") == str(earlier)


def test_a_candidate_that_is_served_though_nobody_pushed_it_is_not_compared_with_itself(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    push(tmp_path, serving_dir, "earlier")
    number = publishing.publish(candidate, serving_dir, {})
    (serving_dir / str(number) / store.PROVENANCE_FILE).unlink()
    token = tokens.baseline_token(candidate, serving_dir)
    assert token == tokens.NO_BASELINE
    assert_empty(run(candidate, serving_dir, token))


def test_a_served_candidate_whose_baseline_is_gone_is_compared_with_nothing(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    push(tmp_path, serving_dir, "earlier")
    token = tokens.baseline_token(candidate, serving_dir)
    publishing.publish(candidate, serving_dir, {tokens.BASELINE_TOKEN_KEY: token})
    publishing.prune(serving_dir, keep=1)
    assert tokens.baseline_token(candidate, serving_dir) == token
    assert_empty(run(candidate, serving_dir, token))


def test_an_answer_is_refused_when_the_versions_change_after_the_driver_looked(
    candidate: Path, serving_dir: Path, tmp_path: Path
) -> None:
    push(tmp_path, serving_dir, "earlier")
    token = tokens.baseline_token(candidate, serving_dir)
    push(tmp_path, serving_dir, "another")
    publishing.prune(serving_dir, keep=1)
    with pytest.raises(StageError, match="run the pipeline again"):
        run(candidate, serving_dir, token)
