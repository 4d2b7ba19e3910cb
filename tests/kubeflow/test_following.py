"""Following a run to its verdict, as a person meets it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import fake_kfp
import pytest
from command import PUSHED, REFUSED, STAGES, Command, fake_backend, in_this_process, submission
from fake_kfp import FakeKfp, Step

_REPOSITORY = Path(__file__).resolve().parents[2]


DONE = {"ImageMaskExampleGen": "SUCCEEDED"}

fake, command = fake_backend, in_this_process


def test_a_pushed_model_ends_with_0(command: Command, fake: FakeKfp) -> None:
    fake.script = [
        Step("PENDING"),
        Step("RUNNING", {"ImageMaskExampleGen": "RUNNING"}),
        Step("RUNNING", {"ImageMaskExampleGen": "SUCCEEDED", "Trainer": "RUNNING"}),
        PUSHED,
    ]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 0
    lines = finished.out.splitlines()
    begun = lines.index("      ImageMaskExampleGen …")
    assert lines[begun + 1 : begun + 3] == ["[1/5] ImageMaskExampleGen 1 min 5 s", "      Trainer …"]
    assert "[5/5] model-pushed 1 min 5 s" in lines
    assert any(line.startswith("Pushed") for line in lines)
    told = lines[: lines.index("Pushed: the model is in the serving directory")]
    assert not any("driver" in line or "executor" in line for line in told)


def test_the_version_that_was_pushed_is_told(command: Command, fake: FakeKfp) -> None:
    fake.script = [PUSHED]
    fake.logs = {
        "model-pushed": "I0301 launcher\npushed: version 7 is served from /serving/pets/7\nI0301 done\n"
    }

    finished = command(*submission(fake, "--wait"))

    assert "  model-pushed: version 7 is served from /serving/pets/7" in finished.out.splitlines()


def test_what_a_backend_without_tasks_does_not_tell_is_not_called_a_failure(
    command: Command, fake: FakeKfp
) -> None:
    fake.script, fake.tells_of_tasks = [PUSHED], False

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 2
    assert "The run succeeded; whether a model was pushed is unknown" in finished.out


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Step("FAILED", error="invalid spec"), "the run failed ({}): invalid spec"),
        (Step("CANCELED"), "Cancelled ({})"),
    ],
)
def test_a_run_that_ended_before_it_began_is_not_said_to_have_logs(
    command: Command, fake: FakeKfp, step: Step, said: str
) -> None:
    """Without tasks are one that Argo refuses, one that is cancelled while it waits, and each of 3.0."""
    fake.script, fake.tells_of_tasks = [step], False

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 1
    assert said.format("no stage has begun, or this Kubeflow tells of none") in finished.out.splitlines()
    assert "The user interface shows what has begun" in finished.out
    assert "Pusher" not in finished.out and "kubectl" not in finished.out


def test_a_refused_model_ends_with_3(command: Command, fake: FakeKfp) -> None:
    fake.script = [REFUSED]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 3
    assert "model-pushed skipped" in finished.out and "Refused, nothing was pushed" in finished.out
    assert "The reasons are on the Report stage's page" in finished.out


def test_the_reasons_of_a_refusal_are_told_without_the_rest_of_the_log(
    command: Command, fake: FakeKfp
) -> None:
    fake.script = [REFUSED]
    stage = "2026-03-01 12:00:05,123 INFO components.evaluator.component:"
    checks = [f"{stage} passed  no class is lost", f"{stage} FAILED  mean IoU 0.1 is below 0.3 – é"]
    fake.logs = {"Evaluator": "\n".join(["I0301 launcher_v2.go:151] begins"] * 400 + checks)}

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 3
    lines = finished.out.splitlines()
    assert (
        lines[lines.index("Refused, nothing was pushed") + 1] == "  Evaluator: mean IoU 0.1 is below 0.3 – é"
        and "Report stage" not in finished.out
    )
    assert "launcher" not in finished.out and "no class is lost" not in finished.out


@pytest.mark.parametrize(("step", "asked"), [(REFUSED, "Evaluator|ServingCheck"), (PUSHED, "model-pushed")])
def test_where_several_users_get_no_logs_that_is_said_and_the_way_to_the_pods(
    command: Command, fake: FakeKfp, step: Step, asked: str
) -> None:
    fake.script, fake.multi_user = [step], True
    fake.logs = {"Evaluator": "FAILED  mean IoU 0.1 is below 0.3", "model-pushed": "pushed: version 7"}

    finished = command(*submission(fake, "--wait", "--namespace", "team"))

    no_logs, *_, command_line = finished.out.splitlines()[-3:]
    assert "hands out no logs; where it serves several users" in no_logs
    assert "the cache answered" not in finished.out
    assert ("Report stage" in finished.out) == (step is REFUSED)
    assert command_line.startswith("  kubectl -n team get pods ") and f"({asked})" in command_line


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            Step("FAILED", {**DONE, "Trainer": "FAILED"}, task_errors={"Trainer": "no\n  memory"}),
            "Trainer failed: no memory",
        ),
        (Step("FAILED", {**DONE, "Trainer": "FAILED"}), "Trainer failed"),
        (
            Step("FAILED", {**DONE, "Trainer": "FAILED"}),
            "  Trainer: the images are too small; give larger ones",
        ),
        (Step("FAILED", {**DONE, "Trainer-driver": "FAILED"}), "Trainer failed before it began"),
        (Step("FAILED", DONE, error="no quota"), "the run failed outside its stages: no quota"),
    ],
    ids=["reason", "no reason", "log", "driver", "outside"],
)
def test_a_failed_stage_ends_with_1_and_shows_the_way_to_its_log(
    command: Command, fake: FakeKfp, step: Step, line: str
) -> None:
    fake.script = [step]
    fake.logs = {
        "Trainer": "Epoch 1\nfailed: the images are too small; give larger ones\nF0301 exit status 1\n"
    }

    finished = command(*submission(fake, "--wait", "--namespace", "ml"))

    assert finished.code == 1
    assert line in finished.out.splitlines()
    command_line = finished.out.splitlines()[-1]
    assert command_line.startswith("  kubectl -n ml get pods -l pipeline/runid=run-1 ")
    assert ("(root)" if "outside" in line else "(Trainer)") in command_line


def test_a_run_that_was_cancelled_ends_with_1(command: Command, fake: FakeKfp) -> None:
    # The workflow of a run that was cancelled ends as failed.
    fake.script = [Step("RUNNING"), Step("CANCELING"), Step("FAILED", {"Trainer": "FAILED"})]

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 1
    assert "Cancelled" in finished.out


@pytest.mark.parametrize("ended", ["CANCELED", "FAILED"])
@pytest.mark.parametrize(
    ("tasks", "said", "asked"),
    [
        ({}, "had been pushed", "model-pushed"),
        ({"model-pushed": "CANCELED"}, "a model was pushed is in the Pusher's log", "Pusher"),
        ({"Pusher": "CANCELED", "model-pushed": "SKIPPED"}, "was pushed is in the Pusher's log", "Pusher"),
        ({"model-pushed": "SKIPPED"}, "", ""),
    ],
)
def test_what_became_of_the_model_is_said_of_a_run_that_ended_later(
    command: Command, fake: FakeKfp, ended: str, tasks: dict[str, str], said: str, asked: str
) -> None:
    after = {**PUSHED.tasks, "Trainer": ended, **tasks}
    fake.script = [Step("CANCELING" if ended == "CANCELED" else "RUNNING"), Step("FAILED", after)]
    fake.logs = {"model-pushed": "pushed: version 7 is served from /serving/pets/7"}

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 1
    assert said in finished.out
    assert ("nothing was pushed" in finished.out) == (ended == "CANCELED" and not said)
    assert ("  model-pushed: version 7" in finished.out) == (asked == "model-pushed")
    assert not asked or asked in finished.out.splitlines()[-1]


def test_a_backend_that_is_away_for_a_while_is_waited_for(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING"), Step("RUNNING"), PUSHED]
    fake.at_first_fetch = lambda: fake.troubles.extend([503, 429, 401])

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 0
    assert "trying again" in finished.out and "It answers again" in finished.out


def test_a_backend_that_stays_away_ends_the_waiting_with_2(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING")]
    fake.at_first_fetch = fake.stop

    finished = command(*submission(fake, "--wait"))
    fake.start()

    assert finished.code == 2
    assert "cannot be reached" in finished.err
    assert "the run goes on, this follows it again:\n" in finished.err
    assert finished.err.endswith(f"  python -m pipeline.run_kubeflow wait run-1 --host {fake.host}\n")


def test_waiting_ends_with_its_timeout_and_the_run_goes_on(command: Command, fake: FakeKfp) -> None:
    fake.script = [Step("RUNNING")]

    finished = command(*submission(fake, "--wait", "--timeout", "0.1"))

    assert finished.code == 130
    assert "the run goes on" in finished.err and "wait run-1" in finished.err


def test_wait_follows_a_run_that_was_started_before(command: Command, fake: FakeKfp) -> None:
    fake.script = [REFUSED]
    assert command(*submission(fake)).code == 0

    finished = command("wait", "run-1", "--host", fake.host)

    assert finished.code == 3
    assert "[5/5] " in finished.out


def test_waiting_for_a_run_that_is_not_there_is_one_line(command: Command, fake: FakeKfp) -> None:
    finished = command("wait", "run-7", "--host", fake.host)

    assert finished.code == 2
    assert finished.err == f"{fake.host} does not have it (404 Not Found): Not Found\n"


def test_a_run_of_another_project_is_not_judged(command: Command, fake: FakeKfp) -> None:
    assert command(*submission(fake)).code == 0
    spec = fake.versions["version-1"].pipeline_spec["pipeline_spec"]
    del spec["root"]["dag"]["tasks"]["model-pushed"]
    fake.script = [PUSHED]

    finished = command("wait", "run-1", "--host", fake.host)

    assert finished.code == 2
    assert "model-pushed" in finished.err


def test_waiting_without_credentials_ends_at_once(command: Command, fake: FakeKfp) -> None:
    # The state of health is told to everybody.
    fake.troubles = [None, 401]

    finished = command("wait", "run-1", "--host", fake.host)

    assert finished.code == 2 and "trying again" not in finished.out
    assert "does not know who asks (401 Unauthorized); give --token-file or --cookies-file" in finished.err


def test_what_the_backend_refuses_while_waiting_says_that_the_run_goes_on(
    command: Command, fake: FakeKfp
) -> None:
    fake.script = [Step("RUNNING")]
    fake.at_first_fetch = lambda: fake.troubles.extend([None, 403])

    finished = command(*submission(fake, "--wait"))

    assert finished.code == 2
    assert "does not allow this" in finished.err and "the run goes on" in finished.err


def test_an_interrupt_while_waiting_says_how_to_go_on_waiting(fake: FakeKfp, tmp_path: Path) -> None:
    fake.script = [Step("RUNNING", {"Trainer": "RUNNING"})]
    fake.versions["version-1"] = _version()
    fake.runs["run-1"] = _run()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.run_kubeflow", "wait", "run-1", "--host", fake.host],
        cwd=_REPOSITORY,
        env=os.environ | {"HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "run-1" in process.stdout.readline()
        assert "Trainer …" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()

    assert process.returncode == 130
    assert err.startswith("interrupted; the run goes on") and f"wait run-1 --host {fake.host}" in err


def _version() -> fake_kfp.api.V2beta1PipelineVersion:
    spec = {"root": {"dag": {"tasks": {name: {"taskInfo": {"name": name}} for name in STAGES}}}}
    return fake_kfp.api.V2beta1PipelineVersion(pipeline_spec=spec)


def _run() -> fake_kfp.api.V2beta1Run:
    reference = fake_kfp.api.V2beta1PipelineVersionReference(
        pipeline_id="pipeline-1", pipeline_version_id="version-1"
    )
    return fake_kfp.api.V2beta1Run(run_id="run-1", pipeline_version_reference=reference)
