"""Following a run: what is said when, how often is asked, and for how long."""

import time
from collections.abc import Callable

import pytest
from fake_kfp import Step, nodes
from kfp_server_api import V2beta1Run, V2beta1RunDetails

from pipeline.kubeflow.client import waiting
from pipeline.kubeflow.client.errors import ConnectionProblem, Unauthenticated, WaitedTooLong
from pipeline.kubeflow.client.waiting import Outcome

STAGES = ("Trainer", "Evaluator", "model-pushed")
PACE = waiting.Pace(shortest=2, longest=30, patience=600)


def run_at(step: Step) -> V2beta1Run:
    return V2beta1Run(state=step.state, run_details=V2beta1RunDetails(task_details=list(nodes(step))))


def fetching(*answers: Step | ConnectionProblem) -> Callable[[], V2beta1Run]:
    """Gives one answer after the other, the last one again and again."""
    left = list(answers)

    def fetch() -> V2beta1Run:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, ConnectionProblem):
            raise answer
        return run_at(answer)

    return fetch


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves: the seconds slept so far."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    return slept


def follow(*answers: Step | ConnectionProblem, timeout: float | None = None) -> list[str]:
    said: list[str] = []
    waiting.follow(fetching(*answers), lambda run: STAGES, said.append, pace=PACE, timeout=timeout)
    return said


def test_a_stage_is_told_when_it_begins_and_when_it_ends() -> None:
    said = follow(
        Step("RUNNING", {"Trainer": "PENDING"}),
        Step("RUNNING", {"Trainer": "RUNNING"}),
        Step("RUNNING", {"Trainer": "RUNNING"}),
        Step("SUCCEEDED", {"Trainer": "SUCCEEDED"}, seconds=7384),
    )

    assert said == ["      Trainer …", "[1/3] Trainer 2 h 3 min"]


@pytest.mark.parametrize(
    ("state", "errors", "line"),
    [
        ("SUCCEEDED", {}, "[1/3] Trainer 1 min 5 s"),
        ("SKIPPED", {}, "[1/3] Trainer skipped"),
        ("CANCELED", {}, "[1/3] Trainer cancelled"),
        ("FAILED", {}, "[1/3] Trainer failed"),
        ("FAILED", {"Trainer": "exit code 1\n(OOMKilled)"}, "[1/3] Trainer failed: exit code 1 (OOMKilled)"),
    ],
)
def test_how_a_stage_ended_is_told(state: str, errors: dict[str, str], line: str) -> None:
    assert follow(Step("FAILED", {"Trainer": state}, task_errors=errors)) == [line]


def test_stages_side_by_side_are_told_each(pauses: list[float]) -> None:
    both = {"Trainer": "RUNNING", "Evaluator": "RUNNING"}
    said = follow(Step("RUNNING", both), Step("SUCCEEDED", dict.fromkeys(both, "SUCCEEDED"), seconds=60))

    assert said == ["      Trainer …", "      Evaluator …", "[1/3] Trainer 1 min", "[2/3] Evaluator 1 min"]


def test_it_asks_less_often_the_longer_it_takes(pauses: list[float]) -> None:
    follow(*[Step("RUNNING")] * 200, Step("SUCCEEDED"))

    assert pauses[0] == 2 and pauses[-1] == 30
    assert pauses == sorted(pauses)


def test_an_outage_is_told_once_and_its_end_too() -> None:
    away = ConnectionProblem("HOST cannot be reached", may_pass=True)

    said = follow(away, away, away, Step("RUNNING"), away, Step("SUCCEEDED"))

    assert said == ["HOST cannot be reached; trying again for up to 10 min", "It answers again"] * 2


def test_patience_with_an_outage_ends(pauses: list[float]) -> None:
    with pytest.raises(ConnectionProblem, match="HOST cannot be reached"):
        follow(Step("RUNNING"), ConnectionProblem("HOST cannot be reached", may_pass=True))

    assert PACE.patience < sum(pauses) < PACE.patience + 2 * PACE.longest


def test_a_refusal_is_not_waited_out(pauses: list[float]) -> None:
    with pytest.raises(ConnectionProblem, match="not allowed"):
        follow(ConnectionProblem("not allowed"))

    assert pauses == []


def test_who_was_never_known_is_not_waited_for_and_whose_token_expires_is(pauses: list[float]) -> None:
    unknown = Unauthenticated("HOST does not know who asks", may_pass=True)

    with pytest.raises(Unauthenticated):
        follow(unknown, Step("SUCCEEDED"))
    assert pauses == []

    assert follow(Step("RUNNING"), unknown, Step("SUCCEEDED"))[1] == "It answers again"


def test_the_timeout_is_kept_to_the_second(pauses: list[float]) -> None:
    with pytest.raises(WaitedTooLong, match="not at its end after 1 min 15 s"):
        follow(Step("RUNNING"), timeout=75)

    assert sum(pauses) == pytest.approx(75)


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (Step("SUCCEEDED", {"model-pushed": "SUCCEEDED"}), Outcome.PUSHED),
        (Step("SUCCEEDED", {"model-pushed": "SKIPPED"}), Outcome.REJECTED),
        (Step("SUCCEEDED", {}), Outcome.FAILED),
        (Step("FAILED", {"model-pushed": "SKIPPED"}), Outcome.FAILED),
        (Step("CANCELED", {"model-pushed": "SKIPPED"}), Outcome.CANCELED),
    ],
)
def test_the_last_tasks_state_is_the_verdict(step: Step, outcome: Outcome) -> None:
    assert waiting.verdict(run_at(step)) is outcome


@pytest.mark.parametrize(
    ("tasks", "pushed"),
    [
        ({"Pusher": "SUCCEEDED", "model-pushed": "SUCCEEDED"}, True),
        ({"Pusher": "SUCCEEDED", "model-pushed": "SKIPPED"}, False),
        ({"Pusher": "RUNTIME_STATE_UNSPECIFIED", "model-pushed": "RUNTIME_STATE_UNSPECIFIED"}, False),
        ({}, False),
        ({"Pusher": "SUCCEEDED", "model-pushed": "RUNTIME_STATE_UNSPECIFIED"}, None),
        ({"Pusher": "SUCCEEDED", "model-pushed-driver": "FAILED", "model-pushed": "SKIPPED"}, None),
    ],
)
def test_nothing_counts_as_pushed_or_not_that_only_the_pusher_knows(
    tasks: dict[str, str], pushed: bool | None
) -> None:
    assert waiting.has_pushed(run_at(Step("FAILED", tasks))) is pushed


def test_a_run_without_a_verdict_says_so() -> None:
    assert waiting.failures(run_at(Step("SUCCEEDED")), STAGES) == {
        "root": "the run ended without a state of model-pushed, its verdict"
    }
